"""What can be said of a guess where the true batch is not known: how well it explains the update it was read from.

That is no score: many batches may make one update, and none of them need be the client's.
"""

import numpy as np

from seepage.core.errors import DataError
from seepage.core.guess import Guess, Posterior, Reconstruction
from seepage.core.scorer import Controls, Scored
from seepage.core.secrets import CapturedSecret

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
        DataError: for a guess that is neither records nor labels.
    """
    facts: dict[str, float | str | None] = {"unscored": UNSCORED}
    if isinstance(guess, Posterior):
        return Scored({}, "", gallery={"label_shares": guess.values}, facts=facts)
    if not isinstance(guess, Reconstruction):
        raise DataError(f"a Reconstruction or a Posterior was wanted, got a {type(guess).__name__}")
    facts["reconstructions"] = float(len(guess.x))
    facts["consistency"] = secret.replay.distance(guess.x, guess.labels) if len(guess.x) else None
    for name, other in controls.no_model.items():
        if isinstance(other, Reconstruction):
            facts[f"consistency_{name}"] = secret.replay.distance(other.x, other.labels)
    facts["consistency_how"] = secret.replay.how
    gallery: dict[str, Array] = {
        "labels": np.arange(len(guess.x), dtype=np.int64),
        "class_names": np.array([f"reconstruction {k + 1}" for k in range(len(guess.x))]),
        "reconstruction": guess.x,
        "said": np.array(["not scored: no true batch"] * len(guess.x)),
    }
    if guess.labels is not None:
        gallery["found_class"] = guess.labels
    return Scored({}, "", gallery=gallery if len(guess.x) else {}, facts=facts)
