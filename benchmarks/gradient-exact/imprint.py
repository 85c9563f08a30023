"""How many records `imprint` gives back exactly, beside the b (1 - 1/k)^(b-1) that theory expects of b records, k bins.

`measure` is called by run.py of this folder. Theory takes bins of equal mass; the attack places them by quantiles of
public records, so that true masses scatter. Nothing was chosen by these figures.
"""

import json
import time
from typing import Any

import numpy as np
import torch
from pictures import photographs
from scipy.stats import t

from seepage.attacks.gradient.fowl2022 import RobbingTheFed
from seepage.core.assumptions import Assumptions, Rung
from seepage.core.knowledge import GradientKnowledge
from seepage.core.records import Records
from seepage.core.seeds import derive, stream
from seepage.core.spec import InputSpec
from seepage.core.target import Target
from seepage.core.victim import Updates
from seepage.models.client_nets import client_net
from seepage.models.federated import ClientNet, LocalTraining

CLASSES, PUBLIC, UPDATES, EXACT_DB = 10, 3000, 100, 60.0
# Records an update, bins.
SIZES = ((8, 64), (8, 256), (32, 128), (64, 64), (64, 256))
SPEC = InputSpec((3, 32, 32), mean=(0.4914, 0.4822, 0.4465), std=(0.247, 0.243, 0.262))


def exact(found: np.ndarray, x: np.ndarray) -> int:
    """How many of the records x are among those found, to 60 dB or better."""
    near, true = (v.reshape(len(v), -1).astype(np.float64) for v in (found, x))
    apart = (near**2).sum(1)[:, None] + (true**2).sum(1) - 2 * near @ true.T
    return int((apart.min(axis=0) / true.shape[1] <= 10 ** (-EXACT_DB / 10)).sum()) if len(found) else 0


def one(net: ClientNet, public: Records, batch: int, bins: int, seed: int) -> dict[str, Any]:
    """Counts over `UPDATES` updates of photographs, with a 95 % interval of their mean."""
    rng = stream(seed, "imprint", str(batch), str(bins))
    known = Assumptions(batch=Rung.known(batch))
    counts, seconds = list[int](), 0.0
    for _ in range(UPDATES):
        x, y = photographs(batch, rng), rng.integers(CLASSES, size=batch)

        def asked(sent: ClientNet, _: int, x: np.ndarray = x, y: np.ndarray = y) -> Updates:
            return Updates((sent.round(x, y, LocalTraining(mode="eval"), rng),))

        knowledge = GradientKnowledge(public=public, spec=SPEC, net=net, classes=CLASSES, assumptions=known)
        own = asked(net, 0)
        attack = RobbingTheFed(bins=bins)
        begun = time.process_time()
        found = attack.run(Target(Updates(own.clients, asked), attack.needs), knowledge, rng)
        seconds += time.process_time() - begun
        counts.append(exact(found.x, x))
    # Student's: updates are drawn one by one.
    reach = float(t.ppf(0.975, UPDATES - 1) * np.std(counts, ddof=1) / np.sqrt(UPDATES))
    return {
        "expected": round(batch * (1 - 1 / bins) ** (batch - 1), 2),
        "exact": round(float(np.mean(counts)), 2),
        "low": round(float(np.mean(counts)) - reach, 2),
        "high": round(float(np.mean(counts)) + reach, 2),
        "of": batch,
        "updates": UPDATES,
        "seconds_an_update": round(seconds / UPDATES, 3),
    }


def measure(seed: int = 5) -> dict[str, Any]:
    """Every row by name, and the greatest distance of a mean count from theory, as a share of what was expected."""
    net = ClientNet(client_net("lenet-zhu", SPEC.shape, CLASSES, derive(seed, "imprint")), SPEC, CLASSES)
    rng = stream(seed, "imprint", "public")
    public = Records(photographs(PUBLIC, rng), np.zeros(PUBLIC, dtype=np.int64), ("photograph",))
    found: dict[str, Any] = {}
    for batch, bins in SIZES:
        found[f"imprint.b{batch}.k{bins}"] = row = one(net, public, batch, bins, seed)
        print(f"imprint, {batch} records, {bins} bins: {row}", flush=True)
    off = [abs(row["exact"] - row["expected"]) / row["expected"] for row in found.values()]
    return {**found, "imprint_off_share": round(max(off), 4)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(measure()))
