"""Searches within a prior beside a search of pixels: faces, one and four records an update, bare and behind defenses.

With `chosen` as argument: on the people that parameters were chosen on, and nothing else.
"""

import json
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from seepage.attacks.gradient.fang2023 import GIFD
from seepage.attacks.gradient.geiping2020 import InvertingGradients
from seepage.attacks.gradient.jeon2021 import GIAS
from seepage.attacks.gradient.li2022 import LatentMatching
from seepage.attacks.gradient.li2022_ggl import GGL
from seepage.core.assumptions import Assumptions, Rung
from seepage.core.attack import GradientAttack
from seepage.core.defense import UpdateDefense
from seepage.core.knowledge import GradientKnowledge
from seepage.core.records import Records
from seepage.core.seeds import stream
from seepage.core.spec import InputSpec
from seepage.core.target import Target
from seepage.core.victim import Updates
from seepage.core.vocabulary import Access
from seepage.data import load_builtin
from seepage.defenses.updates.clip import Clip
from seepage.defenses.updates.gaussian import GaussianNoise
from seepage.defenses.updates.sign import Sign
from seepage.defenses.updates.topk import TopKUpdate
from seepage.models.client_nets import client_net
from seepage.models.federated import ClientNet, LocalTraining
from seepage.models.priors import Prior, Shelf

SPEC, CLASSES = InputSpec((1, 32, 32)), 10
PRIORS = Path(__file__).resolve().parents[2] / "runs" / "gradient-priors"
# People by number: those that are attacked, those that parameters were chosen on, those whose pictures are public.
PEOPLE = {"reported": range(10), "chosen": range(10, 20), "public": range(20, 40)}
# Records that are attacked: bare, and behind each defense.
RECORDS, BEHIND = 8, 4
LATENTS: dict[str, Any] = {"steps": 200, "restarts": 2}
# The same held closer to the middle of the prior.
HELD = "latent-matching pca, weight 0.01"
ATTACKS: Mapping[str, GradientAttack] = {
    "inverting-gradients": InvertingGradients(),
    "latent-matching pca": LatentMatching(**LATENTS),
    HELD: LatentMatching(latent_weight=0.01, **LATENTS),
    "latent-matching gan": LatentMatching(prior="gan", **LATENTS),
    "gias pca": GIAS(prior="pca", **LATENTS),
    "gias gan": GIAS(**LATENTS),
    "gifd pca": GIFD(prior="pca", **LATENTS),
    "gifd gan": GIFD(**LATENTS),
    "ggl pca": GGL(prior="pca"),
    "ggl gan": GGL(),
}


# Networks with records an update, bare; and the attacks that are played there and behind defenses.
BARE = (("lenet-zhu", 1), ("lenet-zhu", 4), ("relu-cnn", 4))
PLAIN = [name for name in ATTACKS if name != HELD]
DEFENDED = [name for name in ATTACKS if name not in ("gias pca", "gifd pca")]


def faces(which: str) -> Records:
    """The faces of some of the people, (n, 1, 32, 32) in [0, 1]."""
    every = load_builtin("att-faces", size=32)
    return every[np.isin(every.labels(), list(PEOPLE[which]))]


def private(which: str, records: int) -> tuple[np.ndarray, np.ndarray]:
    """One picture each of the first people, and their classes."""
    found = faces(which)
    people = list(PEOPLE[which])[:records]
    x = np.stack([found.x[found.labels() == person][person % 10] for person in people])
    return x, np.arange(records) % CLASSES


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def decibels(x: np.ndarray, truth: np.ndarray, batch: int) -> list[float]:
    """Of each record, matched one to one to those of its client, by least squared error."""
    found: list[float] = []
    for first in range(0, len(truth), batch):
        mine, own = x[first : first + batch], truth[first : first + batch]
        apart = ((mine[:, None].astype(float) - own[None]) ** 2).reshape(len(mine), len(own), -1).mean(axis=2)
        rows, columns = linear_sum_assignment(apart)
        found += (-10 * np.log10(np.maximum(apart[rows, columns], 1e-20))).tolist()
    return found


def updates(net: ClientNet, x: np.ndarray, y: np.ndarray, batch: int, defense: UpdateDefense | None) -> Updates:
    """One gradient a client over `batch` records, behind the defense."""
    local = LocalTraining(mode="eval")
    parts = [slice(k, k + batch) for k in range(0, len(x), batch)]
    sent = Updates(tuple(net.round(x[part], y[part], local, stream(0, "round")) for part in parts))
    if defense is None:
        return sent
    behind = defense.on_victim(sent, stream(0, "defense"))
    assert isinstance(behind, Updates)
    return behind


def length(sent: Updates) -> float:
    """The median length of the updates."""
    return float(np.median([np.sqrt(sum(float((t**2).sum()) for t in u.tensors.values())) for u in sent.clients]))


