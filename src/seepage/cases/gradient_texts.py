"""Gradient inversion of texts: the secret is the texts that clients trained on in one round."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Int

from seepage.cases.text_federation import TextFederation
from seepage.core.assumptions import Assumptions, Rung, Standing
from seepage.core.case import Case
from seepage.core.guess import Guess, Texts
from seepage.core.knowledge import TextGradientKnowledge
from seepage.core.records import Records
from seepage.core.secrets import GradientSecret
from seepage.core.seeds import stream
from seepage.core.tokens import tokens
from seepage.core.vocabulary import Leak, Modality
from seepage.models.text_clients import TextNet

Array = np.ndarray
# As many of the most frequent public words as a text is read of, at the most.
FREQUENT = 200


def obstacle(scene: TextFederation) -> str | None:
    """Why gradient inversion cannot be audited in this scene, or None when it can."""
    return None if scene.modality is Modality.TEXT else "it needs records that are texts"


def knowledge(scene: TextFederation, form: str = "text") -> TextGradientKnowledge:
    """What the adversary holds: the model, the public texts, and the rungs of the ladder that it is told."""
    return _knowledge(scene, scene.members, scene.rows)


def _knowledge(scene: TextFederation, pool: Records, rows: Int[Array, " k n"]) -> TextGradientKnowledge:
    local, gradient = scene.local, scene.local.kind == "gradient"
    labels = None if pool.y is None else pool.y[rows]
    classes = len(scene.members.class_names)
    every = {
        "batch": scene.records,
        "labels": labels,
        "counts": None if labels is None else np.stack([np.bincount(mine, minlength=classes) for mine in labels]),
        "rate": None if gradient else local.rate,
        "local_batch": scene.records if gradient else local.batch or scene.records,
        "steps": local.steps(scene.records),
        "epochs": 1 if gradient else local.epochs,
        "mode": local.mode,
        "optimiser": scene.optimiser,
        "prior": None if scene.public is None else "public texts",
    }
    told: dict[str, Any] = {
        name: Rung.known(value) for name, value in every.items() if name in scene.knows and value is not None
    }
    if scene.blurred and "local_batch" in told:
        told["local_batch"] = Rung(every["local_batch"], Standing.GUESSED)
    return TextGradientKnowledge(
        public=scene.public if "prior" in scene.knows else None,
        net=scene.net,
        classes=classes,
        clients=scene.clients,
        assumptions=Assumptions(**told),
    )


def build(scene: TextFederation, form: str = "text") -> Case:
    """The case of a federation on texts. Ask `obstacle` first.

    The secret are the texts as the model read them: cut to its length, folded and spaced by its tokenizer, without
    what its vocabulary does not have; no update can speak of more. The control `null_model` is the same attack on
    updates that clients with *other* texts made of the same model.
    """
    chosen = scene.members[scene.rows.reshape(-1)]
    batch = replace(chosen, texts=tuple(scene.net.read(text) for text in chosen.texts))
    missing: dict[str, str] = {}
    baselines = alone(scene.net, scene.public, scene.clients, scene.records, scene.seed)
    if not baselines:
        missing["no_model"] = "public texts, from which an adversary without the updates could guess"
    null_knowledge = None
    if scene.twin_missing is not None:
        missing["null_model"] = scene.twin_missing
    else:
        null_knowledge = _knowledge(scene, scene.spare, scene.spare_rows)
    return Case(
        leak=Leak.GRADIENT,
        name="texts of an update",
        victim=scene.victim,
        knowledge=knowledge(scene),
        secret=GradientSecret(batch=batch, client=np.repeat(np.arange(scene.clients), scene.records)),
        null=scene.twin,
        null_knowledge=null_knowledge,
        baselines=baselines,
        training=scene.training,
        missing=missing,
        facts={"share_of_words_read": _read(chosen, batch)},
        seed=scene.seed,
    )


def _read(written: Records, read: Records) -> float:
    """The share of the texts' words that is left when the model has read them."""
    whole = sum(len(tokens(text)) for text in written.texts)
    return sum(len(tokens(text)) for text in read.texts) / max(whole, 1)


def alone(net: TextNet, public: Records | None, clients: int, records: int, seed: int) -> dict[str, Guess]:
    """What can be said of texts without the updates: the most frequent public words, and public texts at random."""
    if public is None or not len(public):
        return {}
    texts = [net.read(text) for text in public.texts]
    counts = Counter(word for text in texts for word in tokens(text))
    # Ties by the word itself, so that the order of the texts does not matter.
    frequent = [word for word, _ in sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:FREQUENT]]
    drawn = stream(seed, "baseline", "texts").integers(len(texts), size=(clients, records))
    return {
        "frequent_words": Texts(((" ".join(frequent),) * records,) * clients),
        "public_text": Texts(tuple(tuple(texts[i] for i in row) for row in drawn.tolist())),
    }
