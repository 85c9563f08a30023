"""Rows of the frontier from the record of one audit: for every arm, what its strongest attacks show."""

from collections.abc import Sequence
from typing import Any

from seepage.audit.plan import Arm
from seepage.core.errors import SeepageError
from seepage.core.frontier import Row, Strongest
from seepage.core.record import AuditRecord, Failure, Finding
from seepage.scoring.verdicts import verdict

# Facts of the strongest finding that tables show.
_TOLD = ("psnr_db_median", "psnr_db_best", "clients_a_sum")


def rows_of(
    record: AuditRecord, arms: Sequence[Arm], labels: Sequence[str], told: dict[str, Any], tolerance: float
) -> list[Row]:
    """One row an arm.

    Args:
        record: of the audit of one setting.
        arms: the arms that were asked for.
        labels: what they are called.
        told: `id` (to which the arm's number is added), `setting`, `label`, `seed` and `run` of the rows.
        tolerance: the leakage that may remain unseen.
    """
    found: list[Row] = []
    for number, (arm, label) in enumerate(zip(arms, labels, strict=True)):
        adversary = "adaptive" if arm.aware else "unaware"
        mine = [f for f in record.findings if f.defenses == arm.applied and f.adversary == adversary]
        failed = {f.attack: f.error.message if f.error else "it failed" for f in mine if f.status == "failed"}
        left = {row.attack: row.reason for row in record.left_out if row.defenses == arm.applied}
        leaks = strongest(mine, tolerance)
        # What a defense states is the same for every attack behind it.
        facts = next((f.facts for f in mine if f.status == "done"), None)
        error = None
        if not leaks:
            why = "; ".join(f"{name}: {reason}" for name, reason in {**failed, **left}.items())
            error = Failure(type="Unmeasured", message=why or "no attack was played")
        about = {"leaks": leaks, "failed": failed, "left_out": left, "error": error, "notes": _notes(facts)}
        found.append(_row(arm, label, number, {**told, **about, "status": "done" if leaks else "failed"}))
    return found


def failed_row(arm: Arm, label: str, number: int, told: dict[str, Any], error: Exception) -> Row:
    """The row of a point that could not be audited."""
    shown = str(error) if isinstance(error, SeepageError) else f"{type(error).__name__}: {error}"
    return _row(
        arm, label, number, {**told, "status": "failed", "error": Failure(type=type(error).__name__, message=shown)}
    )


def _row(arm: Arm, label: str, number: int, told: dict[str, Any]) -> Row:
    applied = arm.applied[0] if arm.applied else None
    adversary = "adaptive" if arm.aware else "unaware"
    name = f"{told['id']}-{number}"
    return Row.model_validate({**told, "id": name, "defense": applied, "defense_label": label, "adversary": adversary})


def strongest(findings: Sequence[Finding], tolerance: float) -> dict[str, Strongest]:
    """For each measure that attacks are judged by, what all of them together show."""
    # A verdict asks first what was found on the bare victim; each arm is here judged by itself.
    bare = [finding.model_copy(update={"defenses": []}) for finding in findings]
    found: dict[str, Strongest] = {}
    for measure in dict.fromkeys(f.headline for f in bare if f.headline is not None):
        mine = [f for f in bare if f.headline == measure]
        scored = [(f, f.score, f.score.leakage) for f in mine if f.score is not None and f.score.leakage is not None]
        if not scored:
            continue
        finding, score, leakage = max(scored, key=lambda part: part[2].value)
        if score.value is None:
            continue
        # Attacks that failed have no measure: any of them might have shown more.
        ruled = verdict([*mine, *(f for f in bare if f.status == "failed")], tolerance)
        found[measure] = Strongest(
            measure=measure,
            title=score.title,
            attack=finding.attack,
            attack_title=finding.title,
            value=score.value,
            low=score.low,
            high=score.high,
            control=score.value - leakage.value,
            leakage=leakage,
            upper=max(part[2].high for part in scored),
            n=score.n,
            unit=score.unit,
            ruling=ruled.verdict,
            smallest_effect=ruled.smallest_effect,
            tried=sorted({f.attack for f, _, _ in scored}),
            facts={name: finding.facts[name] for name in _TOLD if name in finding.facts} | _exact(mine),
        )
    return found


def _exact(findings: Sequence[Finding]) -> dict[str, float]:
    """The greatest share of records that any attack recovered exactly: however small, a leak for its owner."""
    shares = [s.value for f in findings if (s := f.scores.get("exact")) is not None and s.value is not None]
    return {"exact_most": max(shares)} if shares else {}


def _notes(facts: Any) -> list[str]:
    note = None if facts is None else facts.get("aggregate_of_one")
    return [str(note)] if note else []


def facts_of(record: AuditRecord, arm: Arm) -> dict[str, float | str | None] | None:
    """What the defense of an arm states of itself, or None where no attack was played behind it."""
    mine = [f for f in record.findings if f.defenses == arm.applied and f.status == "done"]
    return dict(mine[0].facts) if mine else None
