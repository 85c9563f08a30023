"""Leakage against queries: the same attack with scores and with labels, allowed 100 to 30,000 queries a person.

AT&T faces at 32 x 32, 20 private people, a convolutional network; one split of the people. Runs are kept under
runs/bench/inversion-budget, so that an interrupted benchmark is taken up again.
"""

import json
import sys
from pathlib import Path
from typing import Any

from seepage.audit.api import audit_file

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from pooled import Pool, table  # noqa: E402

SEEDS = (0,)
PEOPLE = 20


def main() -> None:
    out = HERE.parents[1] / "runs" / "bench" / "inversion-budget"
    pool = Pool()
    for seed in SEEDS:
        record, _ = audit_file(HERE / "audit.toml", [f"seed={seed}"], out=out)
        for finding in record.findings:
            pool.add(f"{finding.title}.{(finding.budget or 0) // PEOPLE}", finding)
        print(f"split {seed}: {record.run.seconds:.0f} s; report in {record.folder}", flush=True)
    result: dict[str, Any] = dict(pool.results())
    print(table(result), flush=True)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
