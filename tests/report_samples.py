"""Synthetic runs for the tests of the report: no model behind them, no real face in them."""

import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from seepage.core.record import (
    Applied,
    Artifact,
    AuditRecord,
    Check,
    Config,
    Estimate,
    Exposure,
    Failure,
    Finding,
    GateResult,
    LeftOut,
    Run,
    Score,
    Tool,
    Verdict,
)
from seepage.core.vocabulary import Access, Leak

Array = np.ndarray
Arrays = dict[str, dict[str, Array]]

PEOPLE = 20
NAMES = tuple(f"s{k}" for k in range(21, 21 + PEOPLE))
FREDRIKSON = (
    "Fredrikson, Jha, Ristenpart, 2015, Model inversion attacks that exploit confidence information and basic "
    "countermeasures, CCS"
)
YEOM = "Yeom, Giacomelli, Fredrikson, Jha, 2018, Privacy risk in machine learning, CSF"
ROUND = Applied(name="round", params={"digits": 1})


def wilson(k: float, n: int) -> Estimate:
    """The share k/n with its Wilson score interval (95 %)."""
    z, p = 1.96, k / n
    middle, half = p + z * z / 2 / n, z * math.sqrt(p * (1 - p) / n + z * z / 4 / n / n)
    low, high = (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)
    return Estimate(value=p, low=min(max(low, 0.0), p), high=max(min(high, 1.0), p))


def gap(a: Estimate, b: Estimate) -> Estimate:
    """a - b by the square-and-add rule."""
    value = a.value - b.value
    return Estimate(
        value=value,
        low=value - math.hypot(a.value - a.low, b.high - b.value),
        high=value + math.hypot(a.high - a.value, b.value - b.low),
    )


def face(person: int, shot: int = 0, side: int = 32) -> Array:
    """A drawn face, (1, side, side) in [0, 1]: `person` fixes its features, `shot` its pose and light."""
    own, now = np.random.default_rng([7, person]), np.random.default_rng([11, person, shot])
    size = side * 4
    skin, hair = own.uniform(120, 225), own.uniform(10, 150)
    wide, tall = own.uniform(0.27, 0.37), own.uniform(0.36, 0.44)
    cx, cy = size * (0.5 + now.normal(0, 0.012)), size * (0.54 + now.normal(0, 0.01))
    image = Image.new("L", (size, size), int(own.uniform(50, 110)))
    draw = ImageDraw.Draw(image)

    def oval(x: float, y: float, w: float, h: float, shade: float) -> None:
        draw.ellipse([cx + (x - w) * size, cy + (y - h) * size, cx + (x + w) * size, cy + (y + h) * size], int(shade))

    draw.ellipse([cx - 0.42 * size, size * 0.88, cx + 0.42 * size, size * 1.4], int(own.uniform(20, 200)))
    oval(0, -0.07, wide + own.uniform(0.02, 0.07), tall + own.uniform(0.0, 0.06), hair)
    oval(0, 0.03, wide, tall * 0.95, skin)
    if own.random() < 0.6:
        draw.chord(
            [cx - wide * size, cy - (tall + 0.02) * size, cx + wide * size, cy - own.uniform(0.05, 0.16) * size],
            180,
            360,
            int(hair),
        )
    apart, eye = own.uniform(0.11, 0.16), own.uniform(-0.06, -0.02)
    for sign in (-1, 1):
        oval(sign * apart, eye, 0.05, own.uniform(0.02, 0.03), min(skin + 45, 255))
        oval(sign * apart, eye, 0.022, 0.022, 25)
        oval(sign * apart, eye - own.uniform(0.05, 0.08), 0.065, 0.013, hair * 0.7)
    nose = own.uniform(0.07, 0.13)
    draw.line([cx, cy + eye * size, cx + own.normal(0, 2), cy + (eye + nose) * size], int(skin * 0.72), 3)
    oval(0, eye + nose, own.uniform(0.03, 0.05), 0.016, skin * 0.7)
    mouth = own.uniform(0.17, 0.22)
    if own.random() < 0.35:
        oval(0, mouth + 0.05, wide * 0.72, 0.13, hair * 0.8 + 20)
    oval(0, mouth, own.uniform(0.07, 0.12), own.uniform(0.012, 0.03), skin * 0.5)
    if own.random() < 0.3:
        for sign in (-1, 1):
            x, y, r = cx + sign * apart * size, cy + eye * size, 0.075 * size
            draw.ellipse([x - r, y - r, x + r, y + r], outline=20, width=4)
        draw.line([cx - 0.05 * size, cy + eye * size, cx + 0.05 * size, cy + eye * size], 20, 4)
    small = np.asarray(image.resize((side, side), Image.Resampling.LANCZOS), dtype=np.float32) / 255
    return np.clip(small * now.uniform(0.9, 1.08) + now.normal(0, 0.012, small.shape), 0, 1).astype(np.float32)[None]


