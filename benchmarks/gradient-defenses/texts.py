"""DAGER behind every defense of updates: how many tokens of one update pass its span test, and how many it guesses.

Four texts of 12 chance tokens (48) in one client's gradient, of a decoder 256 wide with fresh weights. The adversary
knows the defense. A token passes where the first layer's test takes it for its own place in some text; `false` counts
the tokens of the vocabulary that pass at a place where none of the texts has them. Guessed tokens are those of the
final texts: once for every time one stands there, at most as often as in the true texts. The Gaussian multipliers are
in units of the clipping norm, which is the update's own. A line a defense as it is known, and one JSON object last.
"""

import json
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from seepage.attacks.gradient.petrov2024 import Dager
from seepage.core.assumptions import Assumptions, Rung
from seepage.core.defense import Defense, UpdateDefense
from seepage.core.knowledge import TextGradientKnowledge
from seepage.core.seeds import stream
from seepage.core.target import Target
from seepage.core.victim import Update, Updates
from seepage.defenses.training.dp_sgd import DPSGD
from seepage.defenses.updates.clip import Clip
from seepage.defenses.updates.gaussian import GaussianNoise
from seepage.defenses.updates.quantise import Quantise
from seepage.defenses.updates.sign import Sign
from seepage.defenses.updates.topk import TopKUpdate
from seepage.models.federated import LocalTraining
from seepage.models.private import PerRecord
from seepage.models.text_clients import TextNet
from seepage.models.text_nets import text_net
from seepage.testing.text_clients import random_texts

SEED, BATCH, LENGTH = 2024, 4, 12
MULTIPLIERS = (1e-4, 1e-3, 1e-2, 0.1)


def arms(norm: float) -> list[tuple[str, Defense | None]]:
    """The defenses by what is written of them; `norm` is the length of the update without one."""
    coarse: list[tuple[str, Defense | None]] = [
        (f"quantise format={kind}", Quantise(format=kind)) for kind in ("fp16", "bf16", "int8", "int4")
    ]
    kept: list[tuple[str, Defense | None]] = [
        (f"top-k-update keep={share:g}", TopKUpdate(keep=share)) for share in (0.5, 0.1, 0.01)
    ]
    noised: list[tuple[str, Defense | None]] = [
        (f"gaussian-noise multiplier={m:g}", GaussianNoise(clip=norm, multiplier=m)) for m in MULTIPLIERS
    ]
    private: list[tuple[str, Defense | None]] = [
        (f"dp-sgd multiplier={m:g}", DPSGD(clip=norm, multiplier=m)) for m in MULTIPLIERS
    ]
    clip: list[tuple[str, Defense | None]] = [("none", None), ("clip", Clip(norm=norm / 10))]
    return [*clip, *coarse, *kept, ("sign", Sign()), *noised, *private]


def sent(net: TextNet, texts: tuple[str, ...], y: np.ndarray, defense: Defense | None) -> Update:
    """The update of a client with these texts behind a defense."""
    inside = PerRecord(defense.clip, defense.multiplier) if isinstance(defense, DPSGD) else None
    update = net.round(texts, y, LocalTraining(mode="eval", private=inside), stream(SEED, "round"))
    return defense.apply(update, stream(SEED, "defense")) if isinstance(defense, UpdateDefense) else update


def row(net: TextNet, texts: tuple[str, ...], y: np.ndarray, defense: Defense | None) -> dict[str, Any]:
    """What passes and what is guessed behind one defense, and the CPU seconds of the attack."""
    attack, rng = Dager(), stream(SEED, "attack")
    knowledge = TextGradientKnowledge(
        net=net,
        classes=net.classes,
        clients=1,
        assumptions=Assumptions(batch=Rung.known(len(texts)), mode=Rung.known("eval")),
        defenses=() if defense is None else (defense,),
    )
    update = sent(net, texts, y, defense)
    target = Target(Updates((update,)), attack.needs)
    begun = time.process_time()
    found = attack.run(target, knowledge, rng).values[0]
    seconds = time.process_time() - begun
    passing = {(place, t) for place, some in enumerate(attack.passing(net, update, len(texts))) for t in some}
    true = {(place, t) for ids in net.encode(texts).sequences() for place, t in enumerate(ids)}
    own, said = (Counter(word for text in some for word in text.split()) for some in (texts, found))
    return {
        "passing": len(passing & true),
        "false": len(passing - true),
        "of": len(true),
        "tokens": (own & said).total(),
        "guessed": said.total(),
        "texts": (Counter(texts) & Counter(found)).total(),
        "cpu_s": round(seconds, 2),
    }


def rows() -> Iterator[tuple[str, dict[str, Any]]]:
    """One row a defense by its name, as it is measured."""
    net, rng = text_net("tiny-gpt", 5000, 2, SEED), stream(SEED, "benchmark")
    texts, y = random_texts(BATCH, LENGTH, net.vocabulary, rng), rng.integers(2, size=BATCH)
    plain = sent(net, texts, y, None)
    norm = float(np.sqrt(sum(np.square(t, dtype=np.float64).sum() for t in plain.tensors.values())))
    for name, defense in arms(norm):
        yield name, row(net, texts, y, defense)


def measure() -> list[dict[str, Any]]:
    """All rows."""
    return [{"defense": name} | found for name, found in rows()]


def main() -> None:
    """All rows, printed as they are measured."""
    torch.set_num_threads(1)
    measured: dict[str, dict[str, Any]] = {}
    print("| defense | pass of 48 | false | guessed of 48 | in so many tokens | texts of 4 | CPU seconds |")
    for name, found in rows():
        measured[name] = found
        print(
            f"| `{name}` | {found['passing']} | {found['false']} | {found['tokens']} | {found['guessed']} "
            f"| {found['texts']} | {found['cpu_s']:.1f} |",
            flush=True,
        )
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
