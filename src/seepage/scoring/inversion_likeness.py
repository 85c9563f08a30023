"""Are reconstructions like the private records, in the judge's own features? Scores and facts.

A judge must choose somebody, and noise can please it. Likeness asks something else: whether what was
recovered lies where the private records of the class lie. The space is that in which the judge
tells people apart, so that likeness means likeness of the person, not of the background.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from seepage.core.errors import DataError
from seepage.core.record import Score
from seepage.core.records import Records
from seepage.core.secrets import GivesFeatures, InversionSecret
from seepage.models.independence import learned_from, shared
from seepage.scoring import controls as against
from seepage.scoring.judged import Judged
from seepage.scoring.likeness import NEIGHBOURS, Overlap, distances, frechet, overlap, radii

Array = np.ndarray
Facts = dict[str, float | str | None]

TITLES = {
    "nearer_private": "Nearer to a private record than to any public one",
    "precision": "Precision: reconstructions among the private records",
    "recall": "Recall: private records among the reconstructions",
    "density": "Density: how deep among the private records (at most 1 a class)",
    "coverage": "Coverage: private records with a reconstruction nearby",
}
# With more classes than this, a blind guess is tried on as many others of each reconstruction's.
OTHERS = 50
# The Fréchet distance of a few records is all error.
FEWEST = 10

_METHOD = "in the judge's features; Wilson over classes; differences paired by class (Newcombe 1998); chance: the " + (
    "same reconstructions dealt to classes at random"
)


@dataclass(frozen=True)
class Space:
    """The private records in the judge's features.

    Attributes:
        features: gives (n, f) features of records.
        real: by class, (n, f) the private records that the judge did not learn from.
        balls: by class, (n,) distance of each to its third neighbour; NaN where there are too few.
        public: (p, f) what the adversary may own, or None.
        classes: how many there are.
    """

    features: Callable[[Array], Array]
    real: Mapping[int, Float[Array, " _ f"]]
    balls: Mapping[int, Float[Array, " _"]]
    public: Float[Array, " p f"] | None
    classes: int

    @property
    def fewest(self) -> int:
        """Private records of the class that has fewest."""
        return min(len(found) for found in self.real.values())


def features_of(judge: GivesFeatures, x: Float[Array, " n ..."]) -> Float[Array, " n d"]:
    """The judge's features of some records, float64.

    Raises:
        DataError: when they are not one finite row a record.
    """
    found = np.asarray(judge.features(x), dtype=np.float64)
    if found.ndim != 2 or len(found) != len(x) or not found.shape[1]:
        raise DataError(f"the judge should give one row of features a record: {len(x)} records, got {found.shape}")
    if not np.isfinite(found).all():
        raise DataError("the judge's features hold NaN or infinite values")
    return found


def space(secret: InversionSecret) -> Space | None:
    """The private records in the judge's features, or None when the judge gives none.

    Records that the judge learned from lie too well in its features; reconstructions are compared with
    the others. Where it learned from all of a class, with all.
    """
    judge, records = secret.judge, secret.records
    if not isinstance(judge, GivesFeatures):
        return None
    known = shared(records, learned_from(judge))
    found = features_of(judge, records.x)
    labels = records.labels()
    real: dict[int, Array] = {}
    for c in np.unique(labels):
        rows = (labels == c) & ~known
        real[int(c)] = found[rows if rows.any() else labels == c]
    public = None
    if secret.public is not None and len(secret.public):
        public = features_of(judge, secret.public.x)
    return Space(
        features=lambda x: features_of(judge, x),
        real=real,
        balls={c: radii(own) for c, own in real.items()},
        public=public,
        classes=len(records.class_names),
    )


@dataclass(frozen=True)
class Table:
    """How like the private records of some classes the reconstructions of each class are.

    Attributes:
        classes: (k,) the classes of the reconstructions.
        own: by score, (k,) against the class's own records; NaN where it cannot be computed.
        blind: by score, the mean over classes dealt at random; NaN likewise.
        density: the mean density over classes, not held at 1; NaN likewise.
        private, public: mean distance to the nearest private record of the class, and to the nearest
            public record; None without public records.
        points: (d, f) the features of the reconstructions.
    """

    classes: Int[Array, " k"]
    own: Mapping[str, Float[Array, " k"]]
    blind: Mapping[str, float]
    density: float
    private: float
    public: float | None
    points: Float[Array, " d f"]


def table(part: Judged, where: Space, blind: bool = False) -> Table:
    """Hold reconstructions against the private records of their class, and with `blind` against those of others too.

    Raises:
        DataError: for a class without private records.
    """
    points = where.features(part.x)
    everyone = np.array(sorted(where.real))
    own: list[dict[str, float]] = []
    dealt: list[dict[str, float]] = []
    densities, private, public = [], [], []
    for c in part.classes:
        if int(c) not in where.real:
            raise DataError(f"no private record of class {int(c)} was given to the scorer")
        mine = points[part.labels == c]
        # The class itself comes first.
        sets = [int(c), *(_others(int(c), everyone) if blind else ())]
        found = overlap(mine, [where.real[j] for j in sets], [where.balls[j] for j in sets], NEIGHBOURS)
        away = None if where.public is None else distances(mine, where.public).min(axis=1)
        values = _values(found, away)
        own.append({name: float(row[0]) for name, row in values.items()})
        dealt.append({name: _dealt(row, len(everyone)) for name, row in values.items()})
        densities.append(float(found.density[0]))
        private.append(float(found.nearest[:, 0].mean()))
        if away is not None:
            public.append(float(away.mean()))
    return Table(
        classes=part.classes,
        own={name: np.array([one[name] for one in own]) for name in TITLES},
        blind={name: _mean([one[name] for one in dealt]) for name in TITLES},
        density=_mean(densities),
        private=_mean(private),
        public=_mean(public) if public else None,
        points=points,
    )


def _values(found: Overlap, away: Float[Array, " m"] | None) -> dict[str, Float[Array, " g"]]:
    """Each score of one class's reconstructions against each set of private records, in [0, 1] or NaN."""
    nearer = np.full(len(found.precision), np.nan)
    if away is not None:
        nearer = ((found.nearest < away[:, None]) + 0.5 * (found.nearest == away[:, None])).mean(axis=0)
    return {
        "nearer_private": nearer,
        "precision": found.precision,
        "recall": found.recall,
        # Deeper among the private records than one of them is no more of a leak.
        "density": np.minimum(found.density, 1.0),
        "coverage": found.coverage,
    }


