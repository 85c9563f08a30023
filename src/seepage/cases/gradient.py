"""Gradient inversion: the secret is the records that clients trained on in one round."""

from typing import Any

import numpy as np
from jaxtyping import Int

from seepage.cases.federation import Federation
from seepage.core.assumptions import Assumptions, Rung, Standing
from seepage.core.case import Case
from seepage.core.guess import Guess, Posterior, Reconstruction
from seepage.core.knowledge import GradientKnowledge
from seepage.core.records import Records
from seepage.core.secrets import GradientSecret
from seepage.core.seeds import stream
from seepage.core.vocabulary import Leak
from seepage.models.priors import PCAPrior

Array = np.ndarray
# Records that a reconstruction has to be told from, besides those of the batches.
OTHERS = 1000


def obstacle(scene: Federation) -> str | None:
    """Why gradient inversion cannot be audited in this scene, or None when it can."""
    if scene.members.y is None:
        return "it needs records with classes: clients train a classifier on them"
    return None


def knowledge(scene: Federation, form: str = "") -> GradientKnowledge:
    """What the adversary holds: the model, the public records, and the rungs of the ladder that it is told."""
    return _knowledge(scene, scene.members, scene.rows)


def _knowledge(scene: Federation, pool: Records, rows: Int[Array, " k n"]) -> GradientKnowledge:
    local, labels, classes = scene.local, pool.labels()[rows], len(scene.members.class_names)
    counts = np.stack([np.bincount(mine, minlength=classes) for mine in labels])
    gradient = local.kind == "gradient"
    every = {
        "batch": scene.records,
        "labels": labels,
        "counts": counts,
        "rate": None if gradient else local.rate,
        "local_batch": scene.records if gradient else local.batch or scene.records,
        "steps": local.steps(scene.records),
        "epochs": 1 if gradient else local.epochs,
        "mode": local.mode,
        "optimiser": scene.optimiser,
        "normalisation": "as declared",
        "statistics": _statistics(scene, pool, rows) if "statistics" in scene.knows else None,
        "prior": None if scene.public is None else "public records",
    }
    told: dict[str, Any] = {
        name: Rung.known(value) for name, value in every.items() if name in scene.knows and value is not None
    }
    if scene.blurred and "local_batch" in told:
        told["local_batch"] = Rung(every["local_batch"], Standing.GUESSED)
    return GradientKnowledge(
        public=scene.public if "prior" in scene.knows else None,
        spec=scene.spec,
        net=scene.net,
        classes=classes,
        clients=scene.clients,
        assumptions=Assumptions(**told),
        priors=scene.priors,
    )


def _statistics(scene: Federation, pool: Records, rows: Int[Array, " k n"]) -> list[dict[str, Array]] | None:
    """What batch normalisation saw of each client's records, at the weights sent; None without such layers."""
    if not scene.net.has_batch_norm:
        return None
    return [scene.net.batch_statistics(pool.x[mine], scene.local.mode) for mine in rows]


def build(scene: Federation, form: str = "") -> Case:
    """The case of a federation, of records or (`form` "labels") of labels. Ask `obstacle` first.

    The control `null_model` is the same attack on updates that clients with *other* records made of the same
    model: what it would show of these records without their update.
    """
    batch = scene.members[scene.rows.reshape(-1)]
    client = np.repeat(np.arange(scene.clients), scene.records)
    known = knowledge(scene)
    missing: dict[str, str] = {}
    baselines = _labels_alone(scene) if form == "labels" else _records_alone(scene, batch, client)
    if not baselines:
        missing["no_model"] = "public records of the same classes, by whose frequency labels could be guessed"
    null_knowledge = None
    if scene.twin_missing is not None:
        missing["null_model"] = scene.twin_missing
    else:
        null_knowledge = _knowledge(scene, scene.spare, scene.spare_rows)
    others = scene.spare
    if len(others) > OTHERS:
        others = others[stream(scene.seed, "gradient", "others").permutation(len(others))[:OTHERS]]
    return Case(
        leak=Leak.GRADIENT,
        name="labels of an update" if form == "labels" else "gradient inversion",
        victim=scene.victim,
        knowledge=known,
        secret=GradientSecret(batch=batch, client=client, others=others if len(others) else None),
        null=scene.twin,
        null_knowledge=null_knowledge,
        baselines=baselines,
        training=scene.training,
        missing=missing,
        seed=scene.seed,
    )


def _records_alone(scene: Federation, batch: Records, client: Int[Array, " n"]) -> dict[str, Guess]:
    """What can be said of the records without the update.

    `nearest_public` is picked with the records in hand: nobody without them could choose so well among
    public records. It controls likeness; it says nothing of identification.
    """
    n, bounds = len(batch), scene.spec.bounds
    middle = np.broadcast_to((bounds.low + bounds.high) / 2, batch.x.shape).astype(np.float32)
    found: dict[str, Guess] = {"constant": Reconstruction(middle, client=client)}
    public = scene.public
    if public is None or len(public) < 2:
        return found
    mean = public.x.mean(axis=0, keepdims=True).astype(np.float32)
    flat, pool = batch.x.reshape(n, -1).astype(np.float64), public.x.reshape(len(public), -1).astype(np.float64)
    nearest = ((pool**2).sum(axis=1)[None] - 2 * flat @ pool.T).argmin(axis=1)
    rng = stream(scene.seed, "baseline", "gradient")
    drawn = PCAPrior.fit(public.x, scene.spec).sample(n, rng)
    return found | {
        "public_mean": Reconstruction(np.repeat(mean, n, axis=0), client=client),
        "nearest_public": Reconstruction(public.x[nearest], client=client),
        "prior_draw": Reconstruction(drawn.astype(np.float32), client=client),
    }


def _labels_alone(scene: Federation) -> dict[str, Guess]:
    """The classes as frequent as they are among public records of the same classes."""
    public, names = scene.public, scene.members.class_names
    if public is None or public.y is None or public.class_names != names:
        return {}
    share = np.bincount(public.y, minlength=len(names)) / len(public)
    return {"public_frequency": Posterior(np.repeat(share[None], scene.clients, axis=0))}
