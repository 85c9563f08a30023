"""Class inversion: the secret is what the members of each class look like."""

from dataclasses import replace

import numpy as np

from seepage.cases.world import World
from seepage.core.case import Case
from seepage.core.guess import Guess, Reconstruction
from seepage.core.knowledge import InversionKnowledge
from seepage.core.secrets import InversionSecret
from seepage.core.seeds import stream
from seepage.core.vocabulary import Leak, Modality, Task
from seepage.models.priors import PCAPrior

Array = np.ndarray
PRIOR_DRAWS = 8
# Fewest and most captured answers: an interval over fewer says little, more cost time.
LEAST, CAPTURED = 20, 40


def obstacle(world: World) -> str | None:
    """Why class inversion cannot be audited in this world, or None when it can."""
    if world.spec.modality is Modality.TEXT:
        return "class inversion is not defined for text here"
    if world.task is not Task.CLASSES:
        return f"inversion is of classes, and this victim answers {world.task}"
    if world.judge_missing is not None:
        return f"reconstructions cannot be judged; needed: {world.judge_missing}"
    return None


def knowledge(world: World, form: str = "class") -> InversionKnowledge:
    """What the adversary holds before the first query; needs no victim yet."""
    classes = np.unique(world.members.labels()).astype(np.int64)
    spec = world.adversary_spec or world.spec
    captured = len(captured_rows(world)) if form == "record" else 0
    return InversionKnowledge(public=world.public, spec=spec, classes=classes, priors=world.priors, captured=captured)


def build(world: World, form: str = "class") -> Case:
    """The inversion case of a world, of classes or of single records. Ask `obstacle` first."""
    if form == "record":
        return _of_records(world)
    judge = world.judge
    if judge is None:
        raise ValueError(f"no judge: {world.judge_missing}")
    known = knowledge(world)
    classes = known.classes
    missing: dict[str, str] = {}
    baselines = _baselines(world, classes)
    if not baselines:
        missing["no_model"] = "public records, from which an adversary without the model could guess"
    null, null_knowledge = None, None
    if world.twin_missing is not None:
        missing["null_model"] = world.twin_missing
    else:
        null = world.twin
    if null is not None:
        null_knowledge = replace(known, classes=classes[np.isin(classes, _twin_classes(world))])
    return Case(
        leak=Leak.INVERSION,
        name="class inversion",
        victim=world.victim,
        knowledge=known,
        secret=InversionSecret(records=world.members, judge=judge, public=world.public),
        null=null,
        null_knowledge=null_knowledge,
        baselines=baselines,
        training=world.training,
        missing=missing,
        seed=world.seed,
    )


def captured_rows(world: World) -> Array:
    """The private records whose answers fell into the adversary's hands: `LEAST` to `CAPTURED`, where there are.

    As many of every class, one at the least, taken class by class in turn: neighbours in the list are of
    different classes, which the control by other records' answers needs.
    """
    labels = world.members.labels()
    rng = stream(world.seed, "inversion", "captured")
    classes = np.unique(labels)
    # None that the judge learned from: it would recognise those for having seen them.
    free = ~world.learned_by_judge
    drawn = [rng.permutation(np.nonzero((labels == c) & free)[0]) for c in classes]
    each = min(-(-LEAST // len(classes)), *(len(rows) for rows in drawn)) if len(classes) > 1 else LEAST
    rows = [int(of_class[turn]) for turn in range(each) for of_class in drawn if turn < len(of_class)]
    if len(rows) > CAPTURED:
        # Only with more classes than that: one record a class.
        rows = sorted(rng.permutation(rows)[:CAPTURED].tolist())
    return np.array(rows, dtype=np.int64)


def _twin_classes(world: World) -> Array:
    """The classes that the twin has learned: public records may lack one."""
    records = world.twin_records
    return np.zeros(0, dtype=np.int64) if records is None else np.unique(records.labels())


def _of_records(world: World) -> Case:
    """Single records behind captured answers.

    The control is the same attack on the same victim given the answers to *other* records (each one's
    neighbour in the list, of another class): what it would show of a record without that record's answer.
    It cannot say whether the record was memorised; non-members could, but the judge has learned from them.
    """
    judge = world.judge
    if judge is None:
        raise ValueError(f"no judge: {world.judge_missing}")
    known = knowledge(world, "record")
    captured = world.members[captured_rows(world)]
    n = len(captured)
    missing: dict[str, str] = {}
    baselines: dict[str, Guess] = {}
    public = world.public
    if public is None or len(public) < 2:
        missing["no_model"] = "public records, from which an adversary without the answers could guess"
    else:
        rng = stream(world.seed, "baseline", "records")
        mean = public.x.mean(axis=0, keepdims=True).astype(np.float32)
        baselines["public_mean"] = Reconstruction(np.repeat(mean, n, axis=0))
        baselines["public_record"] = Reconstruction(public.x[rng.integers(len(public), size=n)])
    return Case(
        leak=Leak.INVERSION,
        name="record inversion",
        victim=world.victim,
        knowledge=known,
        secret=InversionSecret(records=world.members, judge=judge, public=public, captured=captured),
        null=world.victim if n > 1 else None,
        null_knowledge=known,
        baselines=baselines,
        training=None,
        missing=missing if n > 1 else {**missing, "null_model": "captured answers to two records or more"},
        seed=world.seed,
        captured=captured.x,
        null_captured=np.roll(captured.x, 1, axis=0) if n > 1 else None,
    )


def _baselines(world: World, classes: Array) -> dict[str, Guess]:
    """What can be had without the victim.

    `nearest_public` is generous to the adversary on purpose: it picks, with the secret in hand, the
    public record nearest to the mean member of each class. Nobody without the model could do better
    by choosing among public records at random, so it is a hard control to beat.
    `prior_draw` is what an adversary with a linear prior of the public records and no choice at all would show.
    """
    public = world.public
    if public is None or len(public) < 2:
        return {}
    found: dict[str, Guess] = {}
    unit = world.spec.bounds.to_unit
    flat = unit(public.x).reshape(len(public), -1)
    flat = flat - flat.mean(axis=1, keepdims=True) if world.spec.modality is Modality.IMAGE else flat
    nearest: list[int] = []
    for c in classes:
        mean = unit(world.members.of_class(int(c)).x).mean(axis=0).reshape(-1)
        mean = mean - mean.mean() if world.spec.modality is Modality.IMAGE else mean
        nearest.append(int(((flat - mean) ** 2).sum(axis=1).argmin()))
    found["nearest_public"] = Reconstruction(public.x[nearest], labels=classes)
    rng = stream(world.seed, "baseline", "prior draw")
    prior = PCAPrior.fit(public.x, world.spec)
    draws = prior.sample(len(classes) * PRIOR_DRAWS, rng)
    found["prior_draw"] = Reconstruction(draws, labels=np.repeat(classes, PRIOR_DRAWS))
    return found
