"""Attacks on membership with 2 to 32 reference models on Location-30, as AUC and members found at 1 and 0.1 %.

The last line is one JSON object. Models are trained once and their answers kept under `runs/`.
"""

import argparse
import io
import json
import os
import tarfile
import time
from pathlib import Path

import numpy as np
import torch
from scipy.stats import rankdata

from seepage.attacks.membership.brannvall2026 import StudentT
from seepage.attacks.membership.by_number import ByNumber
from seepage.attacks.membership.carlini2022 import LiRA
from seepage.attacks.membership.lassila2025 import BASE
from seepage.attacks.membership.reference import ReferenceAttack, Signals
from seepage.attacks.membership.shokri2017 import ShadowClassifier
from seepage.attacks.membership.signals import log_confidence
from seepage.attacks.membership.zarifzadeh2024 import RMIA
from seepage.audit.halves import halves
from seepage.core.records import Records
from seepage.core.seeds import stream
from seepage.core.vocabulary import Modality
from seepage.models.recipes import fit_networks

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("SEEPAGE_TEST_DATA", ROOT.parent / "shared" / "data")) / "location30"
POOL, TARGETS, REFERENCES = 4000, 8, 32
NUMBERS = (2, 4, 8, 16, 32)
OPTIONS = {"hidden": [128], "epochs": 30, "rate": 3e-3}
ATTACKS: dict[str, ReferenceAttack] = {
    "references": ByNumber(),
    "student-t": StudentT(),
    "student-t offline": StudentT(mode="offline"),
    "rmia": RMIA(),
    "rmia offline": RMIA(mode="offline"),
    "base": BASE(),
    "base offline": BASE(mode="offline"),
    "lira pooled": LiRA(variance="pooled"),
    "lira per-example": LiRA(variance="per-example"),
    "lira offline pooled": LiRA(mode="offline", variance="pooled"),
    "shadow-classifier": ShadowClassifier(),
}
# Averaged by rank.
TOGETHER = (("base", "student-t"), ("rmia offline", "student-t"))
# Measured before by a prototype, with independent halves and Adam at one rate: AUC, members found at 1 and at 0.1 %.
BEFORE = {
    ("student-t", 4): (0.937, 0.299, 0.108),
    ("rmia", 4): (0.922, 0.212, 0.066),
    ("student-t", 32): (0.960, 0.522, 0.282),
    ("rmia", 32): (0.961, 0.525, 0.294),
}


def records() -> Records:
    """Location-30: where people of Bangkok went, and which of 30 kinds of people they are."""
    with tarfile.open(DATA / "dataset_location.tgz") as archive:
        file = archive.extractfile("bangkok")
        if file is None:
            raise SystemExit(f"{DATA} holds no table 'bangkok'")
        table = np.loadtxt(io.StringIO(file.read().decode().replace('"', "")), delimiter=",", dtype=np.float32)
    names = tuple(str(i) for i in range(1, 31))
    return Records(table[:, 1:], table[:, 0].astype(np.int64) - 1, names, modality=Modality.TABLE)


