"""Membership: the secret is which of the candidates were trained on."""

import math
from dataclasses import replace

import numpy as np

from seepage.cases.world import World
from seepage.core.case import Case
from seepage.core.guess import Guess, Scores
from seepage.core.knowledge import MembershipKnowledge
from seepage.core.record import Check
from seepage.core.records import Records
from seepage.core.secrets import MembershipSecret
from seepage.core.seeds import stream
from seepage.core.vocabulary import Leak, Task
from seepage.data.profile import profile

MIN_NONMEMBERS = 10
# False-positive rates looked at, falling; and the one without which a report says little.
RATES = (0.1, 0.01, 0.001, 0.0001)
NEEDED = 0.01
LOW_RATES = "low false-positive rates"


def obstacle(world: World) -> str | None:
    """Why membership cannot be audited in this world, or None when it can."""
    if world.nonmembers is None or not world.nonmembers.labelled:
        what = "classes" if world.task is Task.CLASSES else "targets"
        return f"it needs non-members with {what}: records of the same kind that were not trained on"
    if len(world.nonmembers) < MIN_NONMEMBERS:
        return (
            f"it needs at least {MIN_NONMEMBERS} non-members, got {len(world.nonmembers)}: a false-positive rate of "
            "1 % takes 100, one of 0.1 % takes 1,000"
        )
    return None


def low_rates(nonmembers: int) -> Check:
    """Whether there are non-members enough for the false-positive rates that membership is judged by.

    A rate below 1 / non-members cannot be seen at all: of so few, not one may be accused.
    """
    seen = [rate for rate in RATES if nonmembers * rate >= 1 - 1e-9]
    unseen = [rate for rate in RATES if rate not in seen]
    told = f"{nonmembers:,} non-members"
    told += f" tell false-positive rates down to {seen[-1]:.2%}" if seen else " tell no low false-positive rate"
    if unseen:
        more = math.ceil(1 / unseen[0] - 1e-9)
        told += f"; a rate of {unseen[0]:.2%} takes {more:,} ({more - nonmembers:,} more)"
    return Check(name=LOW_RATES, passed=NEEDED in seen, message=told)


def _candidates(world: World) -> tuple[Records, np.ndarray]:
    if world.nonmembers is None:
        raise ValueError("membership needs non-members")
    together = world.members.joined(world.nonmembers)
    order = stream(world.seed, "membership", "candidates").permutation(len(together))
    return together[order], order < len(world.members)


def knowledge(world: World, form: str = "") -> MembershipKnowledge:
    """What the adversary holds before the first query; needs no victim yet.

    The candidates are members and non-members, shuffled; a class with more of one than of the other
    would give membership away by its frequency, which the blind-baseline check looks for.
    """
    # Without their names: a file name may say where a record came from.
    candidates = replace(_candidates(world)[0], ids=(), source="")
    references = None if world.references is None else world.references(candidates)
    return MembershipKnowledge(public=world.public, candidates=candidates, references=references)


def build(world: World, form: str = "") -> Case:
    """The membership case of a world. Ask `obstacle` first."""
    candidates, is_member = _candidates(world)
    missing: dict[str, str] = {}
    if world.twin_missing is not None:
        missing["null_model"] = world.twin_missing
    baselines: dict[str, Guess] = {}
    if world.public is None or len(world.public) < 2:
        missing["no_model"] = "public records, against which a candidate's typicality can be seen without the model"
    else:
        baselines["typicality"] = Scores(_typicality(candidates.x, world.public.x))
    twin = world.twin if world.twin_missing is None else None
    if twin is not None and twin.classes < world.victim.classes:
        # Losses are asked at the candidate's own class, which this twin does not have.
        twin = None
        missing["null_model"] = f"public records with {world.victim.classes} classes, to train a twin on"
    facts: dict[str, float | str | None] = {}
    if twin is not None and world.public is not None and world.public.class_names != world.members.class_names:
        facts["null_twin"] = (
            "trained on other classes, so that its class i stands for another class than the victim's: "
            "a weaker control than a twin of the same classes"
        )
    return Case(
        leak=Leak.MEMBERSHIP,
        name="membership",
        victim=world.victim,
        knowledge=knowledge(world),
        secret=MembershipSecret(is_member=is_member, candidates=candidates, profile=profile(candidates, world.groups)),
        null=twin,
        baselines=baselines,
        training=world.training,
        missing=missing,
        facts=facts,
        seed=world.seed,
    )


def _typicality(x: np.ndarray, public: np.ndarray) -> np.ndarray:
    """How near each candidate lies to the mean public record, in standard deviations: higher is nearer."""
    flat = public.reshape(len(public), -1).astype(np.float64)
    spread = flat.std(axis=0)
    z = (x.reshape(len(x), -1) - flat.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    return -np.sqrt((z**2).mean(axis=1))
