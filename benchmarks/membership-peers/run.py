"""Membership attacks of Privacy Meter, PrivacyGuard and ART beside ours: same victims, records, references and answers.

ART and PrivacyGuard are installed into folders of their own under runs/, Privacy Meter is read from a checkout (see
README.md); none is a dependency of Seepage. The last line is one JSON object.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seepage.audit.training import Trainer
from seepage.core.attack import MembershipAttack
from seepage.core.knowledge import MembershipKnowledge
from seepage.core.records import Records
from seepage.core.references import References
from seepage.core.registry import attack_class
from seepage.core.seeds import derive, stream
from seepage.core.spec import InputSpec
from seepage.core.target import Target
from seepage.core.vocabulary import Access, Modality

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DATA = Path(os.environ.get("SEEPAGE_TEST_DATA", ROOT.parent / "shared" / "data")) / "location30"
SEED = 0
POOL, CLASSES, TARGETS = 4000, 30, 8
NUMBERS = (4, 16)
RECIPE = ("network", {"hidden": [128], "epochs": 30, "rate": 3e-3})
RATES = {"tpr_10": 0.1, "tpr_1": 0.01, "tpr_0_1": 0.001}
# What pip is asked for, without dependencies: NumPy, SciPy, scikit-learn and torch are those of this checkout.
PACKAGES = {
    "art": ("adversarial-robustness-toolbox==1.20.1", "six"),
    "privacy-guard": ("privacyguard-platform==0.0.2", "pandas<3", "pytz", "tzdata", "python-dateutil"),
}
OURS: dict[str, tuple[str, dict[str, Any]]] = {
    "threshold": ("threshold", {}),
    "references": ("references", {}),
    "student-t": ("student-t", {}),
    "rmia": ("rmia", {}),
    "rmia, offline": ("rmia", {"mode": "offline"}),
    "base": ("base", {}),
    "lira": ("lira", {}),
    "lira, per-example": ("lira", {"variance": "per-example"}),
    "lira, offline": ("lira", {"mode": "offline"}),
    "shadow-classifier": ("shadow-classifier", {}),
}


@dataclass(frozen=True)
class Asked:
    """A victim of which the answers to some records are kept."""

    spec: InputSpec
    answers: dict[bytes, np.ndarray]
    family: str = "network"
    offers: frozenset[Access] = frozenset({Access.SCORES})
    classes: int = CLASSES

    def predict(self, x: np.ndarray) -> np.ndarray:
        return np.stack([self.answers[row.tobytes()] for row in x])


@dataclass(frozen=True)
class Kept:
    """Reference models of which the answers are kept (`core.references.ReferenceSource`)."""

    found: References

    @property
    def models(self) -> int:
        return len(self.found)

    @property
    def population(self) -> Records | None:
        return self.found.population

    def get(self) -> References:
        return self.found

    def behind(self, defense: object) -> "Kept":
        raise NotImplementedError("no defense here")


def records() -> Records:
    """Location-30 in an order drawn by the seed."""
    with tarfile.open(DATA / "dataset_location.tgz") as archive:
        file = archive.extractfile("bangkok")
        if file is None:
            raise SystemExit(f"{DATA} holds no table 'bangkok'")
        table = np.loadtxt(io.StringIO(file.read().decode().replace('"', "")), delimiter=",", dtype=np.float32)
    names = tuple(str(i + 1) for i in range(CLASSES))
    found = Records(table[:, 1:], table[:, 0].astype(np.int64) - 1, names, modality=Modality.TABLE)
    return found[stream(SEED, "peers", "order").permutation(len(found))]


def design() -> np.ndarray:
    """(k, n) who is trained on what: the victims by halves of their own, the references in complementary pairs."""
    rng = stream(SEED, "peers", "design")

    def half() -> np.ndarray:
        row = np.zeros(POOL, dtype=bool)
        row[rng.permutation(POOL)[: POOL // 2]] = True
        return row

    victims = [half() for _ in range(TARGETS)]
    pairs = [half() for _ in range(max(NUMBERS) // 2)]
    return np.stack([*victims, *(row for one in pairs for row in (one, ~one))])


def trained(everything: Records, inside: np.ndarray) -> tuple[np.ndarray, float]:
    """(k, N, c) answers of all models to all records, and the CPU seconds they took."""
    spec = InputSpec(everything.x.shape[1:], modality=Modality.TABLE)
    recipe = Trainer.named(*RECIPE).recipe(spec, everything[np.arange(POOL)], None)
    began, told = time.process_time(), list[np.ndarray]()
    for start in range(0, len(inside), 8):
        part = inside[start : start + 8]
        seeds = [derive(SEED, "peers", str(start + i)) for i in range(len(part))]
        for model in recipe.fit_many([np.nonzero(row)[0] for row in part], seeds):
            told.append(Target(model, {Access.SCORES}).scores(everything.x))
        print(f"trained {len(told)} of {len(inside)} models", flush=True)
    return np.stack(told).astype(np.float32), time.process_time() - began


def figures(values: np.ndarray, member: np.ndarray) -> list[float]:
    """AUC, and at each rate the members that score above all but so many non-members; ties find nobody."""
    pos, neg = values[member], np.sort(values[~member])
    below = np.searchsorted(neg, pos) + np.searchsorted(neg, pos, side="right")
    auc = float(below.mean()) / 2 / len(neg)
    return [auc, *(float((pos > neg[-1 - int(rate * len(neg))]).mean()) for rate in RATES.values())]


def row(values: np.ndarray, members: np.ndarray, seconds: float) -> dict[str, float]:
    """The mean over the victims, and CPU seconds for one of them."""
    found = np.mean([figures(*one) for one in zip(values, members, strict=True)], axis=0)
    named = {name: round(float(value), 4) for name, value in zip(("auc", *RATES), found, strict=True)}
    return named | {"cpu_seconds": round(seconds, 3)}


def ours(everything: Records, told: np.ndarray, inside: np.ndarray) -> dict[str, dict[str, float]]:
    """Our attacks as an audit runs them, rehearsals included."""
    pool, people = everything[np.arange(POOL)], everything[np.arange(POOL, len(everything))]
    spec = InputSpec(everything.x.shape[1:], modality=Modality.TABLE)
    keys, made = [row.tobytes() for row in everything.x], dict[str, dict[str, float]]()
    for number in NUMBERS:
        chosen = slice(TARGETS, TARGETS + number)
        found = References(inside[chosen], told[chosen, :POOL], people, told[chosen, POOL:])
        knowledge = MembershipKnowledge(candidates=pool, references=Kept(found))
        for label, (name, options) in OURS.items():
            attack = attack_class(name)(**options)
            if not isinstance(attack, MembershipAttack):
                raise TypeError(f"{name} is no attack on membership")
            values, seconds = list[np.ndarray](), 0.0
            for t in range(TARGETS):
                target = Target(Asked(spec, dict(zip(keys, told[t], strict=True))), attack.needs)
                began = time.process_time()
                values.append(attack.run(target, knowledge, stream(SEED, "peers", label)).values)
                seconds += time.process_time() - began
            made[f"{number}.seepage {label}"] = row(np.stack(values), inside[:TARGETS], seconds / TARGETS)
            print(number, label, made[f"{number}.seepage {label}"], flush=True)
    return made


def installed(peer: str, checkout: Path | None, folder: Path) -> Path | str:
    """Where a peer's code is, installed if need be; or why it is not there."""
    if peer == "privacy-meter":
        if checkout is None:
            return "it cannot be installed by pip: give a checkout of its repository (--privacy-meter FOLDER)"
        return checkout if (checkout / "attacks.py").is_file() else f"{checkout} holds no attacks.py"
    place = folder / peer
    if not place.is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(place)]
        done = subprocess.run([*command, *PACKAGES[peer]], capture_output=True, text=True, check=False)
        if done.returncode:
            return f"pip could not install it: {done.stderr.strip().splitlines()[-1]}"
    return place


