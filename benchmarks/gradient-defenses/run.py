"""Every update defense at equal cost in accuracy, against the strongest attack of each kind.

A small federation is trained behind each defense at several strengths (seeds CHOOSE); the strongest that loses at most
two points is chosen, its accuracy measured again on another split, and every attack played on it there, with an
adversary who knows it. With `small` as argument: fewer rounds and seeds.
"""

import json
import math
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seepage.audit.api import audit_file
from seepage.core.record import Finding
from seepage.core.registry import ATTACKS, defense_class
from seepage.models.accounting import gaussian_multiplier

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))
from training import accuracy  # noqa: E402

# kind -> attacks by catalogue name; names that are not in the catalogue are left out, and said so.
KINDS: Mapping[str, Sequence[str]] = {
    "records, read off a layer": ("linear-layer", "spear", "cocktail-party", "r-gap"),
    "records, searched for": ("dlg", "inverting-gradients", "latent-matching", "fedleak"),
    "records, malicious server": ("imprint", "trap-weights", "fishing"),
    "labels": ("untrained-counts", "idlg", "grad-inversion-labels", "llg", "ilrg", "learned-counts"),
}
# Fewer steps than by default, so that all arms are played in minutes.
PARAMS: Mapping[str, dict[str, Any]] = {
    "dlg": {"steps": 150},
    "inverting-gradients": {"steps": 200},
    "latent-matching": {"steps": 100, "restarts": 1},
    "fishing": {"thresholds": 12},
}
# The split that is reported, and those on which strengths are chosen.
REPORT, CHOOSE = 0, (10, 11)
ROUNDS, LOSS = 100, 0.02
Arm = tuple[str, dict[str, Any]]
_NOISE = (1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 1.0)
# Strengths from weak to strong: the last that costs no more than LOSS is chosen.
STRENGTHS: Mapping[str, Sequence[dict[str, Any]]] = {
    "clip": [{"norm": norm} for norm in (3.0, 1.0, 0.3, 0.1)],
    "gaussian-noise": [{"clip": 3.0, "multiplier": m, "rounds": ROUNDS} for m in _NOISE],
    "laplace-noise": [{"clip": 500.0, "multiplier": m / 100, "rounds": ROUNDS} for m in _NOISE],
    "dp-sgd": [{"clip": 10.0, "multiplier": m, "rounds": ROUNDS} for m in _NOISE],
    "top-k-update": [{"keep": keep} for keep in (0.5, 0.1, 0.03, 0.01, 0.003)],
    "quantise": [{"format": form} for form in ("fp16", "bf16", "int8", "int4")],
    "sign": [{}],
    "soteria": [{"prune": share} for share in (0.2, 0.4, 0.8, 0.95)],
    "precode": [{"beta": beta} for beta in (1e-4, 1e-3, 1e-2)],
}
# Noise that guarantees epsilon <= 8 at delta 1e-5: over all rounds, and in a federation of a single round, which needs
# less of it.
DELTA, EPSILON = 1e-5, 8.0
GUARANTEED: Sequence[Arm] = [
    (
        name,
        {
            "clip": clip,
            "multiplier": math.ceil(1e3 * gaussian_multiplier(EPSILON, DELTA, rounds, apart)) / 1e3,
            "rounds": rounds,
        },
    )
    for rounds in (ROUNDS, 1)
    for name, clip, apart in (("gaussian-noise", 3.0, 2.0), ("dp-sgd", 10.0, 1.0))
]
# Played whatever they cost.
FIXED: Sequence[Arm] = [
    ("clip", {"norm": 0.1}),
    ("gaussian-noise", {"clip": 3.0, "multiplier": 0.01, "rounds": ROUNDS}),
    ("gaussian-noise", {"clip": 3.0, "multiplier": 1.0, "rounds": ROUNDS}),
    ("dp-sgd", {"clip": 10.0, "multiplier": 1.0, "rounds": ROUNDS}),
    ("top-k-update", {"keep": 0.1}),
    ("top-k-update", {"keep": 0.01}),
    ("quantise", {"format": "fp16"}),
    ("quantise", {"format": "int8"}),
    ("quantise", {"format": "int4"}),
    ("sign", {}),
    ("soteria", {"prune": 0.8}),
    ("precode", {"beta": 1e-3}),
    *GUARANTEED,
    ("check-received", {}),
    *(("secure-aggregation", {"cohort": cohort}) for cohort in (2, 4, 10, 20)),
    ("encrypted-aggregation", {"cohort": 10}),
]
# Sums are exact, or nearly, and honest models pass: training is that without a defense.
FREE = ("secure-aggregation", "encrypted-aggregation", "check-received")
# No defenses but settings: what the same attacks find without any.
SETTINGS: Mapping[str, Sequence[str]] = {
    "1 record": ["federated.records=1"],
    "16 records": ["federated.records=16"],
    "4 records, 4 local steps": ["federated.update=delta", "federated.local_batch=1", "federated.rate=0.1"],
}
# With local steps, an attack that simulates them plays too.
STEPS, SEARCHED = "fedavg-matching", "records, searched for"
SCORES = ("record_identified", "exact", "label_recall")


