"""Every update defense at equal cost in accuracy, against the strongest attack of each kind.

A small federation is trained behind each defense at several strengths (seeds CHOOSE); the strongest that loses at most
two points is chosen, its accuracy measured again on another split, and every attack played on it there, with an
adversary who knows it. What was trained or played once is kept under runs/bench/gradient-defenses: interrupted, the
same command goes on. `full` takes more clients and longer searches; `small` is for a test, its figures say nothing.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))

from arms import (  # noqa: E402
    FREE,
    KINDS,
    LOSS,
    MALICIOUS,
    MODES,
    SETTINGS,
    TELLING,
    TRAINED,
    Arm,
    Mode,
    families,
    fixed,
    guaranteed,
    label,
)
from played import Group, played  # noqa: E402
from spent import Spent  # noqa: E402
from strengths import Federations  # noqa: E402
from tables import Row, indistinguishable, markdown, most, reading_only, row  # noqa: E402

from seepage.audit.workers import one_thread  # noqa: E402
from seepage.core.record import Finding  # noqa: E402


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("mode", nargs="?", choices=sorted(MODES), default="default")
    asked.add_argument("--out", type=Path, help="folder of the store")
    given = asked.parse_args()
    mode = MODES[given.mode]
    out = given.out or ROOT / "runs" / "bench" / "gradient-defenses" / mode.name
    one_thread()
    spent = Spent(out / "spent.jsonl")
    trained = Federations(mode, out, spent.lap)
    chosen = {name: trained.chosen(name, strengths) for name, strengths in families(mode).items()}
    for name, found in chosen.items():
        print(f"{name}: " + ("none is weak enough" if found is None else label((name, found[0]))), flush=True)
    picked: dict[str, Arm] = {name: (name, found[0]) for name, found in chosen.items() if found is not None}
    findings: dict[str, list[Finding]] = {}
    arms: dict[str, Arm] = {}
    for group in groups(mode, picked):
        arms |= {group.prefix + label(arm): arm for arm in group.arms}
        for place, some in played(group, out, spent.listener(group.name)).items():
            findings.setdefault(place, []).extend(some)
    rates = {label(picked[name]): found[1] for name, found in chosen.items() if found is not None}
    table = {place: told(place, arms[place], some, trained, rates) for place, some in findings.items()}
    print(markdown(table))
    result = {
        "mode": mode.name,
        "rounds": mode.rounds,
        "clients": mode.clients,
        "loss": LOSS,
        "accuracy_to_choose_by": round(trained.plain, 3),
        **summary(table),
        "cpu_seconds": round(spent.total(), 1),
        "cpu_seconds_training": round(spent.by_piece("training: "), 1),
        "texts": texts(mode),
        "rows": table,
    }
    print(json.dumps(result))


def groups(mode: Mode, chosen: dict[str, Arm]) -> Iterator[Group]:
    """All that is played, row after row."""
    few, more, many = mode.clients
    plain = mode.attacks("fedavg-matching")
    arms: list[Arm] = [None, *chosen.values(), *fixed(mode), ("check-received", {})]
    yield Group("defenses", list({label(arm): arm for arm in arms}.values()), plain, {"clients": few})
    yield Group("epsilon", list(guaranteed(mode)), plain, {"clients": more})
    yield Group("small sums", [summed(2), summed(4)], plain, {"clients": more})
    if not mode.small:
        # A malicious server that fishes has the protocol played in every round: on fewer clients.
        once = mode.attacks("fedavg-matching", "fishing")
        yield Group("sums", [summed(10), summed(20)], once, {"clients": many})
        yield Group("sums fished", [summed(10), summed(20)], {"fishing": mode.params["fishing"]}, {"clients": 20})
        if installed():
            yield Group("encrypted", [("encrypted-aggregation", {"cohort": 10})], once, {"clients": more})
    for name, changes in list(SETTINGS.items())[: 1 if mode.small else None]:
        attacks = mode.attacks() if changes.get("update") == "delta" else plain
        yield Group(name, [None], attacks, {"clients": few, **changes}, f"{name}: ")
    later: list[Arm] = [None, *(chosen[name] for name in TELLING if name in chosen), ("sign", {}), summed(4)]
    later = [None] if mode.small else list({label(arm): arm for arm in later}.values())
    yield Group("trained", later, plain, {"clients": few, "trained": TRAINED}, "trained: ")


def summed(cohort: int) -> Arm:
    return ("secure-aggregation", {"cohort": cohort})


def told(place: str, arm: Arm, findings: list[Finding], trained: Federations, rates: dict[str, int]) -> Row:
    """One row with what it costs; noise that is enough for one round alone trains nothing."""
    prefix, _, name = place.rpartition(": ")
    if prefix:
        return row(findings, None if prefix == "trained" else trained.reported(None, federated=SETTINGS[prefix]))
    if arm is not None and arm[1].get("rounds") == 1:
        return row(findings, None)
    acting = None if arm is None or arm[0] in FREE else arm
    return row(findings, trained.reported(acting, rates.get(name)), **({"chosen": True} if name in rates else {}))


def summary(table: dict[str, Row]) -> dict[str, Any]:
    """What the whole table says of the guarantees, and of sums for who only reads."""
    private = [found for found in table.values() if (found["epsilon"] or 9) <= 8]
    sums = [found for found in table.values() if found.get("facts", {}).get("clients_a_sum", 0) >= 10]
    reading = reading_only()
    return {
        "epsilon_8_indistinguishable": indistinguishable(private, list(KINDS)),
        "epsilon_8_at_most": most(private, list(KINDS), "high_most"),
        "sums_10_indistinguishable": indistinguishable(sums, reading),
        "sums_10_at_most": most(sums, reading, "high_most"),
        "sums_10_malicious_at_most": most(sums, [MALICIOUS], "high_most"),
    }


def installed() -> bool:
    """Whether what encryption rests on is there; said where it is not."""
    try:
        import tenseal  # noqa: F401
    except ImportError:
        print("encrypted-aggregation: TenSEAL is not installed", flush=True)
        return False
    return True


def texts(mode: Mode) -> list[dict[str, Any]] | None:
    """DAGER behind every defense: `texts.py`."""
    if mode.small:
        return None
    from texts import measure

    return measure()


if __name__ == "__main__":
    main()
