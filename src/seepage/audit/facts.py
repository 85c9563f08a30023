"""What a record says of the victim and the judge of an audit, for each kind of scene."""

from dataclasses import dataclass, field
from functools import singledispatch

import numpy as np
import torch

from seepage.audit.records import Facts
from seepage.cases.capture import Capture
from seepage.cases.federation import Federation
from seepage.cases.scene import Scene
from seepage.cases.sentences import Sentences
from seepage.cases.text_capture import TextCapture
from seepage.cases.text_federation import TextFederation
from seepage.cases.world import World
from seepage.core.errors import SeepageError
from seepage.core.record import Check
from seepage.core.records import Records
from seepage.core.victim import Model
from seepage.core.vocabulary import Task
from seepage.models.quality import CALLED, NAMES, beats_a_constant, quality
from seepage.scoring.stats import clopper_pearson

Array = np.ndarray

FITS = "victim fits its members"


@dataclass(frozen=True)
class Found:
    """Facts about a victim and its judge, and the checks that came with them."""

    victim: Facts
    judge: Facts = field(default_factory=dict[str, float | str | None])
    checks: tuple[Check, ...] = ()


@singledispatch
def facts_of(scene: Scene) -> Found:
    """What is to be said of a scene that no function of its own describes."""
    return Found({"offers": ", ".join(sorted(scene.offers))})


@facts_of.register
def _(scene: Sentences) -> Found:
    encoder = scene.victim
    facts: Facts = {
        "offers": ", ".join(sorted(scene.offers)),
        "fingerprint": getattr(encoder, "fingerprint", None),
        **getattr(encoder, "facts", {}),
        "null_control": "the same attack given the vectors of other texts",
    }
    return Found(facts, checks=scene.checks)


@facts_of.register
def _(scene: World) -> Found:
    victim = scene.victim
    answers, said = _answers(victim, scene.members)
    own = None if answers is None else quality(answers, scene.members)
    others = scene.nonmembers
    told, _ = (None, None) if others is None else _answers(victim, others)
    held = None if told is None or others is None else quality(told, others)
    asked = len(scene.members) + (0 if scene.nonmembers is None else len(scene.nonmembers))
    name = "" if scene.recipe is None else scene.recipe.name
    facts: Facts = {
        "family": victim.family,
        **({"classes": victim.classes} if scene.task is Task.CLASSES else {"answers": str(scene.task)}),
        "offers": ", ".join(sorted(victim.offers)),
        "fingerprint": getattr(victim, "fingerprint", None),
        f"{NAMES[scene.task]}_members": own,
        f"{NAMES[scene.task]}_nonmembers": held,
        # For the accuracies above; the adversary's own queries stand with each finding.
        "queries_by_the_audit_itself": float(asked),
        **({} if said is None else {f"{NAMES[scene.task]}_unknown": said}),
        "null_twin": "none: " + scene.twin_missing if scene.twin_missing else f"recipe '{name}'",
    }
    judge: Facts = {} if scene.judge is None else dict(scene.judge.facts)
    if scene.task is Task.CLASSES:
        fits = _fits(own, len(scene.members), victim.classes)
    else:
        fits = None if answers is None else _fits_better(answers, scene.members)
    return Found(facts, judge, () if fits is None else (fits,))


def _fits(accuracy: float | None, members: int, classes: int) -> Check | None:
    """Whether the victim knows its members at all: where it does not, labels, range or preprocessing are wrong."""
    if accuracy is None:
        return None
    low = clopper_pearson(round(accuracy * members), members).low
    passed = low > 1 / classes
    message = f"the victim is right about {accuracy:.2f} of its members"
    if not passed:
        message += (
            f", no more than a guess among {classes} classes: is it trained, are the classes in its order, are value "
            "range and preprocessing declared as it takes them ([victim] input, or input=)? Until then nothing that "
            "is not found means anything"
        )
    return Check(name=FITS, passed=passed, message=message)


