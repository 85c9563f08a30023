"""Lower bounds on epsilon beside what is guaranteed: DP-SGD, a Gaussian mechanism in closed form, and broken DP-SGD.

The last line is one JSON object.
"""

import json
import time
import warnings

import numpy as np
import torch
from scipy.stats import norm
from sklearn.datasets import load_digits

from seepage.attacks.membership.signals import log_confidence
from seepage.core.records import Records
from seepage.data.canaries import canaries_of
from seepage.models import nets
from seepage.models.accounting import gaussian_epsilon, gaussian_multiplier
from seepage.models.gradient_canaries import LENGTH, WithCanaries, losses, with_entries
from seepage.models.private import PerRecord
from seepage.models.private_training import multiplier_for, train_privately
from seepage.scoring.epsilon import Runs, many_runs_gaussian, one_run, one_run_gaussian, split, verdict

DELTA = 1e-5
EPSILONS, RUNS = (1.0, 4.0, 8.0), 50
GRADIENTS, MISLABELLED = 1000, 300
SAMPLED, STEPS, RATE, CLIP = 0.2, 100, 1.0, 1.0
# Canaries of the Gaussian mechanism, and how often each is tried.
MECHANISM, CANARIES, REPEATS = 1.0, (1000, 2000, 4000), 10
BROKEN_RUNS, CLAIM = 10, 4.0
BOUNDS = {"any": one_run, "gaussian": one_run_gaussian}


def digits() -> tuple[Records, Records]:
    found = load_digits()
    x = (found.images[:, None] / 16).astype(np.float32)
    y = found.target.astype(np.int64)
    order = np.random.default_rng(0).permutation(len(x))
    whole = Records(x[order], y[order], tuple(map(str, range(10))))
    return whole[:1400], whole[1400:]


class Run:
    """One training with canaries of both kinds, and what an adversary of each kind scores them."""

    def __init__(self, records: Records, held_out: Records, seed: int, train, noise: float):
        canaries, rest = canaries_of(records, "mislabelled", MISLABELLED, seed)
        self.included = np.random.default_rng(seed).random(GRADIENTS) < 0.5
        self.shown = canaries.included
        together = rest.joined(canaries.inserted)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = WithCanaries(nets.softmax_regression((1, 8, 8), 10), GRADIENTS, LENGTH * CLIP)
        x, y, which = with_entries(torch.from_numpy(together.x), torch.from_numpy(together.labels()), self.included)
        net = train(net, x, y, which, seed, noise)
        with torch.no_grad():
            self.white = net.gradient_canaries.weight[0].double().numpy()
            answers = torch.softmax(net(torch.from_numpy(canaries.records.x)), 1).double().numpy()
            self.right = float((net(torch.from_numpy(held_out.x)).argmax(1).numpy() == held_out.labels()).mean())
        self.black = log_confidence(answers, canaries.records)

    def bounds(self, seed: int) -> dict[str, float]:
        rng = np.random.default_rng(seed)
        both = {"white": (self.white, self.included), "black": (self.black, self.shown)}
        return {
            f"{who}_{family}": split(*seen, DELTA, bound, rng)[0]
            for who, seen in both.items()
            for family, bound in BOUNDS.items()
        }


def private(net, x, y, which, seed, noise):
    """DP-SGD as the built-in recipes carry it out."""
    return train_privately(
        net,
        x,
        y,
        seed,
        private=PerRecord(CLIP, noise),
        sampled=SAMPLED,
        steps=STEPS,
        rate=RATE,
        which=which,
        strength=LENGTH * CLIP,
    )


def forgotten(net, x, y, which, seed, noise):
    """The same without its noise."""
    return private(net, x, y, which, seed, 0.0)


def per_batch(net, x, y, which, seed, noise):
    """DP-SGD with a planted bug: the gradient of the batch is clipped as a whole, not record by record."""
    draws, expected = torch.Generator().manual_seed(seed), SAMPLED * len(x)
    for _ in range(STEPS):
        rows = torch.nonzero(torch.rand(len(x), generator=draws) < SAMPLED)[:, 0]
        net.zero_grad()
        loss = losses(net(x[rows], which[rows]), y[rows], which[rows], LENGTH * CLIP)
        (loss.sum() / expected).backward()
        norms = torch.sqrt(sum(weight.grad.square().sum() for weight in net.parameters()))
        with torch.no_grad():
            for weight in net.parameters():
                clipped = weight.grad * (CLIP / (norms + 1e-6)).clamp(max=1.0)
                weight -= RATE * (clipped + noise * CLIP / expected * torch.randn(weight.shape, generator=draws))
    return net.eval()


