"""The share of women in the training set of a census model, told from its answers and weights; what makes it harder.

The last line is one JSON object. With the names of variants as arguments those alone are run.
"""

import json
import sys
import time
from pathlib import Path

from seepage.audit.api import audit_file
from seepage.core.record import Finding

HERE = Path(__file__).parent
OUT = HERE.parents[1] / "runs" / "bench" / "membership-property"
VARIANTS: dict[str, list[str]] = {
    "base": [],
    "seed 2": ["seed=2"],
    "seed 3": ["seed=3"],
    "column dropped": ["property.dropped=true"],
    "public's share": ["property.train_share=0.33"],
    "40 percent": ["property.train_share=0.4"],
    "16 shadow models": ["property.shadows=16"],
    "a small group": ["property.column=Race", "property.value=Black", "property.train_share=0.2"],
}
FACTS = ("estimated_share", "estimated_low", "estimated_high", "true_share", "public_share", "mean_error", "coverage")


def row(finding: Finding) -> dict[str, float | None]:
    """The AUC with its interval and its leakage, and what was said of the victim itself."""
    score = finding.scores["property_auc"]
    leakage = None if score.leakage is None else score.leakage.low
    found = {"auc": score.value, "low": score.low, "high": score.high, "leakage_low": leakage}
    facts = {name: finding.facts.get(name) for name in (*FACTS, "smallest_difference")}
    return {name: round(value, 4) if isinstance(value, float) else None for name, value in {**found, **facts}.items()}


def main() -> None:
    asked = sys.argv[1:] or list(VARIANTS)
    result: dict[str, object] = {}
    for name in asked:
        began = time.process_time()
        record, _ = audit_file(HERE / "audit.toml", VARIANTS[name], out=OUT, processes=1)
        for finding in record.findings:
            if finding.status != "done":
                raise SystemExit(f"{name}, {finding.title}: {finding.error}")
            kind = str(finding.params.get("representation", ""))
            result[f"{name}.{finding.attack}{f' {kind}' if kind else ''}"] = row(finding)
            score = finding.scores["property_auc"]
            print(f"{name}, {finding.title}: AUC {score.value:.3f} [{score.low:.3f}, {score.high:.3f}]", flush=True)
        result[f"{name}.cpu_seconds"] = round(time.process_time() - began, 1)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