def blurred(x: Array, radius: float) -> Array:
    """Each picture of (n, 1, h, w), smoothed."""
    out = [
        np.asarray(Image.fromarray((p[0] * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(radius))) for p in x
    ]
    return (np.stack(out)[:, None] / 255).astype(np.float32)


def inversion_arrays(hits: int, blur: float, noise: float, seed: int, colour: bool = False) -> dict[str, Array]:
    """A gallery in which the judge recognises `hits` people."""
    rng = np.random.default_rng(seed)
    real = np.stack([face(p) for p in range(PEOPLE)])
    public = np.stack([face(100 + p) for p in range(PEOPLE)])
    nearest = public[((real[:, None] - public[None]) ** 2).mean((2, 3, 4)).argmin(1)]
    order = rng.permutation(PEOPLE)
    recognised = np.isin(np.arange(PEOPLE), order[:hits])
    keep = np.where(recognised, rng.uniform(0.72, 0.95, PEOPLE), rng.uniform(0.1, 0.35, PEOPLE))[:, None, None, None]
    other = np.stack([face(p) for p in (np.arange(PEOPLE) + 7) % PEOPLE])
    mixed = keep * blurred(real, blur) + (1 - keep) * (0.5 * blurred(other, blur) + 0.5 * public.mean(0))
    reconstruction = np.clip(mixed + rng.normal(0, noise, real.shape), 0, 1).astype(np.float32)
    null = np.clip(blurred(public, blur) * 0.7 + public.mean(0) * 0.3 + rng.normal(0, noise, real.shape), 0, 1)
    confidence = np.where(recognised, rng.uniform(0.55, 0.995, PEOPLE), rng.uniform(0.0, 0.3, PEOPLE))
    arrays = {
        "labels": np.arange(PEOPLE),
        "real": real,
        "reconstruction": reconstruction,
        "nearest_public": nearest,
        "null_reconstruction": null.astype(np.float32),
        "judge_class": np.where(recognised, np.arange(PEOPLE), (np.arange(PEOPLE) + 7) % PEOPLE),
        "judge_confidence": confidence.astype(np.float32),
        "judge_rank": np.where(recognised, 1, rng.integers(2, 9, PEOPLE)),
        "null_judge_confidence": rng.uniform(0, 0.25, PEOPLE).astype(np.float32),
        "nearest_judge_confidence": rng.uniform(0, 0.45, PEOPLE).astype(np.float32),
        "class_names": np.array(NAMES),
        "low": np.float32(0),
        "high": np.float32(1),
        "trace_loss": 3 * np.exp(-np.arange(120) / 25) + rng.uniform(0, 0.08, 120),
    }
    if colour:
        tint = np.array([1.0, 0.86, 0.74], dtype=np.float32)[:, None, None]
        for name in ("real", "reconstruction", "nearest_public", "null_reconstruction"):
            arrays[name] = (arrays[name] * tint).astype(np.float32)
    return arrays


def accuracy(hits: float, n: int = PEOPLE, no_model: float | None = 5, null: float | None = 2, k: int = 1) -> Score:
    """The judge's top-k accuracy with its controls."""
    value = wilson(hits, n)
    controls = {
        "no_model": None if no_model is None else wilson(no_model, n),
        "null_model": None if null is None else wilson(null, n),
    }
    known = {name: e for name, e in controls.items() if e is not None}
    strongest = max(known, key=lambda name: known[name].value, default=None)
    missing = {
        "no_model": "public records, from which an adversary without the model could guess",
        "null_model": "a recipe, so that a model can be trained on other people",
    }
    return Score(
        name=f"judge_accuracy_{k}",
        title=f"Judge's top-{k} accuracy",
        value=value.value,
        low=value.low,
        high=value.high,
        chance=k / n,
        controls=controls,
        no_model_parts={} if no_model is None else {"nearest": wilson(no_model, n), "prior draw": wilson(1, n)},
        missing={name: text for name, text in missing.items() if controls[name] is None},
        leakage=gap(value, known[strongest]) if strongest else None,
        strongest_control=strongest,
        p_value=None if not strongest else 0.00004 if hits > 12 else 0.031 if hits > 8 else 0.4,
        n=n,
        unit="class",
        method="Wilson score interval over classes; difference by square-and-add",
    )


def inversion_finding(
    id_: str, attack: str, title: str, hits: float, access: Access, arrays: dict[str, Array], **more: object
) -> Finding:
    """A finding whose exposures follow its arrays."""
    confidence = arrays["judge_confidence"]
    exposed = [
        Exposure(
            id=str(arrays["class_names"][arrays["labels"][i]]),
            rank=rank,
            value=float(confidence[i]),
            control=float(arrays["nearest_judge_confidence"][i]),
            evidence=f"the judge gives {arrays['class_names'][i]} {confidence[i]:.2f}, "
            f"and {arrays['nearest_judge_confidence'][i]:.2f} to the nearest public person",
            index=int(i),
        )
        for rank, i in enumerate(np.argsort(-confidence), start=1)
    ]
    fields: dict[str, object] = {
        "id": id_,
        "key": f"{id_}-key",
        "leak": Leak.INVERSION,
        "attack": attack,
        "title": title,
        "version": 1,
        "cites": [FREDRIKSON],
        "params": {"steps": 500, "starts": 8, "tv": 0.0},
        "needs": [access],
        "access": [access],
        "budget": None if access is Access.WEIGHTS else 60_000,
        "queries": 80_000 if access is Access.WEIGHTS else 60_000,
        "queries_by_access": {access.value: 80_000 if access is Access.WEIGHTS else 60_000},
        "control_queries": 60_000,
        "seconds": 11.3,
        "seed": 7,
        "case": "inversion of cnn",
        "victim": "cnn",
        "defenses": [],
        "adversary": "adaptive",
        "status": "done",
        "headline": "judge_accuracy_1",
        "scores": {}
        if "scores" in more
        else {
            "judge_accuracy_1": accuracy(hits),
            "judge_accuracy_5": accuracy(min(hits + 2, PEOPLE), no_model=11, null=8, k=5),
        },
        "exposed": exposed,
        "artifacts": [Artifact(kind="gallery", path=f"arrays/{id_}.npz", private=True, keys=sorted(arrays))],
        "facts": {"accuracy_members": 1.0, "accuracy_nonmembers": 0.9375},
    }
    return Finding.model_validate({**fields, **more})


def membership(shift: float, seed: int, members: int = 400) -> tuple[dict[str, Array], dict[str, Score]]:
    """Curves and scores of a threshold attack whose scores are two normals `shift` apart."""
    rng = np.random.default_rng(seed)
    inside, outside = rng.normal(shift, 1, members), rng.normal(0, 1, members)
    curves = {"scores_members": inside, "scores_nonmembers": outside}
    for prefix, positive in (("", inside), ("null_", rng.normal(0.02, 1, members))):
        cut = np.sort(np.concatenate([positive, outside]))[::-1]
        fpr = np.concatenate([[0.0], (outside[None] >= cut[:, None]).mean(1)])
        tpr = np.concatenate([[0.0], (positive[None] >= cut[:, None]).mean(1)])
        curves[f"{prefix}fpr"], curves[f"{prefix}tpr"] = fpr, tpr
    band = [wilson(t * members, members) for t in curves["tpr"]]
    curves["tpr_low"], curves["tpr_high"] = np.array([b.low for b in band]), np.array([b.high for b in band])
    auc = float((inside[:, None] > outside[None]).mean())
    half = 1.96 * math.sqrt(auc * (1 - auc) / members)
    value = Estimate(value=auc, low=auc - half, high=min(auc + half, 1.0))
    no_model, null = Estimate(value=0.52, low=0.48, high=0.56), Estimate(value=0.503, low=0.463, high=0.543)
    scores = {
        "auc": Score(
            name="auc",
            title="AUC",
            value=value.value,
            low=value.low,
            high=value.high,
            chance=0.5,
            controls={"no_model": no_model, "null_model": null},
            leakage=gap(value, no_model),
            strongest_control="no_model",
            p_value=0.0000001,
            n=2 * members,
            unit="record",
            method="DeLong",
        )
    }
    for rate in (0.1, 0.01, 0.001):
        name = f"tpr_at_fpr_{rate:g}"
        enough = rate * members >= 1
        found = wilson(float(curves["tpr"][curves["fpr"] <= rate].max()) * members, members)
        scores[name] = Score(
            name=name,
            title=f"true positive rate at a false positive rate of {rate:g}",
            value=found.value if enough else None,
            low=found.low if enough else None,
            high=found.high if enough else None,
            chance=rate,
            n=members,
            unit="record",
            method="Clopper-Pearson",
            reason=None if enough else f"{members} non-members cannot show a rate of {rate:g}",
        )
    return curves, scores


def membership_finding(id_: str, shift: float, seed: int, defenses: list[Applied]) -> tuple[Finding, dict[str, Array]]:
    curves, scores = membership(shift, seed)
    order = np.argsort(-curves["scores_members"])[:150]
    finding = Finding(
        id=id_,
        key=f"{id_}-key",
        leak=Leak.MEMBERSHIP,
        attack="threshold",
        title="Loss threshold",
        version=1,
        cites=[YEOM],
        params={"statistic": "loss"},
        needs=[Access.SCORES],
        access=[Access.SCORES],
        budget=60_000,
        queries=800,
        queries_by_access={"scores": 800},
        seconds=0.4,
        seed=7,
        case="membership of cnn",
        victim="cnn",
        defenses=defenses,
        adversary="adaptive",
        status="done",
        headline="auc",
        scores=scores,
        exposed=[
            Exposure(
                id=f"record-{int(i):04d}",
                rank=rank,
                value=float(curves["scores_members"][i]),
                control=None,
                evidence=f"its loss is below that of {100 - rank // 4} in 100 non-members",
            )
            for rank, i in enumerate(order, start=1)
        ],
        artifacts=[Artifact(kind="curves", path=f"arrays/{id_}.npz", private=False, keys=sorted(curves))],
    )
    return finding, curves


def wrap(findings: list[Finding], verdicts: dict[Leak, Verdict], **more: object) -> AuditRecord:
    """A record around some findings."""
    written = {
        "seed": 7,
        "title": "Faces, a first audit",
        "victim": {"kind": "recipe", "access": "weights", "budget": 60_000},
        "data": {"builtin": "faces"},
        "recipe": {"fit": "seepage.models.train:fit_cnn"},
        "attack": [{"name": "mi-face"}, {"name": "latent"}, {"name": "nes"}, {"name": "threshold"}],
        "defense": [{"name": "round", "digits": 1}],
        "gate": {"inversion": 0.1},
    }
    fields: dict[str, object] = {
        "tool": Tool(version="0.1.0"),
        "title": "Faces, a first audit",
        "run": Run(
            id="20260301T101500Z-1a2b3c4d",
            started="2026-03-01T10:15:00Z",
            finished="2026-03-01T10:16:34Z",
            seconds=94.2,
            processes=2,
        ),
        "environment": {"python": "3.11.9", "torch": "2.6.0", "numpy": "2.2.1", "platform": "Linux-6.1-x86_64"},
        "config": Config(as_written=written, as_resolved={**written, "judge": {"kind": "auto"}}),
        "victim": {"kind": "recipe", "name": "cnn", "family": "cnn", "classes": PEOPLE, "accuracy_members": 1.0},
        "data": {
            "members": 160,
            "nonmembers": 40,
            "public": 200,
            "modality": "image",
            "class_noun": "person",
            "credit": "AT&T Laboratories Cambridge, the Database of Faces",
        },
        "judge": {
            "family": "kernel machine",
            "accuracy_real": 0.95,
            "accuracy_real_low": 0.76,
            "false_positives_noise": 0.05,
            "false_positives_null": 0.10,
        },
        "checks": [
            Check(name="overlap", passed=True, message="no member is also a non-member or a public record"),
            Check(
                name="blind baseline",
                passed=True,
                message="a classifier on the raw records tells members from non-members no better than chance",
                value=Estimate(value=0.51, low=0.44, high=0.58),
            ),
        ],
        "findings": findings,
        "verdicts": verdicts,
        "limits": [
            "Attacks published after this version of Seepage were not tried.",
            "Membership was measured over 400 records a side: rates below 0.0025 cannot be estimated.",
        ],
    }
    return AuditRecord.model_validate({**fields, **more})


def faces() -> tuple[AuditRecord, Arrays]:
    """A whole audit of a face recogniser: several inversions, one defended, one failed, and membership."""
    arrays = {
        "inv-pixels": inversion_arrays(4, 1.3, 0.16, 1),
        "inv-pixels-tv": inversion_arrays(8, 1.2, 0.06, 2),
        "inv-latent": inversion_arrays(17, 0.7, 0.02, 3),
        "inv-nes": inversion_arrays(11, 1.1, 0.05, 4),
        "inv-nes-round": inversion_arrays(6, 1.6, 0.10, 5),
    }
    made = [
        inversion_finding("inv-pixels", "mi-face", "Pixel gradient descent", 4, Access.WEIGHTS, arrays["inv-pixels"]),
        inversion_finding(
            "inv-pixels-tv",
            "mi-face",
            "Pixel gradient descent, total variation",
            8,
            Access.WEIGHTS,
            arrays["inv-pixels-tv"],
            params={"steps": 500, "starts": 8, "tv": 0.02},
        ),
        inversion_finding("inv-latent", "latent", "Latent gradient descent", 17, Access.WEIGHTS, arrays["inv-latent"]),
        inversion_finding(
            "inv-nes", "nes", "Evolution strategies on scores", 11, Access.SCORES, arrays["inv-nes"], seconds=22.8
        ),
        inversion_finding(
            "inv-nes-round",
            "nes",
            "Evolution strategies on scores",
            6,
            Access.SCORES,
            arrays["inv-nes-round"],
            defenses=[ROUND],
            seconds=24.1,
        ),
    ]
    failed = inversion_finding(
        "inv-labels",
        "boundary",
        "Boundary walk on labels",
        0,
        Access.LABELS,
        arrays["inv-nes"],
        status="failed",
        error=Failure(type="BudgetExceeded", message="the start of the walk alone would cost 80,000 of 60,000 queries"),
        headline=None,
        scores={},
        exposed=[],
        artifacts=[],
        queries=0,
        queries_by_access={},
        control_queries=0,
        seconds=0.2,
    )
    bare, arrays["mem"] = membership_finding("mem", 0.8, 21, [])
    behind, arrays["mem-round"] = membership_finding("mem-round", 0.5, 22, [ROUND])
    verdicts = {
        Leak.INVERSION: Verdict(
            verdict="leaks",
            reasons=["'Latent gradient descent': leakage 0.60, its interval excludes zero after Holm over 4 attacks"],
            smallest_effect=0.3,
        ),
        Leak.MEMBERSHIP: Verdict(
            verdict="leaks", reasons=["the leakage of 'Loss threshold' excludes zero"], smallest_effect=0.06
        ),
    }
    record = wrap(
        [*made, failed, bare, behind],
        verdicts,
        gates=[
            GateResult(
                leak=Leak.INVERSION,
                threshold=0.1,
                upper=0.76,
                passed=False,
                message="the leakage may be as high as 0.76, the gate is 0.10",
            ),
            GateResult(
                leak=Leak.MEMBERSHIP, threshold=0.5, upper=0.24, passed=True, message="the leakage is below the gate"
            ),
        ],
        left_out=[
            LeftOut(
                attack="latent",
                leak=Leak.INVERSION,
                reason="it needs weights, and behind an output defense there are none",
                defenses=[ROUND],
            )
        ],
    )
    return record, arrays


def table() -> tuple[AuditRecord, Arrays]:
    """A table victim without public records or recipe: nothing to compare with, an inconclusive verdict."""
    rng = np.random.default_rng(3)
    features = ["age", "income", "years in school", "hours a week", *(f"lab value {k}" for k in range(14))]
    classes = ["benign", "at risk", "عالي الخطورة"]
    real = rng.normal(40, 12, (3, len(features))).astype(np.float32)
    arrays = {
        "labels": np.arange(3),
        "real": real,
        "reconstruction": (real + rng.normal(0, 5, real.shape)).astype(np.float32),
        "judge_class": np.array([0, 1, 0]),
        "judge_confidence": np.array([0.9, 0.7, 0.2], dtype=np.float32),
        "judge_rank": np.array([1, 1, 3]),
        "nearest_judge_confidence": np.array([0.3, 0.3, 0.3], dtype=np.float32),
        "class_names": np.array(classes),
        "features": np.array(features),
        "low": np.zeros(len(features), dtype=np.float32),
        "high": np.full(len(features), 100, dtype=np.float32),
    }
    score = accuracy(2, n=3, no_model=None, null=None)
    finding = inversion_finding(
        "tab", "mi-face", "Gradient descent on features", 2, Access.WEIGHTS, arrays, scores={score.name: score}
    )
    verdict = Verdict(
        verdict="inconclusive",
        reasons=["there is no control to hold the value against"],
        uncontrolled=["no_model", "null_model"],
        smallest_effect=None,
    )
    record = wrap(
        [finding],
        {Leak.INVERSION: verdict},
        title="Clinic risk model",
        data={"members": 300, "modality": "table"},
        judge={},
    )
    return record, {"tab": arrays}


def empty() -> AuditRecord:
    """An audit in which nothing could be tried."""
    verdict = Verdict(verdict="not tried", reasons=["every attack was left out"])
    left = [LeftOut(attack="latent", leak=Leak.INVERSION, reason="it needs public records, and none were given")]
    return wrap([], {Leak.INVERSION: verdict}, title="", left_out=left, checks=[], judge={}, limits=[])


def write_run(folder: Path, record: AuditRecord, arrays: Arrays) -> Path:
    """A run folder as an audit leaves it."""
    (folder / "arrays").mkdir(parents=True, exist_ok=True)
    (folder / "record.json").write_text(record.model_dump_json(), encoding="utf-8")
    for finding in record.findings:
        for artifact in finding.artifacts:
            np.savez_compressed(folder / artifact.path, **arrays[finding.id])
    return folder