@facts_of.register
def _(scene: Capture) -> Found:
    net = scene.net
    return Found(
        {
            "offers": ", ".join(sorted(scene.offers)),
            "classes": net.classes,
            "parameters": net.parameters,
            "update": scene.update.kind,
            "threat_model": scene.ladder.facts()["threat_model"],
            "null_twin": "none: " + scene.twin_missing if scene.twin_missing else None,
        }
    )


@facts_of.register
def _(scene: TextCapture) -> Found:
    net = scene.net
    return Found(
        {
            "offers": ", ".join(sorted(scene.offers)),
            "architecture": net.family,
            "task": net.task,
            "classes": net.classes or None,
            "parameters": net.parameters,
            "vocabulary": net.vocabulary,
            "update": scene.update.kind,
            "threat_model": scene.ladder.facts()["threat_model"],
            "null_twin": f"none: {scene.twin_missing}",
        }
    )


@facts_of.register
def _(scene: Federation) -> Found:
    net, local = scene.net, scene.local
    facts: Facts = {
        "offers": ", ".join(sorted(scene.offers)),
        "classes": net.classes,
        "parameters": net.parameters,
        "parameters_per_value": net.parameters / (scene.records * scene.spec.size),
        "clients": scene.clients,
        "records_each": scene.records,
        "update": local.kind,
        "local_steps": local.steps(scene.records),
        "local_rate": None if local.kind == "gradient" or scene.unmade else local.rate,
        "mode": local.mode,
        "null_twin": "none: " + scene.twin_missing if scene.twin_missing else "updates of other records",
    }
    spare = scene.spare
    if len(spare) and spare.y is not None:
        with torch.no_grad():
            said = net.logits(torch.from_numpy(spare.x)).argmax(dim=1).numpy()
        facts["accuracy_nonmembers"] = float((said == spare.labels()).mean())
    return Found(facts)


@facts_of.register
def _(scene: TextFederation) -> Found:
    net, local = scene.net, scene.local
    batch = net.encode([scene.members.texts[i] for i in scene.rows.reshape(-1)])
    facts: Facts = {
        "offers": ", ".join(sorted(scene.offers)),
        "architecture": net.family,
        "task": net.task,
        "classes": net.classes or None,
        "parameters": net.parameters,
        "vocabulary": net.vocabulary,
        "clients": scene.clients,
        "records_each": scene.records,
        "tokens_a_client": float(batch.mask.sum()) / scene.clients,
        "update": local.kind,
        "local_steps": local.steps(scene.records),
        "local_rate": None if local.kind == "gradient" or scene.unmade else local.rate,
        "mode": local.mode,
        "null_twin": "none: " + scene.twin_missing if scene.twin_missing else "updates of other texts",
    }
    spare = scene.spare
    if net.classes and len(spare) and spare.y is not None:
        read = net.encode(spare.texts)
        with torch.no_grad():
            said = net.logits(torch.from_numpy(read.ids), torch.from_numpy(read.mask)).argmax(dim=1).numpy()
        facts["accuracy_nonmembers"] = float((said == spare.labels()).mean())
    return Found(facts, checks=scene.checks)


def _answers(victim: Model, records: Records) -> tuple[Array | None, str | None]:
    """What the victim answers, or None and why it could not be had: an endpoint may have gone by now."""
    if not records.labelled or not len(records):
        return None, None
    try:
        return victim.predict(records.x), None
    except SeepageError as error:
        return None, str(error)


def _fits_better(answers: Array, members: Records) -> Check:
    """Whether a victim of values or labels knows its members better than one answer for all of them would."""
    found, passed = quality(answers, members), beats_a_constant(answers, members)
    message = f"{CALLED[members.task]} on its members: {found:.2f}"
    if not passed:
        message += (
            "; one answer for all of them fits as well: is it trained, are the targets in the units and the order it "
            "answers them in, are value range and preprocessing declared as it takes them ([victim] input, or input=)? "
            "Until then nothing that is not found means anything"
        )
    return Check(name=FITS, passed=passed, message=message)
