"""Single records by `r-gap`, in single precision as clients send them and in double, and what rank analysis said.

`measure` is called by run.py of this folder. The published figure beside ours: 49.0 dB (SSIM 0.98) on CNN6 and
CIFAR-10, a batch of one, by breaching's replica of the published code.
"""

import json
import time
from typing import Any

import numpy as np
import torch
from pictures import photographs

from seepage.attacks.gradient.zhu2021 import RGap, rank_analysis
from seepage.core.assumptions import Assumptions, Rung
from seepage.core.knowledge import GradientKnowledge
from seepage.core.seeds import stream
from seepage.core.spec import InputSpec
from seepage.core.target import Target
from seepage.core.victim import Updates
from seepage.models.client_nets import client_net
from seepage.models.federated import ClientNet, LocalTraining

CLASSES, RECORDS = 10, 4
NETS = ("cnn6", "lenet-zhu", "relu-cnn", "relu-mlp")


def one(name: str, precision: str, seed: int) -> dict[str, Any]:
    """Decibels of each of a few records, each the only one of a client."""
    spec = InputSpec((3, 32, 32))
    net = ClientNet(client_net(name, spec.shape, CLASSES, seed), spec, CLASSES)
    rng = stream(seed, "recursive")
    x, y = photographs(RECORDS, rng), rng.integers(CLASSES, size=RECORDS)
    sent = tuple(
        net.round(x[[k]], y[[k]], LocalTraining(), stream(seed, "client"), getattr(torch, precision))
        for k in range(RECORDS)
    )
    known = Assumptions(batch=Rung.known(1))
    knowledge = GradientKnowledge(spec=spec, net=net, classes=CLASSES, clients=RECORDS, assumptions=known)
    begun = time.process_time()
    found = RGap().run(Target(Updates(sent), RGap.needs), knowledge, stream(seed, "attack"))
    seconds = time.process_time() - begun
    apart = ((found.x - x) ** 2).reshape(RECORDS, -1).mean(axis=1)
    return {
        "psnr_db": [round(float(db), 1) for db in -10 * np.log10(apart + 1e-40)],
        "labels_right": int((found.labels == y).sum()) if found.labels is not None else 0,
        "consistent": int(found.facts["clients_consistent"] or 0),
        "layers_open": [name for name, _, _, settled in rank_analysis(net) if not settled],
        "seconds_a_record": round(seconds / RECORDS, 2),
    }


def measure(seed: int = 7) -> dict[str, Any]:
    """Every row by name, and the published network's least figure in single precision."""
    found: dict[str, Any] = {}
    for name in NETS:
        for precision in ("float32", "float64"):
            found[f"r_gap.{name}.{precision}"] = row = one(name, precision, seed)
            print(f"r-gap, {name}, {precision}: {row}", flush=True)
    found["r_gap_cnn6_db"] = min(found["r_gap.cnn6.float32"]["psnr_db"])
    found["r_gap_cnn6_published_db"] = 49.0
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(measure()))
