"""Defects of breaching 0.1.2, each shown by running it: what was expected, what came. Writes them to the file named.

Run by gradient-dlg/defects.py in a process that has breaching; given pictures and weights come from there.
"""

import copy
import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gradient_breaching import buffers_of, gradients, messages, opened
from gradient_nets import convnet, lenet
from torch import nn

breaching = opened()

CLASSES = 10
SETUP = {"dtype": torch.float32, "device": torch.device("cpu")}
LOSS = nn.CrossEntropyLoss()
Shown = dict[str, Any]


def refused(call: Callable[[], Any]) -> str:
    """What a call raises, or that it raises nothing."""
    try:
        call()
    except Exception as error:  # noqa: BLE001 whatever it is, it is what is asked for
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return "nothing"


def attacker(net: nn.Module, name: str, *overrides: str, **changes: Any) -> Any:
    """The attack called `name`; `changes` of regularisers, which its overrides do not reach where there are none."""
    config = breaching.get_attack_config(name, overrides=list(overrides))
    if changes:
        from omegaconf import OmegaConf, open_dict

        with open_dict(config):
            config.regularization = OmegaConf.create(changes)
    return breaching.attacks.prepare_attack(net, LOSS, config, SETUP)


class Defects:
    """Every method shows one; `x` are eight pictures in [0, 1], `net` the LeNet of Zhu et al. with weights given."""

    def __init__(self, x: np.ndarray, weights: list[np.ndarray]):
        self.x = torch.from_numpy(x)
        self.net = lenet(CLASSES)
        with torch.no_grad():
            for own, weight in zip(self.net.parameters(), weights, strict=True):
                own.copy_(torch.from_numpy(weight))

    def asked(self, y: list[int], told: bool = True, net: nn.Module | None = None) -> Any:
        """Payloads and shared data of one gradient over the first pictures, of the classes `y`."""
        net, labels = net or self.net, torch.tensor(y)
        x = self.x[: len(y)]
        return messages(net, gradients(net, x, labels), tuple(x.shape[1:]), len(y), labels if told else None, CLASSES)

    def readme_call(self) -> Shown:
        net = attacker(self.net, "invertinggradients", "optim.max_iterations=1")
        return {
            "what": "the call of its README, attacker.reconstruct(payloads, shared), does not run",
            "where": "attacks/optimization_based_attack.py:82",
            "expected": "a reconstruction",
            "came": refused(lambda: net.reconstruct(*self.asked([0]))),
        }

    def dlg_labels(self) -> Shown:
        """Labels that it optimised, beside those that it returns and scores by."""
        ended, said, losses, scores = [], [], [], []
        for k in range(2):
            payloads, shared = messages(
                self.net,
                gradients(self.net, self.x[k : k + 1], torch.tensor([k + 3])),
                (3, 32, 32),
                1,
                None,
                CLASSES,
            )
            torch.manual_seed(k)
            run = attacker(self.net, "deepleakage", "impl.dtype=double", "optim.max_iterations=60")
            inner = run._run_trial

            def kept(*given: Any, inner: Any = inner) -> Any:
                found = inner(*given)
                ended.append(int(found[1].argmax()))
                return found

            run._run_trial = kept
            found, stats = run.reconstruct(payloads, shared, {})
            said.append(int(found["labels"]))
            losses.append(min(stats["Trial_0_Val"]))
            scores.append(stats["opt_value"])
        return {
            "what": "DLG returns the random label template it started from, and scores restarts by it",
            "where": "attacks/optimization_with_label_attack.py:67-69",
            "expected": f"the classes it optimised, {ended}, and scores like its least losses, "
            f"{', '.join(f'{v:.2g}' for v in losses)}",
            "came": f"{said}, and scores {', '.join(f'{v:.3g}' for v in scores)}; true are [3, 4]",
        }

    def dlg_regularised(self) -> Shown:
        run = attacker(self.net, "deepleakage", "optim.max_iterations=1", norm={"scale": 0.1, "pnorm": 2.0})
        return {
            "what": "joint attacks (DLG, TAG) take no regulariser",
            "where": "attacks/optimization_with_label_attack.py:94",
            "expected": "a reconstruction",
            "came": refused(lambda: run.reconstruct(*self.asked([0], told=False), {})),
        }

    def wainakh_simple(self) -> Shown:
        run = attacker(self.net, "invertinggradients", "label_strategy=wainakh-simple", "optim.max_iterations=1")
        truth = [0, 0, 1, 1, 2, 2, 3, 3]
        _, found, _ = run.prepare_attack(*self.asked(truth, told=False))
        return {
            "what": "classes by `wainakh-simple`: the impact of a label found is taken from another class",
            "where": "attacks/base_attack.py:402-405",
            "expected": f"{truth}, or near it",
            "came": f"{found.tolist()}",
        }

    def wainakh_few(self) -> Shown:
        """On a linear model of prepared pictures, whose inputs are not positive; each picture by itself."""
        torch.manual_seed(0)
        net, came = nn.Sequential(nn.Flatten(), nn.Linear(3072, CLASSES)), list[str]()
        for x in (self.x - 0.5) / 0.25:
            payloads, shared = messages(net, gradients(net, x[None], torch.tensor([3])), (3, 32, 32), 1, None, CLASSES)
            run = attacker(net, "invertinggradients", "label_strategy=wainakh-simple", "optim.max_iterations=1")
            came.append(refused(lambda: run.reconstruct(payloads, shared, {})))  # noqa: B023 called at once
        raised = [said for said in came if said != "nothing"]
        return {
            "what": "`wainakh-simple` names more labels than there are records, which the loss then refuses",
            "where": "attacks/base_attack.py:396-399",
            "expected": "one label for each of 8 single pictures",
            "came": f"{len(raised)} of 8 raise: {raised[0] if raised else ''}",
        }

    def wainakh_whitebox(self) -> Shown:
        run = attacker(self.net, "invertinggradients", "label_strategy=wainakh-whitebox", "optim.max_iterations=1")
        return {
            "what": "classes by `wainakh-whitebox`: made-up labels are floating point numbers",
            "where": "attacks/base_attack.py:370",
            "expected": "one label",
            "came": refused(lambda: run.prepare_attack(*self.asked([0, 1], told=False))),
        }

    def restart_by_tv(self) -> Shown:
        run = attacker(self.net, "invertinggradients", "optim.max_iterations=1", "restarts.scoring=TV")
        return {
            "what": "restarts cannot be scored by total variation",
            "where": "attacks/optimization_based_attack.py:201",
            "expected": "a reconstruction",
            "came": refused(lambda: run.reconstruct(*self.asked([0]), {})),
        }

    def kept_candidate(self) -> Shown:
        torch.manual_seed(0)
        run = attacker(
            self.net, "invertinggradients", "optim.max_iterations=1", "optim.step_size=100", "optim.boxed=False"
        )
        run.regularizers = []
        _, stats = run.reconstruct(*self.asked([0]), {})
        return {
            "what": "the candidate kept as best is the one a step after the one that was measured",
            "where": "attacks/optimization_based_attack.py:112-121",
            "expected": f"the least loss seen, {stats['Trial_0_Val'][0]:.3f}",
            "came": f"a candidate of loss {stats['opt_value']:.3f}",
        }

    def callers_gradients(self) -> Shown:
        payloads, shared = self.asked([0])
        run = attacker(self.net, "invertinggradients", "impl.dtype=double", "optim.max_iterations=1")
        before = shared[0]["gradients"][0].dtype
        run.reconstruct(payloads, shared, {})
        return {
            "what": "an attack changes the data that it was given: the caller's gradients are cast",
            "where": "attacks/base_attack.py:47, 217",
            "expected": str(before),
            "came": str(shared[0]["gradients"][0].dtype),
        }

    def batch_norm(self) -> Shown:
        """The loss at the truth itself, in each setting of figure 4: nothing should be left to match."""
        torch.manual_seed(0)
        net, y = convnet(CLASSES), torch.arange(4)
        x, found = self.x[:4], {}
        for statistics in ("public", "shared", "unknown"):
            client = copy.deepcopy(net).train(statistics != "public")
            payloads, shared = messages(
                net,
                gradients(client, x, y),
                (3, 32, 32),
                4,
                y,
                CLASSES,
                shared=buffers_of(net, x) if statistics == "shared" else None,
                public=statistics == "public",
            )
            run = attacker(net, "invertinggradients", "optim.max_iterations=1")
            run.regularizers = []
            _, stats = run.reconstruct(payloads, shared, {}, initial_data=x)
            found[statistics] = stats["Trial_0_Val"][0]
        return {
            "what": 'a client that sends its statistics computed in "train" mode is simulated in "eval" mode: the true '
            "records do not match their own update",
            "where": "attacks/base_attack.py:181-184",
            "expected": f"a loss of 0 at the truth, as with statistics kept back ({abs(found['unknown']):.4f}) and in "
            f'"eval" mode ({abs(found["public"]):.4f})',
            "came": f"{found['shared']:.4f} with statistics sent along",
        }

    def even_variation(self) -> Shown:
        from breaching.attacks.auxiliaries.regularizers import TotalVariation

        tv = TotalVariation(SETUP, scale=1.0)
        return {
            "what": "total variation is taken of a picture with a black rim, that is zero in prepared values",
            "where": "attacks/auxiliaries/regularizers.py:142-144",
            "expected": "0 of a picture that is even (all values 1)",
            "came": f"{float(tv(torch.ones(1, 3, 32, 32))):.4f}",
        }

    def grey_variation(self) -> Shown:
        from breaching.attacks.auxiliaries.regularizers import TotalVariation

        tv = TotalVariation(SETUP, scale=1.0)
        return {
            "what": "total variation is of three channels alone",
            "where": "attacks/auxiliaries/regularizers.py:122-123",
            "expected": "a number for a grey picture",
            "came": refused(lambda: tv(torch.ones(1, 1, 28, 28))),
        }

    def orthogonality(self) -> Shown:
        from breaching.attacks.auxiliaries.regularizers import OrthogonalityRegularization

        few, many = (OrthogonalityRegularization(SETUP, scale=s)(self.x[:4]) for s in (0.1, 1.0))
        return {
            "what": "the weight of the orthogonality regulariser is ignored",
            "where": "attacks/auxiliaries/regularizers.py:178",
            "expected": "a tenth of the value at a tenth of the weight",
            "came": f"{float(few):.4f} at 0.1, {float(many):.4f} at 1",
        }

    def expected_amount(self) -> Shown:
        from breaching.analysis.imprint_guarantee import expected_amount

        rng, said, drawn = np.random.default_rng(0), [], []
        sizes = ((8, 64), (32, 128), (64, 256))
        for batch, bins in sizes:
            said.append(expected_amount(bins, batch))
            counts = [np.bincount(rng.integers(bins, size=batch), minlength=bins) for _ in range(2000)]
            drawn.append(np.mean([(c == 1).sum() for c in counts]))
        closed = [b * (1 - 1 / k) ** (b - 1) for b, k in sizes]
        shown = [", ".join(f"{v:.1f}" for v in some) for some in (closed, drawn, said)]
        return {
            "what": "how many records an imprint gives back is counted over configurations, not over records",
            "where": "analysis/imprint_guarantee.py:4-18",
            "expected": f"b (1 - 1/k)^(b - 1) = {shown[0]} for (b, k) = (8, 64), (32, 128), (64, 256); "
            f"2,000 draws: {shown[1]}",
            "came": shown[2],
        }

    def trap_weights(self) -> Shown:
        """Of eight pictures, those that some row of 256 is moved by alone; and what the paper's weights would give."""
        from breaching.cases.malicious_modifications.imprint import CuriousAbandonHonesty

        torch.manual_seed(0)
        block = CuriousAbandonHonesty((3, 32, 32), 256, sigma=0.5, scale_factor=0.95)
        weight = block.linear0.weight.detach()
        seen = {}
        for name, rows in (("came", weight), ("paper", self.trapped(weight))):
            on = (self.x.flatten(1) @ rows.T > 0).float()
            alone = int((on[:, on.sum(0) == 1].sum(1) > 0).sum())
            seen[name] = f"{on.mean():.0%} of (row, picture) pairs active, {alone} of 8 pictures alone on some row"
        return {
            "what": "trap weights without their trap: the negative half of a row is drawn with either sign",
            "where": "cases/malicious_modifications/imprint.py:226-229",
            "expected": seen["paper"],
            "came": seen["came"],
        }

    @staticmethod
    def trapped(weight: torch.Tensor) -> torch.Tensor:
        """Rows of half negative values and half their mirror, times 0.95, in a random order (Boenisch et al. 2023)."""
        half = -(torch.randn(len(weight), weight.shape[1] // 2) * 0.5).abs()
        rows = torch.cat([half, -0.95 * half], dim=1)
        return torch.stack([row[torch.randperm(len(row))] for row in rows])

    def trap_odd(self) -> Shown:
        from breaching.cases.malicious_modifications.imprint import CuriousAbandonHonesty

        return {
            "what": "trap weights for records of an odd number of values",
            "where": "cases/malicious_modifications/imprint.py:223-232",
            "expected": "a layer for records of 1 x 5 x 5",
            "came": refused(lambda: CuriousAbandonHonesty((1, 5, 5), 16)),
        }

    def mean_psnr(self) -> Shown:
        from breaching.analysis.metrics import psnr_compute

        near = self.x[:4] + 0.1
        near[0] = self.x[0]
        return {
            "what": "the mean PSNR of a batch is infinite as soon as one record of it is exact",
            "where": "analysis/metrics.py:124-125",
            "expected": "20 dB for three of four, and one exact",
            "came": f"mean {float(psnr_compute(near, self.x[:4])[0])}",
        }

    def registered_psnr(self) -> Shown:
        """Its aligner is kornia's; in its place one that is right: pictures rolled by two pixels are rolled back."""
        stand_in = types.ModuleType("kornia.geometry")

        class Right:
            def __init__(self, *given: Any, **options: Any):
                self.warper: Any = None

            def to(self, device: Any) -> None:
                pass

            def register(self, image: torch.Tensor, reference: torch.Tensor) -> None:
                pass

            def warp_src_into_dst(self, image: torch.Tensor) -> torch.Tensor:
                return image.roll(-2, dims=-1) + 0.001

        vars(stand_in).update(ImageRegistrator=Right, HomographyWarper=object)
        sys.modules |= {"kornia": types.ModuleType("kornia"), "kornia.geometry": stand_in}
        from breaching.analysis.metrics import registered_psnr_compute

        found = [registered_psnr_compute(self.x[:n].roll(2, dims=-1), self.x[:n])[0] for n in (1, 4)]
        return {
            "what": "registered PSNR compares each aligned picture with the whole batch",
            "where": "analysis/metrics.py:161",
            "expected": f"{found[0]:.1f} dB, as for one picture (the aligner replaced by one that is right)",
            "came": f"{found[1]:.1f} dB for a batch of four, each aligned as well",
        }

    def token_lookup(self) -> Shown:
        rng = np.random.default_rng(0)
        table = rng.normal(size=(1000, 32)) * rng.uniform(0.5, 2, size=(1000, 1))
        run = attacker(self.net, "tag", "optim.max_iterations=1")
        run.embeddings = [{"weight": torch.from_numpy(table)}]
        run.cfg.token_recovery = "from-embedding"
        found = run._postprocess_text_data({"data": torch.from_numpy(table[None]), "labels": None})
        right = int((found["data"].flatten() == torch.arange(1000)).sum())
        return {
            "what": "tokens are looked up by a cosine over squared lengths: short embeddings win",
            "where": "attacks/base_attack.py:130-133",
            "expected": "1000 of 1000 embeddings that are there unchanged",
            "came": f"{right} of 1000 (lengths within a factor of four)",
        }

    def user(self, **privacy: float) -> Any:
        from breaching.cases.users import UserSingleStep
        from gradient_breaching import Told

        asked = {"gradient_noise": 0.0, "input_noise": 0.0, "distribution": "gaussian", **privacy}
        config = Told(num_data_points=4, provide_labels=True, provide_num_data_points=True, provide_buffers=False)
        config["local_diff_privacy"] = asked
        return UserSingleStep(Inputs(self.net), LOSS, types.SimpleNamespace(name="pictures"), SETUP, 0, config)

    def custom_data(self) -> Shown:
        payload = {"parameters": list(self.net.parameters()), "buffers": []}
        data = {"inputs": self.x[:4], "labels": torch.arange(4)}
        return {
            "what": "a user asked with data of one's own (`custom_data`), before any other query",
            "where": "cases/users.py:149, 226",
            "expected": "an update",
            "came": refused(lambda: self.user().compute_local_updates(payload, custom_data=dict(data))),
        }

    def noise_and_clip(self) -> Shown:
        payload = {"parameters": list(self.net.parameters()), "buffers": []}
        data = {"inputs": self.x[:4], "labels": torch.arange(4)}
        spreads, said = [], ""
        for bound in (1.0, 0.01):
            clean, noisy = (self.user(per_example_clipping=bound, gradient_noise=n) for n in (0.0, 0.1))
            for one in (clean, noisy):
                one.data_key = "inputs"
            grads = [
                one.compute_local_updates(payload, custom_data=dict(data))[0]["gradients"] for one in (clean, noisy)
            ]
            spreads.append(float(torch.cat([(a - b).flatten() for a, b in zip(*grads, strict=True)]).std()))
            said = repr(noisy)
        return {
            "what": "noise is not in units of the clipping bound, and no epsilon is stated",
            "where": "cases/users.py:75-79, 194-198",
            "expected": "noise in proportion to the bound, and the epsilon it buys",
            "came": f"standard deviation {spreads[0]:.3f} at a bound of 1, {spreads[1]:.3f} at 0.01; "
            f"'epsilon' is {'' if 'epsilon' in said.lower() else 'not '}in what it says of itself",
        }

    def several_queries(self) -> Shown:
        """Two queries of one record to a linear model, the second answer noised: the mean is computed and dropped."""
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(3072, CLASSES))
        first, second = (self.asked([0], net=net) for _ in range(2))
        second[1][0]["gradients"] = [g + 1e-3 * torch.randn_like(g) for g in second[1][0]["gradients"]]
        run = breaching.attacks.prepare_attack(net, LOSS, breaching.get_attack_config("analytic"), SETUP)

        def off(*asked: Any) -> float:
            found, _ = run.reconstruct([p for a in asked for p in a[0]], [s for a in asked for s in a[1]], {})
            return float((found["data"] - self.x[:1]).pow(2).mean().sqrt())

        return {
            "what": "of several queries the analytic attack computes the mean, and returns the last",
            "where": "attacks/analytic_attack.py:46-47",
            "expected": f"an error of about half of {off(second):.4f}, that of the noisy query alone",
            "came": f"{off(first, second):.4f} for both, the clean one first",
        }

    def uniqueness(self) -> Shown:
        from breaching.analysis.metrics import gradient_uniqueness

        payloads, _ = self.asked([0, 1])
        data = {"data": self.x[:2], "labels": torch.arange(2)}
        return {
            "what": "the metric `gradient_uniqueness` reads a form of payload that is no more",
            "where": "analysis/metrics.py:67",
            "expected": "shares of entries",
            "came": refused(lambda: gradient_uniqueness(self.net, LOSS, data, payloads, SETUP)),
        }


class Inputs(nn.Module):
    """A network called with the names that breaching's users call with."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, inputs: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        return self.net(inputs)


def main(job: Path) -> None:
    given = np.load(job / "given.npz")
    defects = Defects(given["x"], list(np.load(job / "weights.npz").values()))
    shown = {}
    for name in list(vars(Defects)):
        if name[0] != "_" and name not in ("asked", "trapped", "user"):
            shown[name] = getattr(defects, name)()
            print(name, json.dumps(shown[name], indent=1), flush=True)
    (job / "shown.json").write_text(json.dumps(shown))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
