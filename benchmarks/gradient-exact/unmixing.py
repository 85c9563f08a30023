"""Batches unmixed by `cocktail-party`: by components, and made exact, beside the same attack on another update.

`measure` is called by run.py of this folder. Nothing was chosen under the seed reported. CIFAR-10 is measured where the
environment variable SEEPAGE_CIFAR10 names a folder of its pictures, 1,000 a file, one a row (`cifar10_batch_0.png`).
"""

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pictures import photographs
from PIL import Image
from scipy.optimize import linear_sum_assignment
from torch import nn

from seepage.attacks.gradient.kariyappa2023 import CocktailParty
from seepage.core.assumptions import Assumptions, Rung
from seepage.core.guess import Reconstruction
from seepage.core.knowledge import GradientKnowledge
from seepage.core.seeds import derive, stream
from seepage.core.spec import InputSpec
from seepage.core.target import Target
from seepage.core.victim import Updates
from seepage.data import load_builtin
from seepage.models.client_nets import client_net
from seepage.models.federated import ClientNet, LocalTraining
from seepage.models.nets import Centred, mlp
from seepage.models.training import seeded

CLASSES, WIDTH = 10, 300
BATCHES = (8, 16, 32, 64)
# The one batch that is wider than that: behind ReLU, where it takes seconds.
LARGE, LARGE_WIDTH = 128, 512


# Features of a later layer, in CIFAR-like networks; and the search from them to pictures.
LATER = (("hidden-cnn", 4), ("hidden-cnn", 8), ("hidden-cnn", 16), ("hidden-cnn", 32), ("relu-cnn", 4), ("relu-cnn", 8))


def hidden_cnn(shape: tuple[int, ...], classes: int, width: int) -> nn.Module:
    """Two convolutions, each pooled, and a hidden layer before the logits: the shape of a stock tutorial network."""
    maps = [nn.Conv2d(shape[0], 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    maps += [nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    features = 32 * (shape[1] // 4) * (shape[2] // 4)
    return nn.Sequential(Centred(), *maps, nn.Linear(features, width), nn.ReLU(), nn.Linear(width, classes))


def faces(n: int, rng: np.random.Generator) -> np.ndarray:
    """(n, 1, 32, 32) different pictures of the AT&T faces: up to ten of a person."""
    x = load_builtin("att-faces", size=32).x
    return x[rng.choice(len(x), n, replace=False)]


def cifar(n: int, rng: np.random.Generator) -> np.ndarray:
    """(n, 3, 32, 32) different pictures of CIFAR-10."""
    rows = np.asarray(Image.open(Path(os.environ["SEEPAGE_CIFAR10"]) / "cifar10_batch_0.png"))
    picked = rows[rng.choice(len(rows), n, replace=False)].reshape(n, 32, 32, 3)
    return picked.transpose(0, 3, 1, 2).astype(np.float32) / 255


SETS = {"faces": faces, "photographs": photographs, "cifar10": cifar}


def decibels(found: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Of each reconstruction, matched one to one with the records."""
    apart = ((found[:, None] - x[None]) ** 2).reshape(len(found), len(x), -1).mean(axis=2)
    return -10 * np.log10(apart[linear_sum_assignment(apart)] + 1e-40)


def one(kind: str, data: str, batch: int, width: int, seed: int) -> dict[str, float]:
    """Decibels and seconds on one batch in single precision."""
    rng = stream(seed, "unmixing", kind, data, str(batch))
    x, other = SETS[data](batch, rng), SETS[data](batch, rng)
    spec = InputSpec(x.shape[1:])
    if kind == "relu-mlp":
        body = client_net(kind, spec.shape, CLASSES, derive(seed, kind), hidden=width)
    elif kind == "relu-cnn":
        body = client_net(kind, spec.shape, CLASSES, derive(seed, kind))
    else:
        with seeded(derive(seed, kind)):
            body = (hidden_cnn if kind == "hidden-cnn" else mlp)(spec.shape, CLASSES, width)
    net = ClientNet(body, spec, CLASSES)
    known = Assumptions(batch=Rung.known(batch))
    knowledge = GradientKnowledge(spec=spec, net=net, classes=CLASSES, assumptions=known)
    y = rng.integers(CLASSES, size=batch)

    def played(records: np.ndarray, attack: CocktailParty) -> Reconstruction:
        sent = net.round(records, y, LocalTraining(), stream(seed, "client"), torch.float32)
        return attack.run(Target(Updates((sent,)), attack.needs), knowledge, stream(seed, "attack"))

    near = decibels(played(x, CocktailParty(closing=False)).x, x)
    null = decibels(played(other, CocktailParty(closing=False)).x, x)
    even = decibels(np.full_like(x, x.mean()), x)
    begun = time.process_time()
    whole = played(x, CocktailParty())
    seconds = time.process_time() - begun
    final = decibels(whole.x, x)
    return {
        "components_db": round(float(np.median(near)), 1),
        "median_db": round(float(np.median(final)), 1),
        "exact": int((final >= 60).sum()),
        "confirmed": int(whole.facts["records_confirmed"] or 0),
        "of": batch,
        "constant_db": round(float(np.median(even)), 1),
        "other_update_db": round(float(np.median(null)), 1),
        "seconds": round(seconds, 2),
    }


def measure(seed: int = 7) -> dict[str, Any]:
    """Every row by name, and whether CIFAR-10 was there."""
    found: dict[str, Any] = {}
    sets = [name for name in SETS if name != "cifar10" or os.environ.get("SEEPAGE_CIFAR10")]
    rows = [(kind, data, b, WIDTH) for data in sets for kind in ("relu-mlp", "sigmoid-mlp") for b in BATCHES]
    rows += [("relu-mlp", data, LARGE, LARGE_WIDTH) for data in sets]
    rows += [(kind, data, b, WIDTH) for data in sets for kind, b in LATER]
    for kind, data, batch, width in rows:
        row = one(kind, data, batch, width, seed)
        found[f"cocktail.{kind}.{data}.b{batch}"] = row
        print(f"cocktail party, {kind}, {data}, batch {batch}: {row}", flush=True)
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(measure()))
