"""Inversion of texts: the secret is which text a captured vector was given to."""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import log

import numpy as np

from seepage.cases.sentences import Sentences
from seepage.core.case import Case
from seepage.core.guess import Guess, Texts
from seepage.core.knowledge import TextInversionKnowledge
from seepage.core.records import Records
from seepage.core.secrets import TextInversionSecret
from seepage.core.seeds import stream
from seepage.core.vocabulary import Leak
from seepage.core.words import document_counts, words

# Fewest and most captured vectors: an interval over fewer says little, more cost time.
LEAST, CAPTURED = 2, 40


def obstacle(scene: Sentences) -> str | None:
    """Why inversion of texts cannot be audited in this scene, or None when it can."""
    if len(scene.members) < LEAST:
        return f"it needs {LEAST} private texts or more, got {len(scene.members)}"
    return None


def knowledge(scene: Sentences, form: str = "text") -> TextInversionKnowledge:
    """What the adversary holds before the first query; needs no victim yet."""
    return TextInversionKnowledge(public=scene.public, captured=min(len(scene.members), CAPTURED))


def build(scene: Sentences, form: str = "text") -> Case:
    """The case of a scene. Ask `obstacle` first.

    The control is the same attack on the same encoder given the vectors of *other* texts (each one's
    neighbour in the list): what it would write without that text's vector. It cannot say whether the
    encoder was trained on a text, and needs not: whoever holds the vector holds what it gives away.
    """
    n = min(len(scene.members), CAPTURED)
    chosen = stream(scene.seed, "inversion", "captured texts").permutation(len(scene.members))[:n]
    captured = scene.members[np.sort(chosen)]
    known = knowledge(scene)
    baselines, missing = _baselines(captured, scene.public, scene.seed)
    return Case(
        leak=Leak.INVERSION,
        name="text inversion",
        victim=scene.victim,
        knowledge=known,
        secret=TextInversionSecret(captured=captured, public=scene.public),
        null=scene.victim,
        null_knowledge=known,
        baselines=baselines,
        missing=missing,
        seed=scene.seed,
        captured=captured.texts,
        null_captured=(*captured.texts[-1:], *captured.texts[:-1]),
    )


def _baselines(captured: Records, public: Records | None, seed: int) -> tuple[dict[str, Guess], dict[str, str]]:
    """What can be had without the vectors.

    `public_text` is a public text drawn blind. `nearest_public` is generous to the adversary on purpose: with the
    secret in hand it picks the public text that shares most of its rarer words with the true one. Nobody without
    the vector could choose so well among public texts, so it is a hard control to beat.
    """
    if public is None or not len(public):
        return {}, {"no_model": "public texts, from which an adversary without the vectors could guess"}
    rng = stream(seed, "baseline", "texts")
    drawn = [public.texts[i] for i in rng.integers(len(public), size=len(captured))]
    nearest = _nearest(captured.texts, public.texts)
    return {
        "public_text": Texts(tuple((text,) for text in drawn)),
        "nearest_public": Texts(tuple((public.texts[i],) for i in nearest)),
    }, {}


def _nearest(captured: Sequence[str], public: Sequence[str]) -> list[int]:
    """For each text the public one with most words in common, rare ones counting more, as a share of both (Dice)."""
    seen = document_counts(public)
    weight = {word: log((len(public) + 1) / (n + 1)) for word, n in seen.items()}
    split = [Counter(words(text)) for text in public]
    length = np.array([_weigh(bag, weight) for bag in split])
    found: list[int] = []
    for text in captured:
        bag = Counter(words(text))
        common = np.array([_weigh(bag & other, weight) for other in split])
        found.append(int(np.argmax(2 * common / np.maximum(length + _weigh(bag, weight), 1e-12))))
    return found


def _weigh(bag: Counter[str], weight: Mapping[str, float]) -> float:
    return sum(n * weight.get(word, 0.0) for word, n in bag.items())