class Bench:
    """Clients with one picture or several, and who sees what they send: labels known, the defense too."""

    def __init__(self, which: str, records: int, shelf: Shelf):
        self.x, self.y = private(which, records)
        self.public, self.shelf = faces("public"), shelf

    def played(self, attack: GradientAttack, name: str, batch: int, defense: UpdateDefense | None) -> dict[str, Any]:
        net = ClientNet(client_net(name, SPEC.shape, CLASSES, 0), SPEC, CLASSES)
        sent = updates(net, self.x, self.y, batch, defense)
        told = {"batch": batch, "mode": "eval", "labels": self.y.reshape(-1, batch)}
        known = GradientKnowledge(
            public=self.public,
            spec=SPEC,
            net=net,
            classes=CLASSES,
            clients=len(sent),
            assumptions=Assumptions(**{rung: Rung.known(value) for rung, value in told.items()}),
            defenses=() if defense is None else (defense,),
            priors=self.shelf,
        )
        begun = cpu_seconds()
        found = attack.run(Target(sent, {Access.UPDATES}), known, stream(0, "benchmark"))
        spent = cpu_seconds() - begun
        each = decibels(found.x, self.x, batch)
        row = {
            "median_psnr_db": round(float(np.median(each)), 1),
            "lowest_db": round(min(each), 1),
            "objective": None if found.confidence is None else float(f"{-np.median(found.confidence):.3g}"),
            "cpu_seconds": round(spent / len(self.x), 1),
        }
        later = found.facts.get("kept_after_latents")
        return row if later is None else row | {"kept_after_latents": later}

    def noise(self, name: str, share: float) -> GaussianNoise:
        """Noise as long as `share` of the median gradient, which is hardly clipped."""
        net = ClientNet(client_net(name, SPEC.shape, CLASSES, 0), SPEC, CLASSES)
        usual = length(updates(net, self.x, self.y, 1, None))
        clip = 3 * usual
        return GaussianNoise(clip=clip, multiplier=share * usual / (clip * net.parameters**0.5))

    def controls(self) -> dict[str, float]:
        """Median decibels without any update, and of what a prior draws nearest to the records, picked by them."""

        def median(x: np.ndarray) -> float:
            return round(float(np.median(decibels(np.ascontiguousarray(x), self.x, 1))), 1)

        def of(prior: Prior) -> dict[str, float]:
            drawn = prior.sample(len(self.x), stream(0, "prior draw"))
            return {
                f"a draw of {prior.kind}": median(drawn),
                f"the nearest that {prior.kind} draws": median(prior.decode(prior.encode(self.x))),
            }

        flat = self.x.reshape(len(self.x), -1)
        mean = self.public.x.mean(axis=0, keepdims=True).repeat(len(self.x), axis=0)
        apart = ((flat[:, None] - self.public.x.reshape(len(self.public), -1)[None]) ** 2).mean(axis=2)
        found = {
            "a constant picture": median(np.broadcast_to(flat.mean(axis=1)[:, None, None, None], self.x.shape)),
            "the mean public face": median(mean),
            "the nearest public face": median(self.public.x[apart.argmin(axis=1)]),
        }
        for kind, options in (("pca", {"components": 100}), ("gan", {})):
            found |= of(self.shelf.get(kind, self.public, SPEC, **options))
        return found


def arms(bench: Bench) -> dict[str, UpdateDefense]:
    """What updates go through, for the LeNet with one record an update."""
    return {
        "noise of 100 %": bench.noise("lenet-zhu", 1.0),
        "noise of 300 %": bench.noise("lenet-zhu", 3.0),
        "clipped to length 0.1": Clip(norm=0.1),
        "largest tenth": TopKUpdate(keep=0.1),
        "largest hundredth": TopKUpdate(keep=0.01),
        "signs": Sign(),
    }


def main() -> None:
    torch.set_num_threads(1)
    which = "chosen" if "chosen" in sys.argv[1:] else "reported"
    shelf = Shelf(PRIORS)
    bench, behind = Bench(which, RECORDS, shelf), Bench(which, BEHIND, shelf)
    result: dict[str, Any] = {"controls": bench.controls(), "controls_behind": behind.controls()}
    print(result, flush=True)

    def add(label: str, row: dict[str, Any]) -> None:
        result[label] = row
        print(f"{label}: {row}", flush=True)

    for name, batch in BARE:
        for title in PLAIN:
            add(f"{name}.{batch}.{title}", bench.played(ATTACKS[title], name, batch, None))
    for said, defense in arms(behind).items():
        for title in DEFENDED:
            add(f"{said}.{title}", behind.played(ATTACKS[title], "lenet-zhu", 1, defense))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