def theirs(peer: str, place: Path, job: Path, members: np.ndarray) -> dict[str, dict[str, float]]:
    """What a peer makes of the same answers."""
    path = {**os.environ, "PYTHONPATH": str(place), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, str(HERE / "peer.py"), str(job), peer], check=True, env=path)
    with np.load(job / f"{peer}.npz") as found:
        names = [key for key in found.files if not key.endswith("|seconds")]
        rows = {key: row(found[key], members, float(found[f"{key}|seconds"])) for key in names}
    return {"{0}.{2} {1}".format(*key.split("|"), peer): values for key, values in rows.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--privacy-meter", type=Path, help="a checkout of privacytrustlab/ml_privacy_meter")
    options = parser.parse_args()
    if not (DATA / "dataset_location.tgz").is_file():
        print(json.dumps({"reason": f"Location-30 is not at {DATA}: set SEEPAGE_TEST_DATA to the folder of data sets"}))
        return
    torch.set_num_threads(1)
    everything, inside = records(), design()
    told, seconds = trained(everything, inside)
    labels = everything.labels()
    right = told[:TARGETS, :POOL].argmax(axis=2) == labels[:POOL]
    result: dict[str, Any] = {
        "training_cpu_seconds": round(seconds, 1),
        "accuracy_members": round(float(right[inside[:TARGETS]].mean()), 4),
        "accuracy_nonmembers": round(float(right[~inside[:TARGETS]].mean()), 4),
    }
    print(result, flush=True)
    result |= ours(everything, told, inside)
    folder = ROOT / "runs" / "bench" / "membership-peers"
    with tempfile.TemporaryDirectory() as place:
        job = Path(place)
        np.savez(
            job / "answers.npz",
            candidates=told[:, :POOL],
            population=told[:, POOL:],
            inside=inside,
            labels=labels[:POOL],
            people_labels=labels[POOL:],
            targets=TARGETS,
            numbers=NUMBERS,
        )
        for peer in ("privacy-meter", "privacy-guard", "art"):
            at = installed(peer, options.privacy_meter, folder)
            if isinstance(at, str):
                result[peer] = {"reason": at}
                print(f"{peer} is left out: {at}", flush=True)
            else:
                result |= theirs(peer, at, job, inside[:TARGETS])
    for name, values in result.items():
        if isinstance(values, dict) and "auc" in values:
            print("| " + " | ".join([name, *(f"{value:.3f}" for value in values.values())]) + " |", flush=True)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
