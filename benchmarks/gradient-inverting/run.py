"""Inverting Gradients on the LeNet of Zhu et al., ours and breaching's, on the same four photographs."""

import json
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from gradient_peer import CLASSES, SPEC, captured, decibels, lenet, peer, pictures, played

from seepage.attacks.gradient.geiping2020 import InvertingGradients
from seepage.models.federated import ClientNet

STEPS = 2000
TV = 5e-4
# Of the measurement of speed.
SPEED_STEPS = 200


def seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def four(attack: InvertingGradients, x: np.ndarray, y: np.ndarray) -> tuple[list[float], float]:
    """Decibels of the pictures, one a client, labels known; and the CPU seconds of all together."""
    sent, known = captured(ClientNet(lenet(), SPEC, CLASSES), x[:, None], y[:, None], {"labels": y[:, None]})
    begun = seconds()
    found = played(attack, sent, known)
    return decibels(found.x, x), round(seconds() - begun, 2)


def speed(attack: InvertingGradients, x: np.ndarray, y: np.ndarray) -> float:
    """Steps a CPU second on one picture, those of all restarts counted."""
    sent, known = captured(ClientNet(lenet(), SPEC, CLASSES), x[:1, None], y[:1, None], {"labels": y[:1, None]})
    begun = seconds()
    played(attack, sent, known)
    return attack.steps * attack.restarts / (seconds() - begun)


def main() -> None:
    torch.set_num_threads(1)
    x, y = pictures("reported"), np.arange(4)
    result: dict[str, Any] = {}
    for name, attack in (
        ("", InvertingGradients(steps=STEPS)),
        ("published_", InvertingGradients.published(steps=STEPS)),
    ):
        found, spent = four(attack, x, y)
        result |= {f"{name}psnr_db": found, f"{name}cpu_seconds_all_four": spent}
        result[f"{name}median_psnr_db"] = round(float(np.median(found)), 2)
        print(f"{name or 'default_'}: {found} dB in {spent} CPU seconds", flush=True)
    result["steps_per_second_8"] = round(speed(InvertingGradients(steps=SPEED_STEPS, restarts=8), x, y), 1)
    result["published_steps_per_second_8"] = round(
        speed(InvertingGradients.published(steps=SPEED_STEPS, restarts=8), x, y), 1
    )
    options = [f"optim.max_iterations={STEPS}", f"regularization.total_variation.scale={TV}"]
    made, theirs = peer(lenet(), x, y, "invertinggradients", options, True)
    result["peer_psnr_db"] = decibels(made, x)
    result["peer_median_psnr_db"] = round(float(np.median(result["peer_psnr_db"])), 2)
    # Its restarts run one after another.
    result["peer_steps_per_second"] = round(STEPS * len(x) / sum(theirs), 1)
    result["peer_cpu_seconds"] = theirs
    print(json.dumps(result))


if __name__ == "__main__":
    main()
