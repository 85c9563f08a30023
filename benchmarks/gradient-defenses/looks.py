"""The looks of a client at a model it received: false alarms on honest models, and hits on planted ones.

Prints, for each batch size and age of the model, how many of the batches alarm, with a 95 % interval (Clopper and
Pearson). The threshold of `silenced records` was set on other models (seeds 0 and 1) than those looked at here.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from scipy.stats import beta

from seepage.attacks.gradient.boenisch2023 import TrapWeights
from seepage.attacks.gradient.fowl2022 import RobbingTheFed
from seepage.attacks.gradient.wen2022 import Fishing
from seepage.cases import gradient
from seepage.cases.federation import Federation
from seepage.core.records import Records
from seepage.core.seeds import stream
from seepage.core.spec import InputSpec
from seepage.core.target import Target
from seepage.core.victim import Updates
from seepage.data import load_builtin
from seepage.models.client_nets import client_net
from seepage.models.disaggregation import disaggregation
from seepage.models.federated import ClientNet, LocalTraining
from seepage.models.received import SILENCED, TOO_CLEAR, inspect_received
from seepage.models.training import fit_classifier, seeded

SEEDS, SIZES, STEPS, EACH = range(10, 15), (4, 16, 64), (0, 100, 600), 20
SPEC = InputSpec((1, 8, 8))
DIGITS = load_builtin("digits")
X, Y = DIGITS.x, DIGITS.labels()


def honest(name: str, steps: int, seed: int) -> ClientNet:
    """An ordinary model, trained on the first 400 digits."""
    module = client_net(name, SPEC.shape, 10, seed)
    if steps:
        with seeded(seed) as rng:
            fit_classifier(module, torch.from_numpy(X[:400]), torch.from_numpy(Y[:400]), rng, steps=steps, rate=1e-3)
    return ClientNet(module, SPEC, 10)


def batches(size: int, *names: object) -> Iterator[np.ndarray]:
    """Held-out rows."""
    rng = stream(0, "looks", *names)
    for _ in range(EACH):
        yield rng.choice(np.arange(400, len(X)), size, replace=False)


def planted(net: ClientNet, attack: Fishing | RobbingTheFed | TrapWeights) -> list[ClientNet]:
    """The models that an attack sends out, from a run of it."""
    sent: list[ClientNet] = []
    scene = Federation(
        open_net=lambda: net,
        spec=SPEC,
        members=Records(X[:400], Y[:400], DIGITS.class_names),
        public=Records(X[:400], Y[:400], DIGITS.class_names),
        local=LocalTraining(),
        clients=2,
        records=8,
        seed=3,
    )
    case = gradient.build(scene)
    assert isinstance(case.victim, Updates)
    asked = case.victim.asked
    assert asked is not None

    def noted(own: ClientNet, turn: int) -> Updates:
        sent.append(own)
        return asked(own, turn)

    victim = Updates(case.victim.clients, noted)
    attack.run(Target(victim, attack.needs), case.knowledge, stream(0, "looks"))
    return sent


def share(hits: Sequence[bool]) -> str:
    """A rate with its interval."""
    k, n = sum(hits), len(hits)
    low = 0.0 if k == 0 else float(beta.ppf(0.025, k, n - k + 1))
    high = 1.0 if k == n else float(beta.ppf(0.975, k + 1, n - k))
    return f"{k}/{n} = {k / n:.1%} [{low:.1%}, {high:.1%}]"


def main() -> None:
    print("| model | batch | silenced records | one record stands out | by weights |\n|" + " --- |" * 5)
    for steps in STEPS:
        nets = [honest(name, steps, seed) for name in ("relu-mlp", "relu-cnn", "cnn", "lenet-zhu") for seed in SEEDS]
        row(f"honest, {steps} steps", nets)
    for steps in (0, 600):
        net = honest("relu-mlp", steps, 10)
        for label, attack in (("fishing", Fishing()), ("imprint", RobbingTheFed()), ("trap-weights", TrapWeights())):
            row(f"{label}, {steps} steps", planted(net, attack))


def row(label: str, nets: Sequence[ClientNet]) -> None:
    by_weights = share([bool(inspect_received(net)) for net in nets])
    for size in SIZES:
        told = [
            disaggregation(net, X[rows], Y[rows])
            for k, net in enumerate(nets)
            for rows in batches(size, label, k, size)
        ]
        silenced, clear = [d.silenced >= SILENCED for d in told], [d.ratio >= TOO_CLEAR for d in told]
        print(f"| {label} | {size} | {share(silenced)} | {share(clear)} | {by_weights} |", flush=True)


if __name__ == "__main__":
    main()
