"""Exact attacks on updates: whole batches behind a ReLU layer, whole texts, labels. Prints one JSON object last.

python benchmarks/gradient-exact/run.py [--only spear | --all]
"""

import argparse
import importlib.util
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pictures import photographs
from scipy.optimize import linear_sum_assignment
from sklearn.datasets import load_digits
from torch import nn

from seepage.attacks.gradient.entry import entry
from seepage.attacks.gradient.record_columns import Behind
from seepage.attacks.gradient.solving import Layer, solve
from seepage.core.spec import InputSpec
from seepage.models.federated import ClientNet, LocalTraining
from seepage.models.training import seeded

HERE = Path(__file__).parent
WIDTH, CLASSES, SAMPLES = 500, 10, 200_000
BATCHES = (8, 12, 16, 20)
# Most was chosen with seeds below 50,000; that directions are told by the network, because some of these fell short.
# Under the fresh ones nothing was chosen.
SEEDS, FRESH = range(90_000, 90_005), range(120_000, 120_010)
PHOTOS = InputSpec((3, 32, 32), mean=(0.4914, 0.4822, 0.4465), std=(0.247, 0.243, 0.262))
DATA: dict[str, InputSpec] = {
    "photographs": PHOTOS,
    "photographs, not normalised": InputSpec((3, 32, 32)),
    "digits": InputSpec((1, 8, 8), mean=(0.1307,), std=(0.3081,)),
}
ROWS = (("photographs", "float64"), *((data, "float32") for data in DATA))
EXACT_DB = 60.0


def digits(n: int, rng: np.random.Generator) -> np.ndarray:
    """(n, 1, 8, 8) different digits of scikit-learn."""
    data = load_digits().data
    return (data[rng.choice(len(data), n, replace=False)] / 16).reshape(n, 1, 8, 8).astype(np.float32)


def one(data: str, batch: int, dtype: torch.dtype, seed: int) -> tuple[float, float, bool]:
    """CPU seconds, the worst PSNR (dB) of the batch, and whether every record was determined."""
    spec, rng = DATA[data], np.random.default_rng(seed * 100 + batch)
    x = digits(batch, rng) if data == "digits" else photographs(batch, rng)
    with seeded(seed * 100 + batch):
        body = nn.Sequential(nn.Flatten(), nn.Linear(spec.size, WIDTH), nn.ReLU(), nn.Linear(WIDTH, CLASSES))
    net = ClientNet(body, spec, CLASSES)
    update = net.round(x, rng.integers(CLASSES, size=batch), LocalTraining(), rng, dtype)
    first = entry(net)
    assert first is not None
    began = time.process_time()
    found = solve(Layer.read(net, first, update), batch, SAMPLES, np.random.default_rng(seed), Behind(net, first))
    seconds = time.process_time() - began
    records = first.records(found.inputs, spec.shape).astype(np.float64)
    apart = ((records[:, None] - x[None]) ** 2).reshape(len(records), batch, -1).mean(axis=2)
    pairs = linear_sum_assignment(apart)
    worst = -10 * np.log10(apart[pairs].max() + 1e-40) if len(pairs[0]) == batch else 0.0
    return seconds, float(worst), found.found == batch


def spear() -> dict[str, Any]:
    """Seconds (the median over the seeds of the claim) by size of batch, and every row with its PSNR."""
    # The first run pays for what is loaded on first use.
    one("digits", 4, torch.float64, 1)
    found: dict[str, Any] = {}
    exact = True
    for data, precision in ROWS:
        for batch in BATCHES:
            runs = [one(data, batch, getattr(torch, precision), seed) for seed in SEEDS]
            seconds, worst, determined = (list(column) for column in zip(*runs, strict=True))
            row = {
                "seconds_median": round(float(np.median(seconds)), 3),
                "seconds_worst": round(max(seconds), 3),
                "exact": sum(db >= EXACT_DB for db in worst),
                "determined": sum(determined),
                "of": len(runs),
                "worst_db": [round(db, 1) for db in worst],
            }
            found[f"spear.{data}.{precision}.b{batch}"] = row
            print(f"{data}, {precision}, batch {batch}: {row}", flush=True)
            if (data, precision) == ROWS[0]:
                found[f"spear_b{batch}_s"] = row["seconds_median"]
                exact = exact and row["exact"] == len(runs)
    return {**found, "spear_exact": exact}


def fresh() -> dict[str, Any]:
    """The same on seeds that nothing was chosen by; what cannot be closed is sought long, which takes minutes."""
    found: dict[str, Any] = {}
    for data in ("photographs", "photographs, not normalised"):
        for batch in BATCHES:
            runs = [one(data, batch, torch.float64, seed) for seed in FRESH]
            row = {
                "exact": sum(db >= EXACT_DB for _, db, _ in runs),
                "determined": sum(whole for *_, whole in runs),
                "of": len(runs),
                "seconds_median": round(float(np.median([s for s, *_ in runs])), 3),
                "seconds_worst": round(max(s for s, *_ in runs), 3),
            }
            found[f"spear.{data}.fresh.b{batch}"] = row
            print(f"{data}, fresh seeds, batch {batch}: {row}", flush=True)
    return found


def beside(name: str) -> dict[str, Any]:
    """What `measure` of the file beside this one reports; nothing where there is no such file."""
    path = HERE / f"{name}.py"
    if not path.exists():
        return {}
    spec = importlib.util.spec_from_file_location(f"gradient_exact_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return dict(module.measure())


KEYS = (
    *(f"spear_b{batch}_s" for batch in BATCHES),
    "dager_4x12_s",
    "dager_16x15_s",
    "all_exact",
    "label_recall_untrained_b64",
    "label_recall_trained_b64",
)


# Measured by default, in a few minutes; and what else can be.
CLAIMED, FURTHER = ("text", "labels", "spear", "imprint"), ("unmixing", "recursive", "fresh")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=[*CLAIMED, *FURTHER], help="these rows only")
    parser.add_argument("--all", action="store_true", help="also the rows that take many minutes")
    given = parser.parse_args()
    wanted = (given.only,) if given.only else CLAIMED + FURTHER if given.all else CLAIMED
    torch.set_num_threads(1)
    found: dict[str, Any] = dict.fromkeys(KEYS)
    parts: dict[str, Any] = {"spear": spear, "text": lambda: beside("text"), "labels": lambda: beside("labels")}
    parts |= {"unmixing": lambda: beside("unmixing"), "recursive": lambda: beside("recursive"), "fresh": fresh}
    parts |= {"imprint": lambda: beside("imprint")}
    for name in wanted:
        found |= parts[name]()
    said = [found[key] for key in ("spear_exact", "dager_exact") if found.get(key) is not None]
    found["all_exact"] = all(said) if said else None
    print(json.dumps(found))


if __name__ == "__main__":
    main()
