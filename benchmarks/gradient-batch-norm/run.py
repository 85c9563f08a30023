"""Four photographs in one gradient of a network with batch normalisation: ours and breaching's, in three settings.

python benchmarks/gradient-batch-norm/run.py [--steps 400] [--width 16] [--pictures reported] [--ours-only]

Settings are what the client computed with and what the adversary knows of it: "eval" (the statistics that the server
sent out), "shared" (the batch's own, "train" mode, which the client sends along), "unknown" (the batch's own, kept).
"""

import argparse
import json
import time
from pathlib import Path
from sys import path
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

path.insert(0, str(Path(__file__).parents[1]))

from gradient_nets import convnet
from gradient_peer import CLASSES, SPEC, captured, decibels, peer_batches, pictures, played

from seepage.attacks.gradient.geiping2020 import InvertingGradients
from seepage.attacks.gradient.yin2021 import GradInversion
from seepage.core.attack import GradientAttack
from seepage.models.federated import ClientNet, Mode
from seepage.models.recipes import seeded

Array = np.ndarray
SETTINGS: dict[str, tuple[Mode, str]] = {
    "eval": ("eval", "public"),
    "shared": ("train", "shared"),
    "unknown": ("train", "unknown"),
}
# Of breaching, as the figures quoted were made; ours has its defaults.
PEER_TV = 5e-4
QUOTED = {"eval": 13.6, "shared": 8.2, "unknown": 7.7}


def matched(found: Array, x: Array) -> tuple[list[float], list[float]]:
    """Decibels, and correlations, of records matched one to one with the true ones by least squared error.

    The correlation takes the mean of each channel out and knows no contrast: what batch normalisation hides.
    """
    apart = ((found[:, None].astype(float) - x[None]) ** 2).reshape(len(found), len(x), -1).mean(axis=2)
    rows, columns = linear_sum_assignment(apart)
    ours, true = (v - v.mean(axis=(2, 3), keepdims=True) for v in (found[rows].astype(float), x[columns].astype(float)))
    alike = (ours * true).sum(axis=(1, 2, 3)) / np.sqrt(
        ((ours**2).sum(axis=(1, 2, 3)) * (true**2).sum(axis=(1, 2, 3))).clip(1e-12)
    )
    return [round(float(v), 2) for v in -10 * np.log10(apart[rows, columns])], [round(float(v), 2) for v in alike]


def ours(setting: str, steps: int) -> tuple[str, GradientAttack]:
    """The attack for a setting: the one that makes use of the statistics, where they are known."""
    if setting == "shared":
        return "grad-inversion", GradInversion(steps=steps, restarts=1)
    return "inverting-gradients", InvertingGradients(steps=steps)


def row(found: Array, x: Array, spent: float) -> dict[str, Any]:
    """The figures of one row."""
    db, alike = matched(found, x)
    return {
        "median_db": round(float(np.median(db)), 2),
        "psnr_db": db,
        "correlation": round(float(np.median(alike)), 2),
        "cpu_seconds": round(spent, 1),
    }


def controls(x: Array) -> dict[str, float]:
    """Median decibels of what needs no update: even pictures of one colour, from least to most that is known."""
    other = pictures("chosen on" if np.array_equal(x, pictures("reported")) else "reported")
    colours = {
        "middle_grey_db": np.full((1, 3, 1, 1), 0.5),
        "public_mean_db": other.mean(axis=(0, 2, 3), keepdims=True),
        "batch_mean_db": x.mean(axis=(0, 2, 3), keepdims=True),
        "own_mean_db": x.mean(axis=(2, 3), keepdims=True),
    }
    return {name: round(float(np.median(decibels(np.broadcast_to(c, x.shape), x))), 2) for name, c in colours.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400, help="evaluations of every attack")
    parser.add_argument("--width", type=int, default=16, help="of the network; the peer is asked at 16 alone")
    parser.add_argument("--pictures", default="reported", choices=["reported", "chosen on"])
    parser.add_argument("--seed", type=int, default=0, help="of the network's weights")
    parser.add_argument("--ours-only", action="store_true", help="without breaching")
    given = parser.parse_args()
    torch.set_num_threads(1)
    x, y = pictures(given.pictures), np.arange(4)
    with seeded(given.seed):
        module = convnet(CLASSES, given.width)
    net = ClientNet(module, SPEC, CLASSES)
    result: dict[str, Any] = controls(x)
    print(result, flush=True)
    for setting, (mode, statistics) in SETTINGS.items():
        told = {"labels": y[None]} | ({"statistics": (net.batch_statistics(x),)} if setting == "shared" else {})
        sent, known = captured(net, x[None], y[None], told, mode)
        name, attack = ours(setting, given.steps)
        begun = time.process_time()
        found = played(attack, sent, known).x
        result[f"{setting}.{name}"] = row(found, x, time.process_time() - begun)
        print(setting, name, result[f"{setting}.{name}"], flush=True)
        if not given.ours_only and given.width == 16:
            options = [f"optim.max_iterations={given.steps}", f"regularization.total_variation.scale={PEER_TV}"]
            made, spent = peer_batches(
                "convnet", module, x[None], y[None], "invertinggradients", options, True, statistics
            )
            result[f"{setting}.breaching"] = row(made[0], x, spent[0]) | {"quoted_db": QUOTED[setting]}
            print(setting, "breaching", result[f"{setting}.breaching"], flush=True)
    # What the attack shows of these records without their update: it is given one of other photographs.
    other = pictures("chosen on" if given.pictures == "reported" else "reported")
    sent, known = captured(net, other[None], y[None], {"labels": y[None]}, "train")
    begun = time.process_time()
    found = played(InvertingGradients(steps=given.steps), sent, known).x
    result["unknown.other_update"] = row(found, x, time.process_time() - begun)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