def answers(everything: Records, seed: int, folder: Path) -> tuple[np.ndarray, np.ndarray, float]:
    """(k, n, c) answers of targets and references to all records, (k, n) which were trained on, and CPU seconds."""
    rng = stream(seed, "location30", "design")
    targets = np.zeros((TARGETS, POOL), dtype=bool)
    for row in targets:
        row[rng.permutation(POOL)[: POOL // 2]] = True
    inside = np.concatenate([targets, halves(POOL, REFERENCES, rng)])
    kept = folder / f"location30-{seed}.npz"
    if kept.is_file():
        with np.load(kept) as arrays:
            return arrays["answers"], inside, float(arrays["seconds"])
    began = time.process_time()
    pool = everything[np.arange(POOL)]
    nets = []
    for start in range(0, len(inside), 8):
        chosen = [np.nonzero(row)[0] for row in inside[start : start + 8]]
        xs, ys = [pool.x[rows] for rows in chosen], [pool.labels()[rows] for rows in chosen]
        nets += fit_networks(xs, ys, range(seed * 1000 + start, seed * 1000 + start + 8), **OPTIONS, classes=30)
        print(f"trained {len(nets)} of {len(inside)} models", flush=True)
    with torch.no_grad():
        x = torch.from_numpy(everything.x)
        found = np.stack([torch.softmax(net(x), dim=1).numpy() for net in nets])
    seconds = time.process_time() - began
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(kept, answers=found, seconds=seconds)
    return found, inside, seconds


def figures(values: np.ndarray, member: np.ndarray) -> tuple[float, float, float]:
    """AUC, and members above all but 1 % and 0.1 % of the non-members."""
    inside, outside = values[member], np.sort(values[~member])
    auc = np.mean(np.searchsorted(outside, inside) + np.searchsorted(outside, inside, side="right")) / 2 / len(outside)
    found = [float((inside > outside[-1 - int(rate * len(outside))]).mean()) for rate in (0.01, 0.001)]
    return float(auc), found[0], found[1]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "benchmarks")
    options = parser.parse_args()
    if not (DATA / "dataset_location.tgz").is_file():
        print(json.dumps({"reason": f"Location-30 is not at {DATA}: set SEEPAGE_TEST_DATA to the folder of data sets"}))
        return
    torch.set_num_threads(1)
    everything = records()
    everything = everything[stream(options.seed, "location30", "order").permutation(len(everything))]
    told, inside, seconds = answers(everything, options.seed, options.runs)
    pool, people = everything[np.arange(POOL)], everything[np.arange(POOL, len(everything))]
    right = told[:, :POOL].argmax(axis=2) == pool.labels()
    result: dict[str, object] = {
        "training_cpu_seconds": round(seconds, 1),
        "accuracy_inside": round(float(right[inside].mean()), 4),
        "accuracy_outside": round(float(right[~inside].mean()), 4),
    }
    print(
        f"{len(inside)} models in {seconds:.0f} CPU s, right about {result['accuracy_inside']} of what they know and "
        f"{result['accuracy_outside']} of what they do not",
        flush=True,
    )
    plain = [figures(log_confidence(told[t, :POOL], pool), inside[t]) for t in range(TARGETS)]
    result["loss"] = _row(plain)
    for number in NUMBERS:
        ranked: dict[str, list[np.ndarray]] = {name: [] for name in ATTACKS}
        for name, attack in ATTACKS.items():
            began, found = time.process_time(), []
            facts: dict[str, object] = {}
            for target in range(TARGETS):
                chosen = slice(TARGETS, TARGETS + number)
                signals = Signals(
                    inside[chosen],
                    attack.signal(told[target, :POOL], pool),
                    attack.signal(told[chosen, :POOL], pool),
                    attack.signal(told[target, POOL:], people),
                    attack.signal(told[chosen, POOL:], people),
                    pool,
                )
                settled, facts = attack.settled(signals)
                values = settled.judged(signals)
                ranked[name].append(rankdata(values))
                found.append(figures(values, inside[target]))
            row = _row(found) | {"ms": round((time.process_time() - began) / TARGETS * 1e3, 1)}
            result[f"{number} {name}"] = row
            print(number, name, row, BEFORE.get((name, number), ""), dict(facts), flush=True)
        for pair in TOGETHER:
            both = [sum(ranks) for ranks in zip(*(ranked[name] for name in pair), strict=True)]
            row = _row([figures(np.asarray(one), inside[target]) for target, one in enumerate(both)])
            result[f"{number} {' + '.join(pair)}"] = row
            print(number, " + ".join(pair), row, flush=True)
    for number in NUMBERS:
        result[f"refs_{number}"] = result[f"{number} references"]
    print(json.dumps(result))


def _row(found: list[tuple[float, float, float]]) -> dict[str, float]:
    auc, one, tenth = np.mean(found, axis=0)
    return {"auc": round(float(auc), 4), "tpr_1": round(float(one), 4), "tpr_0_1": round(float(tenth), 4)}


if __name__ == "__main__":
    main()