def main() -> None:
    small = "small" in sys.argv[1:]
    rounds, seeds = (60, CHOOSE[:1]) if small else (ROUNDS, CHOOSE)
    begun = time.monotonic()
    known = {kind: [name for name in names if name in set(ATTACKS)] for kind, names in KINDS.items()}
    for kind, names in KINDS.items():
        if absent := [name for name in names if name not in set(ATTACKS)]:
            print(f"{kind}: not in the catalogue: {', '.join(absent)}", flush=True)
    plain = statistics.mean(accuracy(None, seed, rounds) for seed in seeds)
    bare = accuracy(None, REPORT, rounds)
    print(f"without a defense: accuracy {plain:.3f} on the splits to choose on, {bare:.3f} on the other", flush=True)
    chosen = [(name, params) for name in STRENGTHS if (params := choose(name, plain, seeds, rounds)) is not None]
    here = [arm for arm in [*chosen, *FIXED] if installed(arm[0])]
    arms = list({label(arm): arm for arm in here}.values())
    findings = by_attack([name for names in known.values() for name in names], arms)
    table: dict[str, dict[str, Any]] = {"none": row(known, findings.get("none", [])) | {"accuracy": round(bare, 3)}}
    for arm in arms:
        table[label(arm)] = row(known, findings.get(label(arm), [])) | {
            "accuracy": cost(arm, bare, rounds),
            "chosen": arm in chosen,
        }
    for setting, changes in SETTINGS.items():
        attacks = [name for names in known.values() for name in names] + [STEPS]
        here = {kind: [*names, STEPS] if kind == SEARCHED else names for kind, names in known.items()}
        table[f"setting: {setting}"] = row(here, played(attacks, [], changes).get("none", []))
    show(table)
    texts = None
    if (HERE / "texts.py").is_file():
        from texts import measure  # pyright: ignore[reportMissingImports]

        texts = measure()
    result = {
        "rounds": rounds,
        "small": small,
        "seconds": round(time.monotonic() - begun, 1),
        "missing_attacks": [n for names in KINDS.values() for n in names if n not in set(ATTACKS)],
        "rows": table,
        "texts": texts,
    }
    print(json.dumps(result))


def cost(arm: Arm, bare: float, rounds: int) -> float | None:
    """Accuracy behind a defense; None for noise that is enough for one round alone, which trains nothing."""
    if arm[1].get("rounds") == 1:
        return None
    return round(bare if arm[0] in FREE else accuracy(defense_class(arm[0])(**arm[1]), REPORT, rounds), 3)


def choose(name: str, plain: float, seeds: Sequence[int], rounds: int) -> dict[str, Any] | None:
    """The strongest setting that loses at most LOSS; None where even the weakest loses more."""
    found = None
    for params in STRENGTHS[name]:
        told = statistics.mean(accuracy(defense_class(name)(**params), seed, rounds) for seed in seeds)
        print(f"{label((name, params))}: accuracy {told:.3f}", flush=True)
        if told < plain - LOSS:
            break
        found = params
    return found


def installed(name: str) -> bool:
    """Whether what a defense rests on is there; said where it is not."""
    if name != "encrypted-aggregation":
        return True
    try:
        import tenseal  # noqa: F401
    except ImportError:
        print("encrypted-aggregation: TenSEAL is not installed", flush=True)
        return False
    return True


