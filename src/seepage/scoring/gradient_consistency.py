"""What can be said of a guess where the true batch is not known: how well it explains the update it was read from.

That is no score: many batches may make one update, and none of them need be the client's.
"""

import numpy as np

from seepage.core.errors import DataError
from seepage.core.guess import Guess, Posterior, Reconstruction, Texts
from seepage.core.scorer import Controls, Scored
from seepage.core.secrets import CapturedSecret, Replay, TextReplay

Array = np.ndarray
UNSCORED = (
    "there is no true batch to hold what was recovered against: give the client's own records as [data] members "
    "(batch= in Python), or audit a simulation of the same model (kind = 'federated')"
)


def consistency(guess: Guess, secret: CapturedSecret, controls: Controls) -> Scored:
    """Facts instead of scores: `consistency`, and the same of guesses without the update.

    `consistency` is the distance, 0 to 1, between the direction of the captured update and that of the update the
    reconstruction makes: sqrt(1 - cos^2) for a positive cosine, else 1. Near 0 the reconstruction explains the
    update; it is the batch only where no other batch does.

    Raises:
        DataError: for a guess of another kind than the update is of.
    """
    if isinstance(guess, Posterior):
        return Scored({}, "", gallery={"label_shares": guess.values}, facts={"unscored": UNSCORED})
    if isinstance(guess, Texts) and isinstance(secret.replay, TextReplay):
        return _of_texts(guess, secret.replay, controls)
    if isinstance(guess, Reconstruction) and isinstance(secret.replay, Replay):
        return _of_records(guess, secret.replay, controls)
    raise DataError(f"records, texts or labels were wanted, as the update is of, got a {type(guess).__name__}")


def _of_records(guess: Reconstruction, replay: Replay, controls: Controls) -> Scored:
    facts: dict[str, float | str | None] = {"unscored": UNSCORED, "reconstructions": float(len(guess.x))}
    facts["consistency"] = replay.distance(guess.x, guess.labels) if len(guess.x) else None
    for name, other in controls.no_model.items():
        if isinstance(other, Reconstruction):
            facts[f"consistency_{name}"] = replay.distance(other.x, other.labels)
    facts["consistency_how"] = replay.how
    gallery: dict[str, Array] = {
        "labels": np.arange(len(guess.x), dtype=np.int64),
        "class_names": np.array([f"reconstruction {k + 1}" for k in range(len(guess.x))]),
        "reconstruction": guess.x,
        "said": np.array(["not scored: no true batch"] * len(guess.x)),
    }
    if guess.labels is not None:
        gallery["found_class"] = guess.labels
    return Scored({}, "", gallery=gallery if len(guess.x) else {}, facts=facts)


def _of_texts(guess: Texts, replay: TextReplay, controls: Controls) -> Scored:
    """The gallery has a row a text guessed, surest first; it is private."""
    texts = _listed(guess)
    facts: dict[str, float | str | None] = {"unscored": UNSCORED, "reconstructions": float(len(texts))}
    facts["consistency"] = replay.distance_of_texts(texts)
    for name, other in controls.no_model.items():
        if isinstance(other, Texts):
            facts[f"consistency_{name}"] = replay.distance_of_texts(
                [text for client in other.values for text in client]
            )
    facts["consistency_how"] = replay.how
    return Scored({}, "", gallery={"guess": np.array(texts)} if texts else {}, facts=facts)


def _listed(guess: Texts) -> list[str]:
    return [text for client in guess.values for text in client]