def _others(c: int, classes: Int[Array, " k"]) -> list[int]:
    """The other classes, or `OTHERS` of them evenly spread when they are many."""
    rest = classes[classes != c]
    if len(rest) > OTHERS:
        # Beginning with the next class, so that every class stands in for the others equally often.
        rest = np.roll(rest, -int(np.searchsorted(rest, c)))
        rest = rest[np.linspace(0, len(rest) - 1, OTHERS).astype(int)]
    return [int(j) for j in rest]


def _dealt(row: Float[Array, " g"], classes: int) -> float:
    """What a class drawn at random gives: the class itself, first in `row`, or one of the others."""
    rest = row[1:][np.isfinite(row[1:])]
    return float(row[0]) if not len(rest) else float(row[0] / classes + rest.mean() * (1 - 1 / classes))


def _mean(values: list[float]) -> float:
    """The mean of those that are known, NaN when none is."""
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")


def scores(
    value: Judged,
    no_model: Mapping[str, Judged],
    null: Judged | None,
    secret: InversionSecret,
    missing: Mapping[str, str],
) -> tuple[dict[str, Score], Facts]:
    """The scores of likeness with their controls, and the distances behind them.

    Each is a mean over classes of a number in [0, 1], higher for more leakage. A score that cannot be
    computed has no value, and says why. Its `chance` is what the same reconstructions get when they are
    dealt to classes at random (with more than `OTHERS` + 1 classes, over `OTHERS` others of each).

    - `nearer_private`: share of classes whose reconstruction is nearer to a private record of the class
      than to every public record.
    - `precision`, `recall`, `density`, `coverage` (k = 3): see `likeness.Overlap`; by class.
    """
    where = space(secret)
    if where is None:
        reason = "the judge gives no features: give it a method features(x) -> (n, d), in which likeness is measured"
        return {name: _none(name, value, reason) for name in TITLES}, {}
    mine = table(value, where, blind=True)
    controls = {name: table(part, where) for name, part in no_model.items()}
    twin = None if null is None else table(null, where)
    found: dict[str, Score] = {}
    for name in TITLES:
        found[name] = _score(name, value, mine, controls, twin, missing, where)
    return found, _facts(mine, controls, twin, secret, where)


def _none(name: str, value: Judged, reason: str) -> Score:
    # Without features or neighbours there is no telling what a blind guess would get either.
    return Score(
        name=name,
        title=TITLES[name],
        value=None,
        n=len(value.classes),
        unit="class",
        method="not estimable",
        reason=reason,
    )


def _reason(name: str, value: Judged, where: Space) -> str:
    """Why a score of likeness has no value."""
    if name == "nearer_private":
        return "there are no public records to be nearer to"
    wanted = NEIGHBOURS + 1
    if name == "recall":
        draws = int(np.bincount(np.searchsorted(value.classes, value.labels)).max())
        return (
            f"recall with k = {NEIGHBOURS} needs {wanted} reconstructions or more of a class; "
            f"the attack returned {draws} at the most"
        )
    return (
        f"{name} with k = {NEIGHBOURS} needs {wanted} private records or more of a class that the judge did not learn "
        f"from; there are {max(len(where.real[int(c)]) for c in value.classes)}"
    )


