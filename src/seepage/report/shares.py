"""The share of a group, in words: what an attack tells of it beside what the public says and the truth."""

from seepage.core.record import Finding
from seepage.report.numbers import number
from seepage.report.words import Part, Sentence, actor, said

PROPERTY_QUESTION = "Can one tell how large a share of the training set a group is?"


def is_property(finding: Finding | None) -> bool:
    """Whether a finding is about the share of a group."""
    return finding is not None and finding.case == "property"


def estimated(finding: Finding) -> Sentence:
    """What the attack says of the victim itself, beside the public's share and the true one."""
    facts = finding.facts
    low, high, public = (facts.get(name) for name in ("estimated_low", "estimated_high", "public_share"))
    if not (isinstance(low, float) and isinstance(high, float) and isinstance(public, float)):
        return said("It gave no estimate of the victim's own share.")
    group, truth = facts.get("group"), share_text(facts.get("true_share"))
    if low <= 0 and high >= 1:
        return said(
            f"Of this one model it cannot say what share of its training set is {group}: the public says "
            f"{share_text(public)}, and it is {truth}."
        )
    beyond = "above" if low > public else "below" if high < public else "no different from"
    sure = "which is" if beyond != "no different from" else "which may be"
    return said(
        f"Of this one model it says that {group} is ",
        Part(interval_text(finding), strong=True),
        f" of the training set, {sure} {beyond} the {share_text(public)} that the public says; it is {truth}.",
    )


def lead_of_property(finding: Finding) -> Sentence:
    """How well models at the victim's share are told from those at the public's."""
    score, facts = finding.score, finding.facts
    value = 0.0 if score is None or score.value is None else score.value
    pair = (share_text(facts.get("true_share")), share_text(facts.get("public_share")))
    return said(
        f"Shown one model in whose training set the share of {facts.get('group')} is {pair[0]} and one where it is "
        f"{pair[1]}, as the public says, {actor(finding)} picks the right one ",
        Part(f"{round(value * 100)} times in 100", strong=True),
        "; a coin, 50 times. ",
    ) + estimated(finding)


def interval_text(finding: Finding) -> str:
    """The estimate of the victim with its interval; nothing where there is none."""
    told = [finding.facts.get(f"estimated_{name}") for name in ("share", "low", "high")]
    value, low, high = (one if isinstance(one, float) else None for one in told)
    return "" if value is None or low is None or high is None else f"{number(value)} [{number(low)}, {number(high)}]"


def share_text(value: float | str | None) -> str:
    """A share as it is shown; nothing where there is none."""
    return number(value) if isinstance(value, float) else ""
