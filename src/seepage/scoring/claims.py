"""A claimed epsilon held against what attacks on canaries found: one verdict over all of them.

Reads findings alone, so that the verdict can be made again from a record.
"""

from collections.abc import Sequence

from seepage.core.canaries import Claim
from seepage.core.record import CanaryBound, EpsilonVerdict, Finding
from seepage.scoring.canaries import BOUNDS, CONFIDENCE, DELTA, NAMES, guesses_of
from seepage.scoring.epsilon import MOST_CANARIES, reach, verdict

# The name of the case that canaries are told apart in.
CANARIES = "canaries"


def of_canaries(finding: Finding) -> bool:
    """Whether a finding is about canaries, and so about the training's privacy rather than about members."""
    return finding.case == CANARIES


def epsilon_verdict(findings: Sequence[Finding], claim: Claim | None) -> EpsilonVerdict | None:
    """What the findings on canaries say of a claim; None where no canaries were played.

    Findings on the undefended victim decide. Where one attack was said beforehand to decide (`Claim.attack`), its bound
    alone is held against the claim, at 95 %; otherwise the greatest of the bounds of all k attacks, each at a
    confidence of 1 - 0.05 / k (Bonferroni), so that a claim that holds is called violated in at most 5 % of audits.

    - "violated": that bound lies above the claimed epsilon;
    - "not informative": so many canaries could not have refuted the claim, were every guess right;
    - "consistent": otherwise. It is no proof of the claim.
    """
    mine = [finding for finding in findings if of_canaries(finding) and not finding.defenses]
    if not mine:
        return None
    said = claim or Claim(0.0, DELTA)
    deciding = [f for f in mine if said.attack is None or f.attack == said.attack]
    # Attacks that failed were tried all the same: what they would have found counts among the tries.
    tried = max(len(deciding), 1)
    confidence = 1 - (1 - CONFIDENCE) / tried
    bound = BOUNDS[said.family]
    bounds: list[CanaryBound] = []
    for finding in mine:
        guesses = guesses_of(finding.facts, said.family) if finding.status == "done" else None
        if guesses is None or finding.score is None or finding.score.value is None:
            continue
        decides = any(finding is one for one in deciding)
        bounds.append(
            CanaryBound(
                finding=finding.id,
                title=finding.title,
                alone=finding.score.value,
                bound=bound(guesses, said.delta, confidence) if decides else None,
                guessed=guesses.canaries,
                made=guesses.made,
                right=guesses.right,
            )
        )
    held = [one for one in bounds if one.bound is not None]
    best = max(held, key=lambda one: one.bound or 0.0, default=None)
    whole = next((f.facts for f in mine if "canaries" in f.facts), {})
    counts = (whole.get("canaries"), whole.get("canaries_included"))
    canaries, included = (int(n) if isinstance(n, float) else 0 for n in counts)
    told = EpsilonVerdict(
        claimed=None if claim is None else claim.epsilon,
        delta=said.delta,
        family=said.family,
        source=None if claim is None else claim.source,
        standing=None,
        bound=None if best is None else best.bound,
        confidence=CONFIDENCE,
        each_at=confidence,
        tried=tried,
        decided_by=None if best is None else best.finding,
        reach=None,
        canaries=canaries,
        included=included,
        wanted=None,
        bounds=bounds,
        message="",
    )
    if best is None or best.bound is None:
        which = f"the attack '{said.attack}' gave" if said.attack else "no attack gave"
        standing = None if claim is None else "not informative"
        message = f"{which} no bound on epsilon" if said.attack is None else f"{which} none"
        return told.model_copy(update={"standing": standing, "message": message.capitalize() + "."})
    ruled = verdict(said.epsilon, best.bound, best.guessed, said.delta, bound, confidence)
    # Half of the canaries choose how to guess.
    wanted = None if ruled.wanted is None or ruled.wanted >= MOST_CANARIES else 2 * ruled.wanted
    found = told.model_copy(update={"reach": ruled.reach})
    if claim is None:
        return found.model_copy(update={"message": _unclaimed(found)})
    found = found.model_copy(update={"standing": ruled.standing, "wanted": wanted})
    return found.model_copy(update={"message": _message(found, ruled.wanted is not None and wanted is None)})


def _shown(found: EpsilonVerdict) -> str:
    tried = "" if found.tried == 1 else f", corrected for {found.tried} attacks"
    return f"{found.bound or 0.0:.2f} at delta {found.delta:g} ({found.confidence:.0%}{tried}; {NAMES[found.family]})"


def _unclaimed(found: EpsilonVerdict) -> str:
    return f"Epsilon is at least {_shown(found)}. No epsilon was claimed that it could be held against."


def _message(found: EpsilonVerdict, hopeless: bool) -> str:
    claim = f"the claimed epsilon of {found.claimed:g}"
    if found.standing == "violated":
        text = f"Violated: epsilon is at least {_shown(found)}, above {claim}."
        if found.family == "gaussian":
            text += " It supposes that the training tells no more than a Gaussian mechanism does."
        return text
    if found.standing == "consistent":
        return (
            f"Consistent: epsilon is at least {_shown(found)}, within {claim}; bounds up to {found.reach or 0.0:.2f} "
            "could have been seen. A stronger attack, or stronger canaries, may still find more: this is no proof."
        )
    more = f"{found.wanted:,} canaries or more could" if found.wanted is not None else "no number of canaries will"
    if hopeless:
        more = f"more than {MOST_CANARIES:,} would be needed"
    other = ""
    if found.family == "any" and found.delta > 0 and found.bounds:
        gaussian = reach(found.bounds[0].guessed, found.delta, BOUNDS["gaussian"], found.each_at)
        if gaussian > (found.claimed or 0.0):
            other = f'; or a bound for Gaussian mechanisms alone (family = "gaussian"), up to {gaussian:.2f}'
    return (
        f"Not informative: were every guess right, {found.canaries:,} canaries would bound epsilon by "
        f"{found.reach or 0.0:.2f} at the most, not above {claim}; {more}{other}."
    )