def by_attack(attacks: Sequence[str], arms: Sequence[Arm]) -> dict[str, list[Finding]]:
    """The findings of one audit an attack, by arm: what is done is said on the way."""
    found: dict[str, list[Finding]] = {}
    for attack in attacks:
        begun = time.monotonic()
        for place, findings in played([attack], arms, []).items():
            found.setdefault(place, []).extend(findings)
        print(f"{attack}: {len(arms) + 1} arms in {time.monotonic() - begun:.0f} s", flush=True)
    return found


def played(attacks: Sequence[str], arms: Sequence[Arm], settings: Sequence[str]) -> dict[str, list[Finding]]:
    """The findings of one audit by arm; "none" without a defense."""
    text = (HERE / "audit.toml").read_text("utf-8")
    for kind, asked in (("attack", [(name, PARAMS.get(name, {})) for name in attacks]), ("defense", arms)):
        for name, params in asked:
            lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in params.items())
            text += f'\n[[{kind}]]\nname = "{name}"\n{lines}'
    out = ROOT / "runs" / "bench" / "gradient-defenses"
    out.mkdir(parents=True, exist_ok=True)
    file = out / "audit.toml"
    file.write_text(text, encoding="utf-8")
    record, _ = audit_file(file, [f"seed={REPORT}", *settings], out=out)
    found: dict[str, list[Finding]] = {}
    for finding in record.findings:
        place = "none" if not finding.defenses else _asked(finding, arms)
        found.setdefault(place, []).append(finding)
    return found


def _asked(finding: Finding, arms: Sequence[Arm]) -> str:
    applied = finding.defenses[0]
    for name, params in arms:
        if name == applied.name and defense_class(name)(**params).model_dump(mode="json") == applied.params:
            return label((name, params))
    raise LookupError(f"{finding.id} stands behind no arm that was asked for")


def row(known: Mapping[str, Sequence[str]], findings: Sequence[Finding]) -> dict[str, Any]:
    """For each kind of attack the strongest, by leakage of its headline score; epsilon where there is one."""
    told: dict[str, Any] = {}
    for finding in findings:
        told |= {name: finding.facts[name] for name in ("dp_epsilon", "clients_a_sum") if name in finding.facts}
        told |= {k: v for k, v in finding.facts.items() if k.endswith(("_bytes_a_client", "_seconds_a_client"))}
    for kind, names in known.items():
        scored = [f for f in findings if f.attack in names and f.score is not None and f.score.leakage is not None]
        if not scored:
            continue
        best = max(scored, key=lambda finding: finding.score.leakage.value)  # type: ignore[union-attr]
        assert best.score is not None
        leakage = best.score.leakage
        assert leakage is not None
        told[kind] = {
            "attack": best.attack,
            **{name: round(best.scores[name].value or 0.0, 3) for name in SCORES if name in best.scores},
            "leakage": [round(v, 3) for v in (leakage.low, leakage.value, leakage.high)],
        }
        if "psnr_db_median" in best.facts:
            told[kind]["psnr_db"] = round(float(best.facts["psnr_db_median"] or 0.0), 1)
    return told


def label(arm: Arm) -> str:
    told = {key: value for key, value in arm[1].items() if key != "rounds" or value == 1}
    return " ".join([arm[0], *(f"{key}={value}" for key, value in told.items())])


def show(table: Mapping[str, dict[str, Any]]) -> None:
    """The table, in Markdown."""
    print(
        "| defense | accuracy | epsilon | kind | strongest attack | identified | exact | PSNR dB | labels | leakage |"
    )
    print("|" + " --- |" * 10)
    for name, told in table.items():
        best = {kind: part for kind, part in told.items() if isinstance(part, dict)}
        star = " *" if told.get("chosen") else ""
        epsilon = "" if "dp_epsilon" not in told else _number(told["dp_epsilon"])
        for kind, part in (best or {"": {}}).items():
            low, middle, high = part.get("leakage", (float("nan"),) * 3)
            cells = [
                f"{name}{star}",
                "" if told.get("accuracy") is None else str(told["accuracy"]),
                epsilon,
                kind,
                part.get("attack", "none could be played"),
                *(_cell(part.get(key)) for key in ("record_identified", "exact", "psnr_db", "label_recall")),
                f"{middle:.2f} [{low:.2f}, {high:.2f}]",
            ]
            print("| " + " | ".join(cells) + " |", flush=True)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}"


if __name__ == "__main__":
    main()
