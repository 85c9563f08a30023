"""What makes a model give away more: overfitting, records a class, model family, input size, detail of the answers.

Each factor is varied alone around one base case (AT&T faces at 32 x 32, 20 private people with 5 pictures each, a
convolutional network trained for 300 steps, all scores). Writes docs/guides/risk-factors.md from the runs; with
the names of factors as arguments it runs those alone and prints their tables.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seepage.audit.api import audit_file

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent))
from pooled import Pool, table  # noqa: E402

SEEDS = (0,)
# factor -> (level, settings); the base case is the level without settings of its own.
FACTORS: dict[str, Sequence[tuple[str, list[str]]]] = {
    "overfitting": [
        (f"{steps} steps", [f"recipe.options={{ epochs = 0, least = {steps} }}", "recipe.fit=cnn"])
        for steps in (40, 100, 300, 1500)
    ],
    "records a class": [(f"{n} pictures", [f"data.members_per_class={n}"]) for n in (1, 2, 5, 8)],
    "model family": [(name, [f"recipe.fit={name}"]) for name in ("softmax", "mlp", "autoencoder", "cnn")],
    "input size": [(f"{s} x {s}", [f"data.size={s}", f"victim.input.shape=[1, {s}, {s}]"]) for s in (16, 32, 64)],
}
OUTPUTS = {
    "labels-only": "labels",
    "top-k1": "top 1",
    "top-k5": "top 5",
    "round1": "1 digit",
    "round2": "2 digits",
    "round3": "3 digits",
    "": "all scores",
}


def main() -> None:
    out = ROOT / "runs" / "bench" / "inversion-risk-factors"
    pool = Pool()
    accuracy: dict[str, list[float]] = {}
    asked = sys.argv[1:]
    for factor, levels in FACTORS.items():
        for level, settings in levels if not asked or factor in asked else ():
            for seed in SEEDS:
                record, _ = audit_file(HERE / "audit.toml", [*settings, f"seed={seed}"], out=out)
                pool.add_all(record, f"{factor}.{level}.")
                for key in ("accuracy_members", "accuracy_nonmembers"):
                    accuracy.setdefault(f"{factor}.{level}.{key}", []).append(float(record.victim[key] or 0.0))
            print(f"{factor}, {level}: done", flush=True)
    for seed in SEEDS if not asked else ():
        record, _ = audit_file(HERE / "outputs.toml", [f"seed={seed}"], out=out)
        for finding in record.findings:
            arm = "".join(d.name + "".join(str(v) for v in d.params.values()) for d in finding.defenses)
            pool.add(f"output detail.{OUTPUTS.get(arm, arm)}.{finding.title}", finding)
        print(f"output detail, split {seed}: done", flush=True)
    result: dict[str, Any] = dict(pool.results())
    result |= {name: round(sum(found) / len(found), 3) for name, found in accuracy.items()}
    rows = {name: row for name, row in result.items() if isinstance(row, dict)}
    print(table(rows), flush=True)
    if asked:
        print(page(rows, result), flush=True)
    else:
        (ROOT / "docs" / "guides" / "risk-factors.md").write_text(page(rows, result), encoding="utf-8")
    print(json.dumps(result))


def page(rows: dict[str, dict[str, Any]], result: dict[str, Any]) -> str:
    """The risk-factors page: one table a factor, a row a level, a column an attack."""
    people = max(row["people"] for row in rows.values() if row["value"] is not None)
    lines = [
        "# Risk factors",
        "",
        "What makes a model give away more of what its classes look like. Generated from runs by",
        "`make bench NAME=inversion-risk-factors`; each factor is varied alone around one base case: AT&T faces at",
        "32 x 32, 20 private people with 5 pictures each, a small convolutional network trained for 300 steps.",
        f"A cell is the share of {people} people (one split) whom the judge",
        "recognises, with a 95 % interval, and in parentheses the same attack on the null twin.",
        "",
    ]
    for factor in [*FACTORS, "output detail"]:
        found = {name.split(".", 2)[1:][0] for name in rows if name.startswith(factor + ".")}
        attacks = list(dict.fromkeys(name.split(".", 2)[2] for name in rows if name.startswith(factor + ".")))
        levels = [name for name, _ in FACTORS[factor]] if factor in FACTORS else list(OUTPUTS.values())
        known = factor in FACTORS
        head = [factor, *(["accuracy: members", "held out"] if known else []), *(f"`{a}`" for a in attacks)]
        if not found:
            continue
        lines += [f"## {factor.capitalize()}", "", _line(head), _line(["---"] * len(head))]
        for level in levels:
            if level not in found:
                continue
            cells = [_cell(rows.get(f"{factor}.{level}.{attack}")) for attack in attacks]
            own = (
                [f"{result[f'{factor}.{level}.accuracy_{w}']:.2f}" for w in ("members", "nonmembers")] if known else []
            )
            lines.append(_line([level, *own, *cells]))
        lines.append("")
    return "\n".join([*lines, (HERE / "reading.md").read_text(encoding="utf-8")])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return "cannot run"
    if row["value"] is None:
        return "failed"
    null = "–" if row["null_model"] is None else f"{row['null_model']:.2f}"
    return f"{row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}] ({null})"


if __name__ == "__main__":
    main()
