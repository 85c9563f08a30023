"""Searches behind defenses of updates, told of them and not: the tables of docs/leaks/gradient-optimise.md.

python benchmarks/gradient-inverting/behind.py [photographs | noise | lenet-zhu | relu-cnn ...]

`photographs`: four of them, the LeNet of Zhu et al., 1,000 evaluations. `noise`: the same, against the length of noise.
`lenet-zhu`, `relu-cnn`: six faces, 200 evaluations. One record an update, labels told, one seed. The last line is one
JSON object.
"""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from gradient_peer import CLASSES, SPEC, captured, decibels, lenet, pictures, played

from seepage.attacks.gradient.fan2025 import FedLeak
from seepage.attacks.gradient.geiping2020 import InvertingGradients
from seepage.attacks.gradient.zhu2019 import DLG
from seepage.core.assumptions import Assumptions, Rung
from seepage.core.attack import GradientAttack
from seepage.core.defense import UpdateDefense
from seepage.core.knowledge import GradientKnowledge
from seepage.core.seeds import stream
from seepage.core.spec import InputSpec
from seepage.core.victim import Updates
from seepage.data import load_builtin
from seepage.defenses.updates.clip import Clip
from seepage.defenses.updates.quantise import Quantise
from seepage.defenses.updates.sign import Sign
from seepage.defenses.updates.topk import TopKUpdate
from seepage.models.client_nets import client_net
from seepage.models.federated import ClientNet, LocalTraining

BARE = "as it is"
DEFENSES: dict[str, UpdateDefense] = {
    "largest tenth": TopKUpdate(keep=0.1),
    "largest hundredth": TopKUpdate(keep=0.01),
    "int8": Quantise(format="int8"),
    "int4": Quantise(format="int4"),
    "signs": Sign(),
    "clipped to length 0.1": Clip(norm=0.1),
}
FACES, FACE = 6, InputSpec((1, 32, 32))
Sent = tuple[Updates, GradientKnowledge]


def behind(given: Sent, defense: UpdateDefense | None, told: bool) -> Sent:
    """What was sent as a defense leaves it, and an adversary who is told of it or is not."""
    sent, known = given
    if defense is None:
        return given
    left = tuple(defense.apply(update, stream(0, "defense", str(k))) for k, update in enumerate(sent.clients))
    return Updates(left), replace(known, defenses=(defense,)) if told else known


def noised(given: Sent, share: float) -> Sent:
    """With Gaussian noise whose length is a share of each update's."""
    sent, known = given
    left = []
    for k, update in enumerate(sent.clients):
        rng = stream(0, "noise", str(share), str(k))
        noise = {name: rng.normal(size=t.shape) for name, t in update.tensors.items()}
        length, drawn = (np.sqrt(sum(float((t**2).sum()) for t in some.values())) for some in (update.tensors, noise))
        left.append(
            replace(update, tensors={n: t + share * length / drawn * noise[n] for n, t in update.tensors.items()})
        )
    return Updates(tuple(left)), known


def photographs() -> tuple[np.ndarray, Sent]:
    x, y = pictures("reported"), np.arange(4)
    return x, captured(ClientNet(lenet(), SPEC, CLASSES), x[:, None], y[:, None], {"labels": y[:, None]})


def faces(name: str) -> tuple[np.ndarray, Sent]:
    """Six faces of six people of the AT&T faces, each of a class of its own."""
    records = load_builtin("att-faces", size=32)
    people = stream(0, "behind").choice(len(np.unique(records.labels())), FACES, replace=False)
    x = np.stack([records.x[records.labels() == person][0] for person in people])
    net, y = ClientNet(client_net(name, FACE.shape, CLASSES, 0), FACE, CLASSES), np.arange(FACES)
    sent = tuple(net.round(x[k : k + 1], y[k : k + 1], LocalTraining(mode="eval"), stream(0, "round")) for k in y)
    ladder = Assumptions(batch=Rung.known(1), mode=Rung.known("eval"), labels=Rung.known(y[:, None]))
    known = GradientKnowledge(spec=FACE, net=net, classes=CLASSES, clients=FACES, assumptions=ladder)
    return x, (Updates(sent), known)


def median(x: np.ndarray, given: Sent, attack: GradientAttack) -> float:
    return round(float(np.median(decibels(played(attack, *given).x, x))), 1)


def table(part: str) -> dict[str, dict[str, float]]:
    """Median decibels by update and attack; "unaware" is not told of the defense."""
    found: dict[str, dict[str, float]] = {}
    if part in ("photographs", "noise"):
        x, given = photographs()
    else:
        x, given = faces(part)
    even = np.broadcast_to(x.mean(axis=(2, 3), keepdims=True), x.shape)
    found["a constant picture"] = {"own mean": round(float(np.median(decibels(even, x))), 1)}
    rows: dict[str, dict[str, tuple[Sent, GradientAttack]]] = {}
    if part == "noise":
        attacks = {"dlg": DLG(steps=250), "inverting-gradients": InvertingGradients(steps=500)}
        sent = {BARE: given, "half precision": behind(given, Quantise(format="fp16"), True)}
        sent |= {"clipped to length 1": behind(given, Clip(norm=1.0), True)}
        sent |= {f"noise of {share:.0%}": noised(given, share) for share in (0.01, 0.1, 1.0)}
        rows = {said: {name: (one, attack) for name, attack in attacks.items()} for said, one in sent.items()}
    else:
        few = part == "photographs"
        evaluations = 1000 if few else 200
        searches: dict[str, GradientAttack] = {"inverting-gradients": InvertingGradients(steps=evaluations)}
        aware: dict[str, GradientAttack] = {"fedleak": FedLeak(steps=evaluations // 2)}
        if few:
            aware |= {"inverting-gradients, tv 0.01": InvertingGradients(steps=evaluations, tv=0.01)}
            aware |= {"fedleak, no penalty": FedLeak(steps=evaluations, blend=0.0)}
        else:
            searches["dlg"] = DLG(steps=evaluations, labels="auto")
        kinds: dict[str, UpdateDefense | None] = {BARE: None}
        kinds |= {n: d for n, d in DEFENSES.items() if not few or n not in ("int8", "clipped to length 0.1")}
        for said, defense in kinds.items():
            rows[said] = {n: (behind(given, defense, True), a) for n, a in (searches | aware).items()}
            if defense is not None:
                rows[said] |= {f"{n}, unaware": (behind(given, defense, False), a) for n, a in searches.items()}
    for said, row in rows.items():
        found[said] = {name: median(x, one, attack) for name, (one, attack) in row.items()}
        print(part, said, found[said], flush=True)
    return found


def main() -> None:
    torch.set_num_threads(1)
    wanted = sys.argv[1:] or ["photographs", "noise", "lenet-zhu", "relu-cnn"]
    result: dict[str, Any] = {part: table(part) for part in wanted}
    print(json.dumps({**result, "cpu_seconds": round(time.process_time(), 1)}))


if __name__ == "__main__":
    main()
