"""The safe region of a small federation: what every setting gives away, what it costs, and what is recommended.

Runs `examples/federated-frontier.toml`; interrupted, the same command goes on. With `small` as argument: fewer clients,
settings and rounds. Prints one JSON object last.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from seepage.core.frontier import Frontier, Row
from seepage.core.progress import Progress
from seepage.report.frontier_write import write_frontier
from seepage.sweep import sweep_file

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "federated-frontier.toml"
SMALL = (
    "federated.clients=24",
    "sweep.axes={'federated.records'=[1,4],'federated.trained'=[0,300]}",
    "sweep.training.rounds=20",
    "verdict.tolerance=0.3",
)


def main() -> None:
    small = "small" in sys.argv[1:]
    begun, spent = time.monotonic(), time.process_time()
    found, folder = sweep_file(
        EXAMPLE, SMALL if small else (), out=ROOT / "runs" / "bench" / "gradient-frontier", progress=tell, processes=1
    )
    for path in write_frontier(folder).values():
        print(path)
    for advice in found.advice:
        print(f"- {advice.text}")
    result = {
        "points": len(found.rows),
        "failed": sum(row.status == "failed" for row in found.rows),
        "seconds": round(time.monotonic() - begun, 1),
        "cpu_seconds": round(time.process_time() - spent, 1),
        "small": small,
        "measure": found.measure,
        "tolerance": found.tolerance,
        "recommended": recommended(found),
        "rows": [told(row, found) for row in found.rows],
    }
    print(json.dumps(result))


def tell(step: Progress) -> None:
    if step.state in ("done", "failed", "cached"):
        print(f"{step.total:4.0%}  {step.task}: {step.state} {step.message}".rstrip(), flush=True)


def recommended(found: Frontier) -> dict[str, Any] | None:
    """The recommended choice, what it gives away at the most, and what a second audit with other clients says."""
    rows = [
        row for advice in found.advice if advice.kind == "recommended" for row in found.rows if row.id in advice.rows
    ]
    if not rows or found.measure is None:
        return None
    choice = {axis.key: rows[0].setting[axis.key] for axis in found.axes if axis.role == "choice"}
    again = [row.leaks[found.measure].upper for row in found.confirmation if found.measure in row.leaks]
    return {
        **choice,
        "defense": rows[0].defense_label,
        "at_most": round(max(row.leaks[found.measure].upper for row in rows), 3),
        "again_at_most": round(max(again), 3) if again else None,
        "accuracy": _accuracy(rows[0]),
    }


def told(row: Row, found: Frontier) -> dict[str, Any]:
    """One point in a line."""
    leak = None if found.measure is None else row.leaks.get(found.measure)
    cost = row.cost
    return {
        **row.setting,
        "defense": row.defense_label,
        "verdict": "failed" if leak is None else leak.ruling,
        "attack": None if leak is None else leak.attack,
        "value": None if leak is None else round(leak.value, 3),
        "leakage": None if leak is None else [round(v, 3) for v in (leak.leakage.low, leak.leakage.value, leak.upper)],
        "labels": None if "label_recall" not in row.leaks else round(row.leaks["label_recall"].leakage.value, 3),
        "accuracy": _accuracy(row),
        "bytes_a_round": None if cost is None else cost.bytes_a_round,
        "ms_a_round": None if cost is None or cost.seconds_a_round is None else round(1000 * cost.seconds_a_round, 2),
        "dp_epsilon": None if cost is None else cost.dp_epsilon,
    }


def _accuracy(row: Row) -> float | None:
    return None if row.cost is None or row.cost.accuracy is None else round(row.cost.accuracy.value, 3)


if __name__ == "__main__":
    main()
