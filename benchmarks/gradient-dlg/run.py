"""DLG on the LeNet of Zhu et al. in double precision, ours and breaching's, on the same four photographs."""

import json
import resource
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from gradient_peer import SPEC, captured, decibels, lenet, peer, pictures, played

from seepage.attacks.gradient.zhu2019 import DLG
from seepage.models.federated import ClientNet

# breaching's own steps; each is up to 20 evaluations.
PEER_STEPS = 200


def seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    torch.set_num_threads(1)
    x, y, net = pictures("reported"), np.arange(4), lenet()
    # Each picture by itself, as the peer has them: what is gained is not that four go at once.
    ours, spent, right = [], [], []
    for k in range(len(x)):
        sent, known = captured(ClientNet(net, SPEC, 10), x[k : k + 1, None], y[k : k + 1, None], {})
        begun = seconds()
        found = played(DLG(), sent, known)
        spent.append(round(seconds() - begun, 2))
        ours += decibels(found.x, x[k : k + 1])
        right.append(bool(found.labels is not None and found.labels[0] == y[k]))
        print(f"picture {k}: {ours[-1]:.1f} dB in {spent[-1]:.1f} CPU seconds, label right: {right[-1]}", flush=True)
    sent, known = captured(ClientNet(net, SPEC, 10), x[:, None], y[:, None], {})
    begun = seconds()
    together = decibels(played(DLG(), sent, known).x, x)
    at_once = round(seconds() - begun, 2)
    print(f"all four at once: {together} dB in {at_once:.1f} CPU seconds", flush=True)
    made, theirs = peer(net, x, y, "deepleakage", [f"optim.max_iterations={PEER_STEPS}", "impl.dtype=double"], False)
    result = {
        "psnr_db": ours,
        "cpu_seconds": spent,
        "peer_psnr_db": decibels(made, x),
        "peer_cpu_seconds": theirs,
        "labels_right": right,
        "at_once_psnr_db": together,
        "at_once_cpu_seconds": at_once,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
