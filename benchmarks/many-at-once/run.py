"""Seconds to invert 20 classes from 8 starts each: all 160 searches in one batch, and one after another.

The same attack (`latent`, its defaults but for the starts), the same victim, the same number of steps and
queries; both ways score the candidates for the starts once. One thread. Three rounds, side by side; medians.
"""

import json
import statistics
import time

import numpy as np
import torch

from seepage.attacks.inversion.latent import LatentGradient
from seepage.core.knowledge import InversionKnowledge
from seepage.core.spec import InputSpec
from seepage.core.target import Target
from seepage.core.vocabulary import Access
from seepage.data import load_builtin, split_identities
from seepage.models.recipes import fit_cnn
from seepage.targets import wrap

ROUNDS = 3
STARTS = 8


def main() -> None:
    torch.set_num_threads(1)
    spec = InputSpec((1, 32, 32))
    splits = split_identities(load_builtin("att-faces", size=32), private=20, members_per_class=5, seed=0)
    members = splits.members
    victim = wrap(fit_cnn(members.x, members.labels(), 0), spec)
    knowledge = InversionKnowledge(public=splits.public, spec=spec, classes=np.arange(20))

    def seconds(batched: bool) -> tuple[float, int]:
        target = Target(victim, [Access.WEIGHTS])
        begun = time.perf_counter()
        LatentGradient(starts=STARTS, batched=batched).run(target, knowledge, np.random.default_rng(0))
        return time.perf_counter() - begun, target.queries

    seconds(True)
    pairs = [(seconds(True), seconds(False)) for _ in range(ROUNDS)]
    for (one, asked), (many, asked_too) in pairs:
        print(
            f"batched {one:.2f} s ({asked} queries), one by one {many:.2f} s ({asked_too} queries): {many / one:.1f}x"
        )
    print(
        json.dumps(
            {
                "batched_seconds": round(statistics.median(a[0] for a, _ in pairs), 3),
                "one_by_one_seconds": round(statistics.median(b[0] for _, b in pairs), 3),
                "ratio": round(statistics.median(b[0] / a[0] for a, b in pairs), 2),
                "ratios": [round(b[0] / a[0], 2) for a, b in pairs],
                "classes": 20,
                "starts": STARTS,
                "threads": 1,
            }
        )
    )


if __name__ == "__main__":
    main()
