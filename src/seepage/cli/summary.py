"""What the terminal says of a record, and the exit code it stands for."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import click
from rich.table import Table
from rich.text import Text

from seepage.cli import terminal
from seepage.core.errors import ConfigError, did_you_mean
from seepage.core.record import AuditRecord, Estimate, Finding, LeftOut, Score
from seepage.core.vocabulary import Leak

# Facts of a captured update that begin so: how far the updates of guesses without it lie from it.
_WITHOUT = "consistency_"
STYLE = {"leaks": "bold red", "no leak found": "bold green", "inconclusive": "bold yellow", "not tried": "dim"}
STANDING = {"violated": "bold red", "consistent": "bold green", "not informative": "bold yellow"}


def parse_fail_on(values: Sequence[str]) -> tuple[dict[Leak, float], list[Leak | Literal["any"]]]:
    """`--fail-on` values: thresholds by leak, and leaks whose verdict must not be "leaks".

    Raises:
        ConfigError: for an unknown leak or a threshold that is no number between 0 and 1.
    """
    thresholds: dict[Leak, float] = {}
    forbidden: list[Leak | Literal["any"]] = []
    for value in values:
        name, equals, text = value.partition("=")
        if name == "any" and not equals:
            forbidden.append("any")
            continue
        if name not in set(Leak):
            raise ConfigError(f"--fail-on: unknown leak '{name}': {did_you_mean(name, [*Leak, 'any'])}")
        if not equals:
            forbidden.append(Leak(name))
            continue
        try:
            threshold = float(text)
        except ValueError as error:
            raise ConfigError(f"--fail-on {value}: a number between 0 and 1 was wanted, got '{text}'") from error
        if not 0 <= threshold <= 1:
            raise ConfigError(f"--fail-on {value}: a number between 0 and 1 was wanted, got {text}")
        thresholds[Leak(name)] = threshold
    return thresholds, forbidden


def exit_code(record: AuditRecord, forbidden: Iterable[Leak | Literal["any"]] = ()) -> int:
    """0 done, 1 some attack failed, 3 a gate was crossed or a claim is violated (which weighs more)."""
    if any(not gate.passed for gate in record.gates) or crossed(record, forbidden):
        return 3
    if record.epsilon is not None and record.epsilon.standing == "violated":
        return 3
    return 1 if any(finding.status == "failed" for finding in record.findings) else 0


def crossed(record: AuditRecord, forbidden: Iterable[Leak | Literal["any"]]) -> list[str]:
    """Why `--fail-on LEAK` holds this record, in words; a leak that was named and not tried does not pass."""
    said: list[str] = []
    for name in forbidden:
        stopping = ("leaks",) if name == "any" else ("leaks", "not tried")
        for leak in record.verdicts if name == "any" else [name]:
            if record.verdict(leak) in stopping:
                said.append(f"--fail-on {name}: the verdict on {leak} is '{record.verdict(leak)}'")
    return said


def number(estimate: Estimate | Score | None) -> str:
    """A value with its interval, in two digits; a bound as such."""
    if (
        isinstance(estimate, Score)
        and estimate.value is not None
        and estimate.low is not None
        and estimate.high is None
    ):
        return f"at least {estimate.value:.2f}"
    if estimate is None or estimate.value is None or estimate.low is None or estimate.high is None:
        return "–"
    return f"{estimate.value:.2f} ({estimate.low:.2f} to {estimate.high:.2f})"


def _control(score: Score, name: str) -> str:
    if not score.controls and not score.missing:
        return "–"
    found = score.controls.get(name)
    return "missing" if found is None else f"{found.value:.2f}"


def findings_table(findings: Sequence[Finding]) -> Table:
    """One row a finding: value, controls, leakage."""
    table = Table(box=None, pad_edge=False, header_style="dim", show_edge=False)
    updates = bool(findings) and all(finding.leak is Leak.GRADIENT for finding in findings)
    controls = ("no update", "other update") if updates else ("no model", "null twin")
    for head in ("leak", "attack", "behind", "score", "value", "chance", *controls, "leakage"):
        table.add_column(head, overflow="fold")
    for finding in findings:
        behind = ", ".join(d.name + "".join(f" {v}" for v in d.params.values()) for d in finding.defenses) or "–"
        score = finding.score
        if finding.status == "done" and "unscored" in finding.facts:
            table.add_row(finding.leak, Text(finding.title), behind, Text(_unscored(finding), style="yellow"))
            continue
        if finding.status == "failed" or score is None:
            message = finding.error.message if finding.error is not None else "no score"
            table.add_row(finding.leak, Text(finding.title), behind, Text(f"failed: {message}", style="red"))
            continue
        leaks = score.leakage is not None and score.leakage.low > 0
        table.add_row(
            finding.leak,
            Text(finding.title),
            behind,
            Text(score.title),
            number(score),
            "–" if score.chance is None else f"{score.chance:.2f}",
            _control(score, "no_model"),
            _control(score, "null_model"),
            Text(number(score.leakage), style="bold" if leaks else ""),
        )
    return table


def left_out_lines(left_out: Iterable[LeftOut]) -> list[str]:
    """What was left out, one line a reason: attacks that share it stand together."""
    by_reason: dict[tuple[str, str], list[str]] = {}
    for left in left_out:
        behind = f" behind {left.defenses[0].name}" if left.defenses else ""
        # A reason that names its attack is the same for all but for that name.
        reason = left.reason.replace(f"'{left.attack}'", "it")
        by_reason.setdefault((behind, reason), []).append(left.attack)
    named = {at: ", ".join(dict.fromkeys(names)) for at, names in by_reason.items()}
    return [f"left out: {names}{behind}: {reason}" for (behind, reason), names in named.items()]


def _unscored(finding: Finding) -> str:
    """What is said of a finding that there was no truth to hold against."""
    distance = finding.facts.get("consistency")
    if not isinstance(distance, float):
        return "not scored (no true batch)"
    others = [value for name, value in finding.facts.items() if name.startswith(_WITHOUT) and isinstance(value, float)]
    beside = f"; without the update {min(others):.2g}" if others else ""
    return f"not scored (no true batch); its own update lies {distance:.2g} from the captured one{beside}"


def print_summary(record: AuditRecord, written: Mapping[str, Path], quiet: bool) -> None:
    """Verdicts, findings, gates, and where the report is."""
    console = terminal.console()
    if not quiet:
        console.print()
        for leak, verdict in record.verdicts.items():
            beside = f" (uncontrolled: no {', '.join(verdict.uncontrolled)})" if verdict.uncontrolled else ""
            console.print(Text.assemble((f"{leak}: ", "bold"), (verdict.verdict, STYLE[verdict.verdict]), beside))
            for reason in verdict.reasons:
                console.print(Text(f"  {reason}"))
        if record.epsilon is not None:
            standing = record.epsilon.standing
            said = (standing, STANDING[standing]) if standing is not None else ("no claim", "dim")
            console.print(Text.assemble(("epsilon: ", "bold"), said))
            console.print(Text(f"  {record.epsilon.message}"))
        console.print()
        console.print(findings_table(record.findings))
        console.print()
        for check in record.checks:
            if not check.passed:
                console.print(Text(f"warning: {check.message}", style="yellow"))
        for line in left_out_lines(record.left_out):
            console.print(Text(line, style="dim"))
        for gate in record.gates:
            console.print(
                Text(
                    ("gate passed: " if gate.passed else "GATE CROSSED: ") + gate.message,
                    style="green" if gate.passed else "bold red",
                )
            )
        console.print(Text(f"took {record.run.seconds:.0f} s on {record.run.processes} process(es)", style="dim"))
    # Paths go out plainly, so that a long one is not broken over lines.
    for kind, path in written.items():
        click.echo(f"{kind + ':':<8} {path}")
