"""The judge's accuracy for softmax, MLP, autoencoder and CNN victims by each attack, over several splits of the people.

Every audit is one split (20 private people, 20 public). The value of an attack is its judge accuracy over the
people of all splits, with a Wilson interval over people; the published figures are in README.md beside this file.
`audit_seconds` is one whole `seepage audit examples/faces.toml`, from the command to the report.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from seepage.audit.api import audit_file
from seepage.scoring.stats import wilson

HERE = Path(__file__).parent
VICTIMS = ("softmax", "mlp", "autoencoder", "cnn")
SEEDS = (0, 1, 2)


def demo_seconds(out: Path) -> float:
    """Seconds of the main job after installation."""
    begun = time.perf_counter()
    command = [str(Path(sys.executable).with_name("seepage")), "audit", str(HERE.parents[1] / "examples/faces.toml")]
    subprocess.run([*command, "--out", str(out / "demo"), "--quiet"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def main() -> None:
    rows: dict[str, list[dict[str, float]]] = {}
    facts: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        whole = demo_seconds(out)
        print(f"seepage audit examples/faces.toml: {whole:.0f} s", flush=True)
        for victim in VICTIMS:
            for seed in SEEDS:
                record, _ = audit_file(HERE / "audit.toml", [f"recipe.fit={victim}", f"seed={seed}"], out=out)
                accuracy = record.victim["accuracy_nonmembers"]
                facts.setdefault(victim, []).append(float(accuracy or 0))
                for finding in record.findings:
                    score = finding.score
                    if score is None or score.value is None:
                        print(f"{victim} {finding.title}: {finding.error}", flush=True)
                        continue
                    behind = "+round" if finding.defenses else ""
                    controls = {name: found.value for name, found in score.controls.items() if found is not None}
                    rows.setdefault(f"{victim}.{finding.title}{behind}", []).append(
                        {
                            "hits": score.value * score.n,
                            "n": score.n,
                            "no_model": controls["no_model"],
                            "null_model": controls["null_model"],
                            "seconds": finding.seconds,
                            "queries": finding.queries,
                        }
                    )
    result: dict[str, Any] = {"audit_seconds": round(whole, 1)}
    print(f"{'victim.attack':<34} {'value':>5}  interval       no model  null twin  seconds  queries")
    for name, found in rows.items():
        people = sum(row["n"] for row in found)
        value = wilson(round(sum(row["hits"] for row in found)), int(people))
        mean = {key: sum(row[key] for row in found) / len(found) for key in found[0]}
        result[name] = {
            "value": round(value.value, 3),
            "low": round(value.low, 3),
            "high": round(value.high, 3),
            "no_model": round(mean["no_model"], 3),
            "null_model": round(mean["null_model"], 3),
            "seconds": round(mean["seconds"], 1),
            "queries": round(mean["queries"]),
            "people": int(people),
        }
        print(
            f"{name:<34} {value.value:5.2f}  [{value.low:.2f}, {value.high:.2f}]   {mean['no_model']:.2f}      "
            f"{mean['null_model']:.2f}       {mean['seconds']:6.1f}  {mean['queries']:7.0f}",
            flush=True,
        )
    for victim, accuracies in facts.items():
        result[f"{victim}.accuracy"] = round(sum(accuracies) / len(accuracies), 3)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
