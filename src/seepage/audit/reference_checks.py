"""Whether reference models are what the attacks take them for: as good as the victim, and the same when made again."""

import numpy as np
from jaxtyping import Float

from seepage.audit.references import Shelf
from seepage.cases.membership import knowledge, obstacle
from seepage.cases.world import World
from seepage.core.record import Check
from seepage.core.records import Records
from seepage.core.victim import Model
from seepage.core.vocabulary import Task
from seepage.models.quality import CALLED, quality

Array = np.ndarray
GOOD = "reference models are as good as the victim"
SAME = "the recipe follows its seed"
# How far two answers of what should be one model may lie apart: what the order of sums does in single precision.
ROUNDING = 1e-3
# Accuracy that may be lacking: less than a twentieth does not show in what attacks find.
SHORT = 0.05


def reference_checks(scene: World) -> list[Check]:
    """What was seen of the reference models of an audit; none where it has none, or they are not all trained."""
    if scene.references is None or obstacle(scene) is not None or scene.nonmembers is None:
        return []
    shelf = knowledge(scene).references
    if not isinstance(shelf, Shelf) or shelf.missing(range(shelf.models)):
        return []
    found = [as_good(shelf, scene.victim, scene.members, scene.nonmembers)]
    if not shelf.built_in:
        found.append(same_again(*(_in_units(answers, shelf.candidates) for answers in shelf.again())))
    return found


def as_good(shelf: Shelf, victim: Model, members: Records, nonmembers: Records) -> Check:
    """Whether references answer as well as the victim, what they were trained on and what they were not."""
    asked = list(zip(shelf.get().answers, shelf.inside, strict=True))
    trained = [quality(answers[inside], shelf.candidates[inside]) for answers, inside in asked]
    held = [quality(answers[~inside], shelf.candidates[~inside]) for answers, inside in asked]
    found = [
        ("of what it was trained on", quality(victim.predict(members.x), members), float(np.mean(trained))),
        ("of what it was not", quality(victim.predict(nonmembers.x), nonmembers), float(np.mean(held))),
    ]
    told = " and ".join(f"{theirs:.3f} {what} (the victim {own:.3f})" for what, own, theirs in found)
    size = f"{shelf.trained_on:,} records each (the victim on {shelf.size:,})"
    message = f"{shelf.models} reference models, trained on {size}: {CALLED[members.task]} {told}"
    short = [what for what, own, theirs in found if own - theirs > SHORT]
    if short:
        message += (
            f". They fall short {' and '.join(short)}: what the attacks with references do not find, better references "
            "may find. Give the recipe the victim was trained with, and public records of the same classes, or as many "
            "non-members as members, so that they are trained on as many records"
        )
    return Check(name=GOOD, passed=not short, message=message)


def same_again(first: Float[Array, " n c"], second: Float[Array, " n c"]) -> Check:
    """Whether two trainings on the same records under the same seed gave the same model.

    Args:
        first: its answers to some records.
        second: the answers of the other one to the same records.
    """
    apart = np.abs(first - second).max(axis=1)
    if apart.max(initial=0.0) <= ROUNDING:
        return Check(name=SAME, passed=True, message="a reference model trained twice gave the same answers")
    return Check(
        name=SAME,
        passed=False,
        message=(
            "a reference model trained twice on the same records under the same seed answers "
            f"{np.median(apart):.2g} apart in the median and {apart.max():.2g} at the most: the recipe draws from "
            "something that the seed it is given does not decide. Findings hold of this training, and another run may "
            "give others; let the recipe seed all it draws from (x, y, seed)"
        ),
    )


def _in_units(answers: Float[Array, " n c"], records: Records) -> Float[Array, " n c"]:
    """Answers as they can be compared: of values in units of the targets' spread."""
    return answers / np.asarray(records.spread) if records.task is Task.VALUES else answers
