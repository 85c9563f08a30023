"""The rows of the matrix: for each leak that lives here, how its case is built and its guesses scored."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from seepage.cases import capture, text_capture
from seepage.cases import gradient as gradient_case
from seepage.cases import gradient_texts as gradient_texts_case
from seepage.cases import inversion as inversion_case
from seepage.cases import inversion_texts as inversion_texts_case
from seepage.cases import membership as membership_case
from seepage.cases import membership_canaries as canaries_case
from seepage.cases import property as property_case
from seepage.cases.capture import Capture
from seepage.cases.federation import Federation
from seepage.cases.scene import Scene
from seepage.cases.sentences import Sentences
from seepage.cases.text_capture import TextCapture
from seepage.cases.text_federation import TextFederation
from seepage.cases.world import World
from seepage.core.case import Case
from seepage.core.knowledge import Knowledge
from seepage.core.scorer import Scorer
from seepage.core.vocabulary import Leak
from seepage.scoring import canaries as canaries_score
from seepage.scoring import gradient as gradient_score
from seepage.scoring import inversion as inversion_score
from seepage.scoring import membership as membership_score
from seepage.scoring import property as property_score


@dataclass(frozen=True)
class Row:
    """One leak in one kind of scene: why it cannot be audited, what its adversary knows, its case, its scorer.

    Knowledge and case are those of a form of the leak, as the attack names it (`Attack.form`), one of `forms`.
    """

    scene: type[Scene]
    forms: frozenset[str]
    obstacle: Callable[[Any], str | None]
    knowledge: Callable[[Any, str], Knowledge]
    build: Callable[[Any, str], Case]
    score: Scorer


LEAKS: dict[Leak, tuple[Row, ...]] = {
    Leak.INVERSION: (
        Row(
            World,
            frozenset({"class", "record"}),
            inversion_case.obstacle,
            inversion_case.knowledge,
            inversion_case.build,
            inversion_score.score,
        ),
        Row(
            Sentences,
            frozenset({"text"}),
            inversion_texts_case.obstacle,
            inversion_texts_case.knowledge,
            inversion_texts_case.build,
            inversion_score.score,
        ),
    ),
    Leak.GRADIENT: (
        Row(
            Federation,
            frozenset({"", "labels"}),
            gradient_case.obstacle,
            gradient_case.knowledge,
            gradient_case.build,
            gradient_score.score,
        ),
        Row(
            Capture,
            frozenset({"", "labels"}),
            capture.obstacle,
            capture.knowledge,
            capture.build,
            gradient_score.score,
        ),
        Row(
            TextFederation,
            frozenset({"text"}),
            gradient_texts_case.obstacle,
            gradient_texts_case.knowledge,
            gradient_texts_case.build,
            gradient_score.score,
        ),
        Row(
            TextCapture,
            frozenset({"text"}),
            text_capture.obstacle,
            text_capture.knowledge,
            text_capture.build,
            gradient_score.score,
        ),
    ),
    Leak.MEMBERSHIP: (
        Row(
            World,
            frozenset({""}),
            membership_case.obstacle,
            membership_case.knowledge,
            membership_case.build,
            membership_score.score,
        ),
        Row(
            World,
            frozenset({"canaries"}),
            canaries_case.obstacle,
            canaries_case.knowledge,
            canaries_case.build,
            canaries_score.score,
        ),
        Row(
            World,
            frozenset({"gradients"}),
            canaries_case.obstacle_gradients,
            canaries_case.knowledge,
            canaries_case.build,
            canaries_score.score,
        ),
        Row(
            World,
            frozenset({"property"}),
            property_case.obstacle,
            property_case.knowledge,
            property_case.build,
            property_score.score,
        ),
    ),
}


def row(leak: Leak, scene: Scene, form: str | None = None) -> Row | None:
    """How a leak, or one form of it, is audited in such a scene; None where it is not."""
    rows = (found for found in LEAKS.get(leak, ()) if isinstance(scene, found.scene))
    return next((found for found in rows if form is None or form in found.forms), None)


def obstacle(leak: Leak, scene: Scene, form: str | None = None) -> str | None:
    """Why a leak, or one form of it, cannot be audited in this scene, or None when it can."""
    found = row(leak, scene, form)
    if found is None:
        what = f"the leak '{leak}'" + (f" in the form '{form}'" if row(leak, scene) is not None else "")
        return f"{what} is not audited on {scene.of}"
    return found.obstacle(scene)


def knowledge(leak: Leak, scene: Scene, form: str) -> Knowledge:
    """What the adversary holds before the first query. Ask `obstacle` first.

    Raises:
        ValueError: where the leak is not audited.
    """
    found = row(leak, scene, form)
    if found is None:
        raise ValueError(f"the leak '{leak}' is not audited on such a victim")
    return found.knowledge(scene, form)
