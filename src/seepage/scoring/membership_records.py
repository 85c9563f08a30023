"""Which members are exposed, how much, and what makes them so."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from seepage.core.errors import DataError
from seepage.core.guess import Guess
from seepage.core.record import Estimate, Exposure
from seepage.core.secrets import MembershipSecret, Profile

Array = np.ndarray

MOST_EXPOSED = 100
# Records farther from their own class than this share of all are called outliers.
FAR = 0.95


def memorised(guess: Guess, n: int) -> Float[Array, " n 3"] | None:
    """What reference models say of every candidate: value, low and high; None where no model was trained.

    Raises:
        DataError: for another form.
    """
    if "memorisation" not in guess.trace:
        return None
    found = np.asarray(guess.trace["memorisation"], dtype=np.float64)
    if found.shape != (n, 3):
        raise DataError(f"memorisation: value, low and high of {n} candidates were wanted, got {found.shape}")
    return found


def shares_below(pos: Float[Array, " m"], neg: Float[Array, " k"]) -> Float[Array, " m"]:
    """For each member the share of non-members that score below it."""
    return np.searchsorted(np.sort(neg), pos, side="left") / len(neg)


def exposed(
    scores: tuple[Float[Array, " m"], Float[Array, " k"]],
    twin: tuple[Float[Array, " m"], Float[Array, " k"]] | None,
    known: Float[Array, " n 3"] | None,
    secret: MembershipSecret,
) -> tuple[Exposure, ...]:
    """Members by the share of non-members that score below them, a hundred at the most.

    Members that score alike are told apart by how far they were memorised, then by how ordinary they look to the twin,
    then by their score.

    Args:
        scores: of members and of non-members.
        twin: the same under the twin, where there is one.
        known: what reference models say of every candidate.
        secret: which were trained on.
    """
    pos, neg = scores
    shares = shares_below(pos, neg)
    beside = None if twin is None else shares_below(*twin)
    rows = np.nonzero(secret.is_member)[0]
    kept = np.zeros(len(rows)) if known is None else known[rows, 0]
    usual = np.zeros(len(rows)) if beside is None else beside
    order = np.lexsort((np.arange(len(rows)), -pos, usual, -kept, -shares))
    found: list[Exposure] = []
    for place, i in enumerate(order[:MOST_EXPOSED]):
        text = f"scores above {shares[i]:.1%} of the {len(neg)} non-members"
        if beside is not None:
            text += f"; under the twin that never saw it, above {beside[i]:.1%}"
        told = None
        if known is not None:
            value, low, high = known[rows[i]]
            told = Estimate(value=value, low=low, high=high)
            text += f"; its class is {value:+.2f} likelier where it was trained on"
        found.append(
            Exposure(
                id=secret.candidates.ids[rows[i]],
                rank=place + 1,
                value=float(shares[i]),
                control=None if beside is None else float(beside[i]),
                evidence=text,
                memorised=told,
                reasons=[] if secret.profile is None else reasons(secret.profile, int(rows[i])),
            )
        )
    return tuple(found)


def reasons(profile: Profile, row: int) -> list[str]:
    """What makes a record stand out, in words that name no value of it."""
    found: list[str] = []
    if profile.stranger[row]:
        found.append("most of its nearest records are of another class: mislabelled, perhaps")
    if profile.outlier[row] >= FAR:
        found.append(f"an outlier: {profile.outlier[row]:.0%} of the records lie nearer to others of their class")
    if profile.small_class[row]:
        found.append("of a small class")
    if profile.copies[row]:
        found.append(f"{profile.copies[row]} near {'copy' if profile.copies[row] == 1 else 'copies'} among the records")
    return found


def commonest(found: Sequence[Exposure], profile: Profile) -> str | None:
    """What the most exposed have in common beyond all records, in a sentence; None where nothing stands out."""
    if len(found) < 20:
        return None
    told = [
        (_share(found, "nearest records"), float(profile.stranger.mean()), "have neighbours of another class"),
        (_share(found, "an outlier"), float((profile.outlier >= FAR).mean()), "are outliers"),
        (_share(found, "of a small class"), float(profile.small_class.mean()), "are of a small class"),
        (_share(found, "near cop"), float((profile.copies > 0).mean()), "have near copies"),
    ]
    standing = [f"{mine:.0%} {what} (of all records {all_:.0%})" for mine, all_, what in told if mine > 2 * all_ + 0.02]
    return f"Of the {len(found)} most exposed members " + ", ".join(standing) if standing else None


def _share(found: Sequence[Exposure], word: str) -> float:
    return sum(any(word in reason for reason in exposure.reasons) for exposure in found) / len(found)
