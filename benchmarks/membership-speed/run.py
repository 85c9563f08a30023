"""How fast reference models are trained: many at once and in processes, against a loop; and the default audit.

The last line is one JSON object. Times are wall seconds of runs side by side, each the median of several; CPU seconds
stand beside them.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from seepage.audit.training import Trainer
from seepage.core.recipe import Recipe
from seepage.core.records import Records
from seepage.core.vocabulary import Modality
from seepage.data import load_builtin
from seepage.models import many
from seepage.models.nets import layered
from seepage.targets import infer_spec

ROOT = Path(__file__).resolve().parents[2]
DEFAULT = ROOT / "examples" / "membership.toml"
LAYOUTS = ((64,), (128, 128), (256, 256), (512,), (512, 512), (1024,), (3000,))
CORES = min(os.cpu_count() or 1, 2)


def clusters(n: int, features: int, classes: int, rng: np.random.Generator) -> Records:
    """A table of records around the centres of their classes, not wholly apart."""
    y = np.arange(n) % classes
    x = 0.5 + 0.06 * rng.normal(size=(classes, features))[y] + 0.15 * rng.normal(size=(n, features))
    names = tuple(map(str, range(classes)))
    return Records(x.clip(0, 1).astype(np.float32), y, names, modality=Modality.TABLE)


def timed(do: Callable[[], Any]) -> tuple[Any, float, float]:
    """What it gives, wall seconds, and CPU seconds of this process and its children that have ended."""
    wall, cpu = time.perf_counter(), _cpu()
    made = do()
    return made, time.perf_counter() - wall, _cpu() - cpu


def _cpu() -> float:
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def compare(
    name: str, recipe: Callable[[int], Recipe], subsets: Sequence[np.ndarray], test: Records, repeats: int
) -> dict[str, float]:
    """A loop over `Recipe.fit`, `fit_many` here, and `fit_many` in processes."""
    seeds = list(range(len(subsets)))
    ways: dict[str, Callable[[], Any]] = {
        "loop": lambda: [recipe(1).fit(rows, seed) for rows, seed in zip(subsets, seeds, strict=True)],
        "at_once": lambda: recipe(1).fit_many(subsets, seeds),
        "processes": lambda: recipe(CORES).fit_many(subsets, seeds),
    }
    # Processes are started once, as in an audit, and not counted.
    recipe(CORES).fit_many(subsets[:CORES], seeds[:CORES])
    walls: dict[str, list[float]] = {way: [] for way in ways}
    cpus: dict[str, list[float]] = {way: [] for way in ways}
    right: dict[str, float] = {}
    for _ in range(repeats):
        for way, do in ways.items():
            made, wall, cpu = timed(do)
            walls[way].append(wall)
            cpus[way].append(cpu)
            right[way] = float(np.mean([(m.predict(test.x).argmax(axis=1) == test.labels()).mean() for m in made]))
    found = {f"{way}_seconds": round(statistics.median(times), 3) for way, times in walls.items()}
    found |= {f"{way}_accuracy": round(value, 4) for way, value in right.items()}
    # Of processes that live on, the CPU seconds are not told to their parent.
    found |= {f"{way}_cpu_seconds": round(statistics.median(cpus[way]), 3) for way in ("loop", "at_once")}
    for way in ("at_once", "processes"):
        ratios = [slow / fast for slow, fast in zip(walls["loop"], walls[way], strict=True)]
        found[f"{way}_ratio"] = round(statistics.median(ratios), 2)
    print(name, found, flush=True)
    return found


def stacked_anyway(repeats: int) -> dict[str, float]:
    """CPU seconds of eight networks in a loop over those at once, by layout; large ones are stacked here too."""
    rng = torch.Generator().manual_seed(0)
    xs = [torch.rand(1000, 64, generator=rng) for _ in range(8)]
    ys = [torch.randint(10, (1000,), generator=rng) for _ in range(8)]
    found: dict[str, float] = {}
    schedule = many.Schedule(epochs=0, rate=3e-3, least=40)
    for hidden in LAYOUTS:
        build = partial(layered, (64,), 10, hidden)
        train = partial(many.fit_many, build, xs, ys, range(8), schedule)
        many.fit_one(build, xs[0], ys[0], 0, schedule)
        ratios: list[float] = []
        for _ in range(repeats):
            with patch.object(many, "WEIGHTS", sys.maxsize):
                fast = timed(train)[2]
            with patch.object(many, "WEIGHTS", 0):
                slow = timed(train)[2]
            ratios.append(slow / fast)
        found["-".join(map(str, (64, *hidden, 10)))] = round(statistics.median(ratios), 2)
    print("stacked", found, flush=True)
    return found


def default_audit() -> dict[str, Any]:
    """Wall and CPU seconds of `seepage audit examples/membership.toml` in an empty folder, or why there are none."""
    if not DEFAULT.is_file():
        return {"default_seconds": None, "default_reason": f"{DEFAULT.relative_to(ROOT)} is not there"}
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "seepage.cli.main", "audit", str(DEFAULT)]
        done, wall, cpu = timed(
            lambda: subprocess.run([*command, "--out", out, "--quiet"], check=False, capture_output=True, text=True)
        )
    if done.returncode != 0:
        return {"default_seconds": None, "default_reason": done.stderr.strip()[-500:]}
    return {"default_seconds": round(wall, 1), "default_cpu_seconds": round(cpu, 1)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    result: dict[str, Any] = {"cores": CORES}

    table = clusters(4000, 64, 10, rng)
    pool, test = table[np.arange(3000)], table[np.arange(3000, 4000)]
    trainer = Trainer.named("network", {"hidden": [64], "epochs": 10})
    spec = infer_spec(table)
    subsets = [np.sort(rng.permutation(3000)[:1000]) for _ in range(64)]
    result["mlp64"] = compare(
        "64 networks 64-64-10", lambda n: trainer.recipe(spec, pool, None, n), subsets, test, options.repeats
    )

    for label, pictures, epochs in (("cnn", load_builtin("digits"), 10), ("cnn28", load_builtin("mnist-5000"), 2)):
        pictures = pictures[rng.permutation(len(pictures))]
        pool, test = pictures[np.arange(1200)], pictures[np.arange(1200, 1700)]
        trainer = Trainer.named("cnn", {"epochs": epochs, "least": 1})
        spec = infer_spec(pictures)
        subsets = [np.sort(rng.permutation(1200)[:600]) for _ in range(16)]
        result[label] = compare(
            f"16 convolutional networks on {pictures.x.shape[2]}x{pictures.x.shape[3]}",
            lambda n, trainer=trainer, spec=spec, pool=pool: trainer.recipe(spec, pool, None, n),
            subsets,
            test,
            options.repeats,
        )
    for name in ("mlp64", "cnn", "cnn28"):
        result[f"{name}_ratio"] = max(result[name]["at_once_ratio"], result[name]["processes_ratio"])
    result["stacked_ratios"] = stacked_anyway(options.repeats)
    result |= default_audit()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
