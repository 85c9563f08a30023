"""From findings to what can be said: one verdict a leak, and thresholds that hold a release.

These read findings alone, so that a verdict can be made again from a record.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from seepage.core.record import Applied, Estimate, Finding, GateResult, Score, Verdict
from seepage.core.vocabulary import Leak
from seepage.scoring.controls import CHANCE
from seepage.scoring.power import smallest_effect, smallest_effect_auc
from seepage.scoring.stats import holm

# One-sided, so that a leak is called when the two-sided 95 % interval of the leakage excludes zero.
LEVEL = 0.025
# Scores that are an AUC, and the facts that say of how many on either side.
_OF_AUC = {"auc": ("members", "nonmembers"), "property_auc": ("models_more", "models_plain")}


@dataclass(frozen=True)
class _Measured:
    """A completed finding whose headline score has a leakage."""

    finding: Finding
    score: Score
    value: float
    leakage: Estimate
    p: float

    @classmethod
    def among(cls, findings: Iterable[Finding]) -> list["_Measured"]:
        found: list[_Measured] = []
        for finding in findings:
            score = finding.score
            if finding.status != "done" or score is None:
                continue
            if score.value is not None and score.leakage is not None and score.p_value is not None:
                found.append(cls(finding, score, score.value, score.leakage, score.p_value))
        return found

    @property
    def control(self) -> tuple[str, float | None]:
        """The strongest control and its value."""
        name = self.score.strongest_control or CHANCE
        if name == CHANCE:
            return name, self.score.chance
        estimate = self.score.controls.get(name)
        return name, None if estimate is None else estimate.value

    def smallest(self, tried: int) -> float | None:
        """The smallest leakage this attack would have shown with a power of 80 %, as one of `tried`."""
        name, control = self.control
        if control is None:
            return None
        alpha, measured = LEVEL / tried, name != CHANCE
        if self.score.name in _OF_AUC:
            members, nonmembers = (self.finding.facts.get(name) for name in _OF_AUC[self.score.name])
            if not isinstance(members, float) or not isinstance(nonmembers, float):
                return None
            return smallest_effect_auc(int(members), int(nonmembers), control, alpha=alpha, measured=measured)
        return smallest_effect(self.score.n, control, alpha=alpha, measured=measured)


def verdict(findings: Sequence[Finding], tolerance: float = 0.10) -> Verdict:
    """What can be said about one leak, over all that was tried.

    The findings on the undefended victim decide; those behind defenses decide only where there are no
    others, and are commented on otherwise. Findings that failed or are confounded never call a leak.

    - "leaks": the leakage of some finding is above zero, corrected for the number of findings (Holm,
      one-sided p < 0.025).
    - "no leak found": none is, at least one finding has all its controls, and the upper end of every
      leakage lies at `tolerance` or below.
    - "not tried": no finding was completed.
    - "inconclusive": otherwise, with what stands in the way.

    Args:
        findings: all findings of one leak.
        tolerance: the leakage that may remain unseen, on the headline score.
    """
    done = [finding for finding in findings if finding.status == "done"]
    failures = [_failure(finding) for finding in findings if finding.status == "failed"]
    if not done:
        return Verdict(verdict="not tried", reasons=failures or ["No attack for this leak was run."])
    bare = [finding for finding in done if not finding.defenses]
    broken = [finding for finding in findings if finding.status == "failed" and not finding.defenses]
    # Where the bare victim was attacked, it decides, even when every such attack failed.
    deciding = bare if bare or broken else done
    heard = _Measured.among(finding for finding in deciding if finding.confounded is None)
    corrected = holm([found.p for found in heard])
    calls = sorted(zip(corrected, heard, strict=True), key=lambda call: (call[0], -call[1].leakage.value))
    leaking = [found for p, found in calls if p < LEVEL]
    doubts = [] if leaking else _doubts(heard, tolerance, deciding)
    if broken and not leaking:
        doubts.append(f"{_count(len(broken), 'attack')} failed, and might have found something.")
    reasons = list(doubts)
    if not leaking and not doubts:
        reasons.append(
            f"None of {_count(len(heard), 'attack')} was above its controls, and none can have leaked more than "
            f"{tolerance:g} (upper ends of the 95 % intervals)."
        )
    reasons += [_sentence(found, p, len(heard)) for p, found in calls]
    counted = {found.finding.id for found in heard}
    reasons += [_unheard(finding) for finding in deciding if finding.id not in counted]
    if bare or broken:
        reasons += _behind(finding for finding in done if finding.defenses)
    else:
        reasons.append("The victim was attacked behind defenses only; nothing was measured without them.")
    smallest = [effect for found in heard if (effect := found.smallest(len(heard))) is not None]
    return Verdict(
        verdict="leaks" if leaking else "inconclusive" if doubts else "no leak found",
        reasons=reasons + failures,
        uncontrolled=sorted({control for found in heard for control in found.score.missing}),
        smallest_effect=min(smallest) if smallest else None,
    )


def gate(leak: Leak, threshold: float, findings: Sequence[Finding]) -> GateResult:
    """Whether the upper end of the leakage of every finding of `leak` lies at `threshold` or below.

    An attack that failed, one whose leakage could not be estimated, and no attack at all do not pass:
    what was not measured cannot be held against a threshold.
    """
    mine = [finding for finding in findings if finding.leak == leak]
    measured = _Measured.among(mine)
    worst = max(measured, key=lambda found: found.leakage.high, default=None)
    unmeasured = len(mine) - len(measured)
    crossed = worst is not None and worst.leakage.high > threshold
    if worst is None:
        tried = f"{_count(len(mine), 'attack')} gave no result" if mine else "no attack was run"
        message = f"{leak}: {tried}, so that nothing can be held against the threshold {threshold:g}"
    else:
        upper = f"the leakage of {_name(worst.finding)} may be as high as {worst.leakage.high:.3f} (95 %)"
        message = f"{leak}: {upper}, {'above' if crossed else 'within'} the threshold {threshold:g}"
        if unmeasured:
            message += f"; {_count(unmeasured, 'attack')} failed or gave no leakage, which does not pass"
    return GateResult(
        leak=leak,
        threshold=threshold,
        upper=None if worst is None else worst.leakage.high,
        passed=worst is not None and not crossed and not unmeasured,
        message=message,
    )


def _doubts(heard: Sequence[_Measured], tolerance: float, deciding: Sequence[Finding]) -> list[str]:
    """What stands between findings that show no leak and the verdict that none was found."""
    unscored = {str(finding.facts["unscored"]) for finding in deciding if "unscored" in finding.facts}
    if not heard and unscored:
        return [f"Nothing could be scored: {'; '.join(sorted(unscored))}."]
    if not heard:
        return ["No completed attack gave a leakage that can be due to the model."]
    doubts: list[str] = []
    if all(found.score.missing for found in heard):
        lacking = {control: supply for found in heard for control, supply in found.score.missing.items()}
        wanted = "; ".join(f"{control.replace('_', '-')}: supply {lacking[control]}" for control in sorted(lacking))
        doubts.append(f"No attack had all its controls ({wanted}).")
    wide = max(heard, key=lambda found: found.leakage.high)
    if wide.leakage.high > tolerance:
        units = "classes" if wide.score.unit == "class" else f"{wide.score.unit}s"
        doubts.append(
            f"A leakage up to {wide.leakage.high:.2f} ({_name(wide.finding)}) cannot be excluded, which is more than "
            f"{tolerance:g}; more {units} would narrow the interval."
        )
    return doubts


def _sentence(found: _Measured, corrected: float, tried: int) -> str:
    """Attack, access, value, control and interval of one finding."""
    score, gap = found.score, found.leakage
    name, control = found.control
    interval = "" if score.low is None or score.high is None else f" [{score.low:.2f}, {score.high:.2f}]"
    against = name.replace("_", " ") + ("" if control is None else f" {control:.2f}")
    shown = "p < 1e-6" if corrected < 1e-6 else f"p = {corrected:.2g}"
    correction = f", corrected for {tried} attacks" if tried > 1 else ""
    ruling = "leaks" if corrected < LEVEL else "not above its controls"
    text = (
        f"{_name(found.finding)}: {ruling}. {score.title} {found.value:.2f}{interval} against {against}: leakage "
        f"{gap.value:.2f} [{gap.low:.2f}, {gap.high:.2f}], {shown}{correction}."
    )
    if score.missing:
        text += f" Uncontrolled: no {' and no '.join(c.replace('_', '-') for c in sorted(score.missing))} control."
    return text


def _behind(defended: Iterable[Finding]) -> list[str]:
    """The findings behind defenses in words; corrected among themselves."""
    heard = _Measured.among(finding for finding in defended if finding.confounded is None)
    corrected = holm([found.p for found in heard])
    return [_sentence(found, p, len(heard)) for found, p in zip(heard, corrected, strict=True)]


def _name(finding: Finding) -> str:
    """The attack with what it saw, and the defenses it met."""
    access = "+".join(str(need).replace("_", " ") for need in finding.needs) or "no access"
    name = f"{finding.attack} ({access})"
    if finding.defenses:
        name = f"behind {' and '.join(_applied(defense) for defense in finding.defenses)}, {name}"
        if finding.adversary == "unaware":
            name += ", unaware of it"
    return name


def _applied(applied: Applied) -> str:
    return f"{applied.name}({', '.join(f'{key}={value}' for key, value in applied.params.items())})"


def _unheard(finding: Finding) -> str:
    if finding.confounded is not None:
        return f"{_name(finding)}: not counted, {finding.confounded}."
    score = finding.score
    distance = finding.facts.get("consistency")
    if score is None and isinstance(distance, float):
        return (
            f"{_name(finding)}: not scored; what it recovered makes an update {distance:.2g} away from the captured "
            "one."
        )
    if score is None and "unscored" in finding.facts:
        return f"{_name(finding)}: not scored."
    return f"{_name(finding)}: not counted, {(score.reason if score else None) or 'it gave no leakage'}."


def _failure(finding: Finding) -> str:
    why = "" if finding.error is None else f": {finding.error.message}"
    return f"{_name(finding)}: failed{why}."


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