def gaussian_holds(epsilon: float, noise: float) -> tuple[float, bool]:
    """The tightest accountant's epsilon at `DELTA`, and whether the training is no more telling than a Gaussian one.

    The curve of (epsilon, delta) by Opacus's PRV accountant against that of the Gaussian mechanism of the same claim.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from opacus.accountants import PRVAccountant

        accountant = PRVAccountant()
        accountant.history = [(noise, SAMPLED, STEPS)]
        deltas = (1e-5, 1e-4, 1e-3, 1e-2, 5e-2, 0.1)
        theirs = [float(accountant.get_epsilon(delta=d)) for d in deltas]
    multiplier = gaussian_multiplier(epsilon, DELTA)
    ours = [gaussian_epsilon(multiplier, d) or 0.0 for d in deltas]
    return theirs[0], all(a <= b + 0.02 for a, b in zip(theirs, ours, strict=True))


def dp_sgd(records: Records, held_out: Records) -> dict[str, object]:
    result: dict[str, object] = {}
    runs = exceeded = 0
    for epsilon in EPSILONS:
        noise = multiplier_for(epsilon, DELTA, SAMPLED, STEPS)
        tight, holds = gaussian_holds(epsilon, noise)
        found, right = list[dict[str, float]](), list[float]()
        for seed in range(RUNS):
            run = Run(records, held_out, 1000 * int(epsilon) + seed, private, noise)
            found.append(run.bounds(seed))
            right.append(run.right)
        above = sum(max(one.values()) > epsilon for one in found)
        runs, exceeded = runs + RUNS, exceeded + above
        row = {"runs": RUNS, "exceeded": above, "noise": round(noise, 3), "accuracy": round(float(np.mean(right)), 3)}
        row |= {"tightest_epsilon": round(tight, 3), "gaussian_holds": holds}
        for name in found[0]:
            values = np.array([one[name] for one in found])
            row[name] = {"median": round(float(np.median(values)), 3), "greatest": round(float(values.max()), 3)}
        result[f"epsilon_{epsilon:g}"] = row
        print(f"DP-SGD of epsilon {epsilon:g}: {row}", flush=True)
    return {"runs": runs, "exceeded": exceeded, **result}


def closed_form() -> dict[str, object]:
    """The strongest canaries: each seen by itself, in the noise of the mechanism and nothing else."""
    truth = gaussian_epsilon(1 / MECHANISM, DELTA) or 0.0
    rng, result = np.random.default_rng(20261128), dict[str, object]()
    for m in CANARIES:
        bounds = list[float]()
        for _ in range(REPEATS):
            included = rng.random(m) < 0.5
            bounds.append(split(rng.normal(size=m) + MECHANISM * included, included, DELTA, one_run_gaussian, rng)[0])
        middle = float(np.median(bounds))
        row = {"epsilon": round(truth, 3), "bound": round(middle, 3), "share": round(middle / truth, 3)}
        result["gaussian"] = row
        result[f"gaussian_{m}"] = row | {"greatest": round(max(bounds), 3)}
        print(f"Gaussian mechanism, {m} canaries: {result[f'gaussian_{m}']}", flush=True)
    many = [
        many_runs_gaussian(
            Runs(
                int(rng.binomial(1000, norm.sf(-MECHANISM / 2))),
                1000,
                int(rng.binomial(1000, norm.sf(MECHANISM / 2))),
                1000,
            ),
            DELTA,
        )
        for _ in range(200)
    ]
    middle = float(np.median(many))
    result["gaussian_many_runs"] = {
        "epsilon": round(truth, 3),
        "bound": round(middle, 3),
        "share": round(middle / truth, 3),
        "above": float(np.mean(np.array(many) > truth)),
    }
    print(f"Gaussian mechanism, 2,000 runs of one canary: {result['gaussian_many_runs']}", flush=True)
    return result


def broken(records: Records, held_out: Records) -> dict[str, object]:
    """How often a claim is called violated: of training as claimed, and of training with a bug."""
    noise, result = multiplier_for(CLAIM, DELTA, SAMPLED, STEPS), dict[str, object]()
    for name, train in (("sound", private), ("noise_forgotten", forgotten), ("clipped_per_batch", per_batch)):
        called = dict.fromkeys(("white_any", "white_gaussian", "black_any", "black_gaussian"), 0)
        for seed in range(BROKEN_RUNS):
            run = Run(records, held_out, 77_000 + seed, train, noise)
            for key, found in run.bounds(seed).items():
                who, family = key.split("_")
                guessed = (GRADIENTS if who == "white" else MISLABELLED) // 2
                called[key] += verdict(CLAIM, found, guessed, DELTA, BOUNDS[family]).standing == "violated"
        result[name] = {"runs": BROKEN_RUNS, "violated": called}
        print(f"{name}, claimed epsilon {CLAIM:g}: violated {called} of {BROKEN_RUNS}", flush=True)
    return result


def main() -> None:
    torch.set_num_threads(1)
    began = time.process_time()
    records, held_out = digits()
    result = {**dp_sgd(records, held_out), **closed_form(), "broken": broken(records, held_out)}
    result["cpu_seconds"] = round(time.process_time() - began)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
