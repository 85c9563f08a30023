"""Parts that attacks on vectors of texts share: what they ask the encoder, and directions instead of vectors."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from seepage.core.knowledge import TextInversionKnowledge
from seepage.core.target import Target

Array = np.ndarray
BATCH = 256


def within(wanted: int, budget: int | None) -> int:
    """How many questions of `wanted` a budget allows."""
    return wanted if budget is None else max(min(wanted, budget), 0)


def public_texts(knowledge: TextInversionKnowledge, most: int, rng: np.random.Generator) -> tuple[str, ...]:
    """At most so many of the public texts, each once, drawn at random and kept in their order."""
    if knowledge.public is None:
        raise ValueError("public texts are needed; `obstacle` says so")
    texts = tuple(dict.fromkeys(knowledge.public.texts))
    chosen = np.sort(rng.permutation(len(texts))[:most])
    return tuple(texts[i] for i in chosen)


def asked(target: Target, texts: Sequence[str]) -> Float[Array, " n d"]:
    """The encoder's vectors of texts, of length 1, asked in batches so that progress can be seen."""
    parts = [target.embed(texts[i : i + BATCH]) for i in range(0, len(texts), BATCH)]
    return directions(np.concatenate(parts))


def directions(vectors: Float[Array, " n d"]) -> Float[Array, " n d"]:
    """Vectors brought to length 1, so that products are cosines; a vector of zeros stays one."""
    rows = np.asarray(vectors, dtype=np.float64)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
