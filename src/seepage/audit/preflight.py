"""Can this even work? What can be expected of attacks on an update, and which assumption fails, before any is run."""

import logging
from collections.abc import Callable, Sequence

from seepage.audit import diagnostics_round as of_round
from seepage.audit import diagnostics_texts as of_texts
from seepage.audit import diagnostics_update as of_update
from seepage.audit.plan import Arm, Plan, Wanted
from seepage.audit.sighted import Sighted
from seepage.core.attack import TextGradientAttack, UpdateAttack
from seepage.core.case import Case
from seepage.core.errors import SeepageError
from seepage.core.knowledge import UpdateKnowledge
from seepage.core.outlook import Diagnostic, Forecast, Outlook
from seepage.core.record import LeftOut, Preflight
from seepage.core.victim import Update, Updates
from seepage.core.vocabulary import Leak
from seepage.store.files import digest

log = logging.getLogger(__name__)

# The gravest first: what makes an update unreadable for all, then what stands in the way of some.
_LOOKED_AT: tuple[Callable[[Sighted], Diagnostic | None], ...] = (
    of_update.finite,
    of_update.size,
    of_round.steps,
    of_round.rate,
    of_round.optimiser,
    of_update.loss,
    of_round.batch_norm,
    of_round.dropout,
    of_round.equations,
    of_update.noise,
    of_update.precision,
    of_update.sparsity,
    of_update.clipping,
    of_texts.width,
    of_texts.deeper,
    of_texts.embedding,
    of_texts.dropout,
    of_round.first_layer,
    of_round.rank,
    of_round.silent,
    of_round.labels,
    of_round.ladder,
)
# What is looked at where the values cannot be computed with.
_OF_BROKEN = (of_update.finite, of_round.batch_norm, of_round.first_layer, of_round.ladder)
_ORDER = {"expected": 0, "possible": 1, "unlikely": 2, "impossible": 3}


def preflights(
    case_of: Callable[[str, Arm], Case], plan: Plan, wanted: Sequence[Wanted], texts: bool = False
) -> list[Preflight]:
    """The pre-flight of every arm of an audit of updates; none where no attack on updates is asked for.

    Args:
        case_of: gives the case of a form of gradient inversion on an arm.
        plan: the cells, and what was left out.
        wanted: the attacks asked for, those left out included.
        texts: whether clients train on texts; what is asked of the other kind has nothing to be looked at.
    """
    asked = [
        want
        for want in wanted
        if isinstance(want.attack, UpdateAttack) and isinstance(want.attack, TextGradientAttack) == texts
    ]
    arms = {digest([cell.arm.applied, cell.arm.aware]): cell.arm for cell in plan.cells}
    every = list(arms.values()) or [Arm()]
    return [preflight(case_of(asked[0].attack.form, arm), arm, plan, asked) for arm in every] if asked else []


def preflight(case: Case, arm: Arm, plan: Plan, wanted: Sequence[Wanted]) -> Preflight:
    """What can be expected on one arm.

    Raises:
        TypeError: for a case of another leak.
    """
    if case.leak is not Leak.GRADIENT or not isinstance(case.knowledge, UpdateKnowledge):
        raise TypeError(f"a case of gradient inversion was wanted, got one of {case.leak}")
    sent = case.victim.clients if isinstance(case.victim, Updates) else (case.victim,)
    updates = tuple(update for update in sent if isinstance(update, Update))
    seen = Sighted(case.knowledge, updates)
    found = diagnostics(seen)
    planned = {
        (cell.attack.name, cell.attack.model_dump_json()) for cell in plan.cells if cell.arm.applied == arm.applied
    }
    left = {row.attack: row for row in plan.left_out if row.defenses == arm.applied}
    forecasts: dict[str, Forecast] = {}
    for want in wanted:
        attack = want.attack
        if not isinstance(attack, UpdateAttack):
            continue
        runs = (attack.name, attack.model_dump_json()) in planned
        told = forecast(attack, want.label or attack.title, seen, None if runs else left.get(attack.name))
        forecasts.setdefault(told.model_dump_json(), told)
    ordered = sorted(forecasts.values(), key=_place)
    return Preflight(defenses=arm.applied, answer=answer(ordered, found), forecasts=ordered, diagnostics=found)


def diagnostics(seen: Sighted) -> list[Diagnostic]:
    """All that is seen of an update, the gravest first."""
    looked = (look(seen) for look in (_LOOKED_AT if seen.broken is None else _OF_BROKEN))
    return [found for found in looked if found is not None]


def forecast(attack: UpdateAttack, title: str, seen: Sighted, left: LeftOut | None) -> Forecast:
    """The outlook of one attack; of one that cannot run, the reason it was left out for."""
    told = None
    if seen.broken is not None:
        told = Outlook(prospect="impossible", why=f"{seen.broken} holds NaN or infinite values")
    elif not seen.norms.any():
        told = Outlook(
            prospect="impossible", why="the update is zero throughout", change="an update that moves the model"
        )
    else:
        try:
            told = attack.outlook(seen.knowledge, seen.update)
        except SeepageError as error:
            log.warning("the outlook of %s: %s", attack.name, error)
            told = Outlook(prospect="impossible", why=str(error))
    if told is None and left is not None and attack.obstacle(seen.knowledge, None) is not None:
        told = Outlook(prospect="impossible", why=left.reason)
    return Forecast(attack=attack.name, title=title, left_out=None if left is None else left.reason, outlook=told)


def _place(row: Forecast) -> tuple[int, bool, str]:
    return (9 if row.outlook is None else _ORDER[row.outlook.prospect], row.left_out is not None, row.attack)


def answer(forecasts: Sequence[Forecast], found: Sequence[Diagnostic]) -> str:
    """The question answered in a sentence or two: what can be expected of what is run, and which assumption fails."""
    run = [row for row in forecasts if row.left_out is None]
    by = {word: [row for row in run if row.outlook is not None and row.outlook.prospect == word] for word in _ORDER}
    fails = [f"{d.assumption} ({d.found})" for d in found if d.holds == "fails"]
    unknown = [d.name for d in found if d.holds == "unknown"]
    if by["expected"]:
        said = f"Yes: {_names(by['expected'])} can be expected to work."
    elif by["possible"]:
        said = f"Perhaps: {_names(by['possible'])} may work."
    elif not run:
        said = "No: none of the attacks can be run on this update."
    elif any(row.outlook is None for row in run):
        said = "Nothing can be said beforehand of the attacks in this audit."
    else:
        said = "No: no attack in this audit can be expected to work on this update."
        said += "".join(f" {row.attack}: {row.outlook.why}." for row in run if row.outlook is not None)
    if fails:
        said += f" What attacks take for granted and is not so: {'; '.join(fails)}."
    else:
        said += " No assumption that was looked at fails."
    if unknown:
        said += f" Open, for want of knowledge: {', '.join(unknown)}."
    return said


def _names(rows: Sequence[Forecast]) -> str:
    return ", ".join(dict.fromkeys(row.attack for row in rows))
