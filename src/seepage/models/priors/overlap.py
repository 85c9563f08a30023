"""Was a prior trained on the very people it is to recover? Searched for, and said loudly.

An adversary's prior knows other people. One that was trained on the private ones "recovers" them whether
or not the victim leaks: the finding is then about the prior.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import rankdata

from seepage.core.records import Records
from seepage.core.seeds import derive, stream
from seepage.core.spec import InputSpec
from seepage.core.vocabulary import Modality
from seepage.models.priors.artefact import Card, record_digests
from seepage.models.priors.base import Prior
from seepage.models.priors.quality import nearest

Array = np.ndarray

DOUBT = 0.01  # below this chance, the prior is said to know the private records
_COPY = 0.05  # distance below which a draw is called a near copy: a correlation above .9987
_SHUFFLES = 2000


@dataclass(frozen=True)
class Overlap:
    """What was found when a prior was searched for private records.

    Attributes:
        exact: private records, members or not, that its card lists among those it was trained on; None without a card.
        near: members of which a draw of the prior is nearly a copy.
        p_draws: chance of members lying this much nearer to the prior's draws than non-members of their
            own classes, had it seen neither; None without non-members of the members' classes.
        p_redrawn: the same for how well the prior redraws them (the error of encoding and decoding).
        compared: how many members and non-members were compared.
    """

    exact: int | None
    near: int
    p_draws: float | None
    p_redrawn: float | None
    compared: tuple[int, int]

    @property
    def p(self) -> float | None:
        """The smaller of the two chances, doubled for having tried two (Bonferroni)."""
        known = [p for p in (self.p_draws, self.p_redrawn) if p is not None]
        return min(1.0, 2 * min(known)) if known else None

    @property
    def suspected(self) -> bool:
        """Whether the prior seems to have been trained on private records."""
        return bool(self.exact) or self.near > 0 or (self.p is not None and self.p < DOUBT)

    @property
    def warning(self) -> str | None:
        """What to tell the reader, or None when nothing was found. That is no proof that there is nothing."""
        if not self.suspected:
            return None
        said: list[str] = []
        if self.exact:
            said.append(f"its card lists {self.exact} of the private records")
        if self.near:
            said.append(f"its draws nearly copy {self.near} of them")
        if self.p is not None and self.p < DOUBT:
            said.append(f"it knows members better than non-members of the same classes (p = {self.p:.2g})")
        return (
            "THE PRIOR WAS PROBABLY TRAINED ON PRIVATE RECORDS: "
            + "; ".join(said)
            + ". What it recovers is then no leak of the victim: train it on records of other people"
        )


def trained_on_private(
    prior: Prior,
    members: Records,
    nonmembers: Records | None,
    card: Card | None = None,
    draws: int = 2000,
    most: int = 400,
    seed: int = 0,
) -> Overlap:
    """Search whether a prior was trained on members of a victim.

    Three looks: the digests on the prior's card; draws that are near copies; and a comparison of members
    with non-members of the same classes, by a rank test within classes (a permutation test of the summed
    ranks, one-sided): a prior that has seen the members lies nearer to them and redraws them better.

    Args:
        prior: the prior, of any kind.
        members: what the victim was trained on, in the prior's bounds.
        nonmembers: other records of the same classes; None leaves the third look out.
        card: the prior's, when it has one.
        draws: how many draws are looked through.
        most: at most so many records of each side are compared.
        seed: of the draws.

    Returns:
        What was found. The third look sees a generator that learned members by heart, and little else:
        one that was trained on *other pictures of the same people*, on members and non-members alike, or
        on millions of records of which members are few, passes it.
    """
    spec = prior.spec
    exact = None if card is None else _listed(card, spec, members, nonmembers)
    own = _some(members, most, derive(seed, "members"))
    pool = prior.sample(draws, stream(seed, "prior", "overlap"))
    distance = nearest(own.x, pool, spec)
    # A few columns are alike by luck: near copies are looked for among pictures alone.
    near = int((distance < _COPY).sum()) if spec.modality is Modality.IMAGE else 0
    other = None if nonmembers is None else _of_classes(nonmembers, own, most, seed)
    if other is None or len(other) == 0:
        return Overlap(exact, near, None, None, (len(own), 0))
    private = np.concatenate([np.ones(len(own), dtype=bool), np.zeros(len(other), dtype=bool)])
    groups = np.concatenate([_classes(own), _classes(other)])
    both = np.concatenate([own.x, other.x])
    redrawn = _error(prior, both)
    rng = stream(seed, "prior", "overlap", "shuffles")
    apart = np.concatenate([distance, nearest(other.x, pool, spec)])
    return Overlap(
        exact,
        near,
        chance_of_smaller(apart, private, groups, rng),
        chance_of_smaller(redrawn, private, groups, rng),
        (len(own), len(other)),
    )


def chance_of_smaller(
    values: Float[Array, " n"], marked: Bool[Array, " n"], groups: Int[Array, " n"], rng: np.random.Generator
) -> float | None:
    """Chance of the marked values ranking this low among those of their own group, were the marks dealt at random.

    A permutation test within groups (van Elteren 1960 weighs ranks by group size, as here); one-sided. None
    when no group holds both marked and unmarked values.
    """
    ranks = np.zeros(len(values))
    usable = np.zeros(len(values), dtype=bool)
    for group in np.unique(groups):
        rows = np.nonzero(groups == group)[0]
        if marked[rows].any() and not marked[rows].all():
            ranks[rows] = rankdata(values[rows]) / (len(rows) + 1)
            usable[rows] = True
    if not usable.any():
        return None
    ranks, marks, groups = ranks[usable], marked[usable], groups[usable]
    observed = ranks[marks].sum()
    order = np.argsort(groups, kind="stable")
    ranks, marks, groups = ranks[order], marks[order], groups[order]
    low = 0
    for _ in range(_SHUFFLES):
        # Sorting random keys within groups deals the marks anew inside each.
        dealt = marks[np.lexsort((rng.random(len(marks)), groups))]
        low += bool(ranks[dealt].sum() <= observed + 1e-12)
    return (low + 1) / (_SHUFFLES + 1)


def _listed(card: Card, spec: InputSpec, members: Records, nonmembers: Records | None) -> int:
    """How many private records a card lists; only those prepared in the same way (size, colours) are recognised."""
    rows = set(card.rows)
    found = 0
    for records in (members, nonmembers):
        if records is not None and len(records):
            unit = spec.bounds.to_unit(records.x)
            found += sum(digest in rows for digest in record_digests(unit))
    return found


def _some(records: Records, most: int, seed: int) -> Records:
    if len(records) <= most:
        return records
    return records[np.sort(stream(seed, "prior", "overlap", "some").permutation(len(records))[:most])]


def _of_classes(nonmembers: Records, own: Records, most: int, seed: int) -> Records:
    if own.y is None or nonmembers.y is None:
        return _some(nonmembers, most, derive(seed, "nonmembers"))
    return _some(nonmembers[np.isin(nonmembers.y, own.y)], most, derive(seed, "nonmembers"))


def _classes(records: Records) -> Array:
    return np.zeros(len(records), dtype=np.int64) if records.y is None else records.y


def _error(prior: Prior, x: Array) -> Array:
    """Squared error, in unit scale, of each record encoded and decoded."""
    again = prior.decode(prior.encode(x))
    bounds = prior.spec.bounds
    return ((bounds.to_unit(again) - bounds.to_unit(x)) ** 2).reshape(len(x), -1).mean(axis=1)