def _measure(found: Table, name: str) -> against.UnitMean | None:
    known = np.isfinite(found.own[name])
    return against.UnitMean(found.own[name][known], found.classes[known]) if known.any() else None


def _score(
    name: str,
    value: Judged,
    mine: Table,
    controls: Mapping[str, Table],
    twin: Table | None,
    missing: Mapping[str, str],
    where: Space,
) -> Score:
    measured = _measure(mine, name)
    if measured is None:
        return _none(name, value, _reason(name, value, where))
    parts = {part: measure for part, one in controls.items() if (measure := _measure(one, name)) is not None}
    null = None if twin is None else _measure(twin, name)
    lacking = dict(missing)
    if controls and not parts:
        lacking[against.NO_MODEL] = f"{NEIGHBOURS + 1} guesses or more a class made without the model"
    if twin is not None and null is None:
        lacking[against.NULL_MODEL] = f"{NEIGHBOURS + 1} reconstructions or more a class from the twin"
    method = _METHOD
    if name != "nearer_private":
        method = f"k = {NEIGHBOURS}, {where.fewest} private records a class at the least, {method}"
    return against.score(
        name,
        TITLES[name],
        measured,
        against.Against(chance=mine.blind[name], no_model=parts, null_model=null, missing=lacking),
        n=len(measured.values),
        unit="class",
        method=method,
    )


def _facts(
    mine: Table, controls: Mapping[str, Table], twin: Table | None, secret: InversionSecret, where: Space
) -> Facts:
    """Raw distances, and Fréchet distances beside those of sets that are known to be alike or not."""
    arms = {"": mine, **{f"_{name}": one for name, one in controls.items()}}
    if twin is not None:
        arms["_null_model"] = twin
    facts: Facts = {}
    for suffix, one in arms.items():
        facts[f"feature_distance_private{suffix}"] = one.private
        facts[f"feature_distance_public{suffix}"] = one.public
    facts["density_uncapped"] = mine.density if np.isfinite(mine.density) else None
    facts |= _of_real(where)
    facts["likeness_compared_with"] = f"{where.fewest} private records of every class, at the least"
    if where.fewest < 3 * NEIGHBOURS + 1:
        # Of few points the third neighbour is no neighbour: the ball spans the class.
        facts["likeness_caution"] = (
            f"with {where.fewest} private records a class, a ball out to the third neighbour spans much of its class: "
            "precision, density and coverage say whether a reconstruction is near the class, not how near to a record"
        )
    return facts | _frechets(arms, secret, where)


def _of_real(where: Space) -> Facts:
    """What the private records get themselves, each held against the others of its class: the most to hope for."""
    near: list[float] = []
    nearer: list[float] = []
    for own in where.real.values():
        if len(own) < 2:
            continue
        found = np.partition(distances(own, own), 1, axis=1)[:, 1]
        near.append(float(found.mean()))
        if where.public is not None:
            nearer.append(float((found < distances(own, where.public).min(axis=1)).mean()))
    return {
        "feature_distance_real": float(np.mean(near)) if near else None,
        "nearer_private_real": float(np.mean(nearer)) if nearer else None,
    }


def _frechets(arms: Mapping[str, Table], secret: InversionSecret, where: Space) -> Facts:
    """Fréchet distances to half of the private records, all from sets of the same size.

    The bias of this distance depends on the number of points, so each set is thinned to the size of the
    smallest, evenly. `frechet_private` compares the private records of the two halves: about the least there is.
    """
    halves = [np.concatenate([own[start::2] for own in where.real.values()]) for start in (0, 1)]
    sets = {f"frechet{suffix or '_reconstruction'}": one.points for suffix, one in arms.items()}
    sets["frechet_private"] = halves[1]
    if where.public is not None:
        sets["frechet_public"] = where.public
    learned = getattr(secret.judge, "trained_on", None)
    if isinstance(learned, Records) and not shared(secret.records, learned_from(secret.judge)).any():
        sets["frechet_nonmembers"] = where.features(learned.x)
    size = min(len(halves[0]), *(len(points) for points in sets.values()))
    if size < FEWEST:
        return {
            "frechet_reconstruction": None,
            "frechet_unknown": f"not computed: the smallest set has {size} records, {FEWEST} were wanted",
        }
    base = _thinned(halves[0], size)
    facts: Facts = {name: frechet(_thinned(points, size), base) for name, points in sets.items()}
    facts["frechet_records"] = float(size)
    return facts


def _thinned(points: Float[Array, " n d"], size: int) -> Float[Array, " s d"]:
    """`size` of the points, evenly spread over their order."""
    return points[np.linspace(0, len(points) - 1, size).astype(int)]
