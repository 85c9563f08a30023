"""Scores of what was recovered from updates: records against the true batch, and labels against the true ones.

Pure: `(guess, secret, controls) -> scores`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment

from seepage.core.errors import DataError
from seepage.core.guess import Guess, Posterior, Reconstruction, Texts
from seepage.core.record import Exposure, Score
from seepage.core.records import Records
from seepage.core.scorer import Controls, Scored
from seepage.core.secrets import CapturedSecret, GradientSecret, Secret
from seepage.core.vocabulary import Modality
from seepage.scoring import controls as against
from seepage.scoring import gradient_consistency, gradient_labels, gradient_texts
from seepage.scoring.inversion_records import RecordMean, ssim, unit_rows

Array = np.ndarray
HEADLINE = "record_identified"
# A record recovered to this many dB or better is the record itself, up to rounding.
EXACT_DB = 60.0
MOST_DB = 200.0
# Controls picked with the secret in hand: a hard control of likeness, none of identification.
IN_HAND = frozenset({"nearest_public"})

_IDENTIFIED = (
    "reconstructions of a client are matched one to one to its records by least squared error; identified: the record "
    "matched is, by the cosine of deviations from the mean, the nearest of its batch and {others} records in no batch. "
    "Chance is the batch over the pool, for the matching chooses among the batch"
)
_INTERVAL = "{spread} over {unit}s; differences to controls paired"


@dataclass(frozen=True)
class Recovered:
    """A guess held against the batch, record by record.

    Attributes:
        x: (n, ...) the reconstruction matched to each record; the middle of the range where there is none.
        given: (n,) whether there is one.
        identified: (n,) the odds, 0 to 1, that the record is found nearest to it in the pool.
        alike: (n,) structural similarity for pictures, else 1 - mean absolute difference in units of the range.
        db: (n,) peak signal-to-noise ratio in dB, at most `MOST_DB`; the peak is the range of the values.
        extra: how many reconstructions were matched to no record.
    """

    x: Float[Array, " n ..."]
    given: Float[Array, " n"]
    identified: Float[Array, " n"]
    alike: Float[Array, " n"]
    db: Float[Array, " n"]
    extra: int


def score(guess: Guess, secret: Secret, controls: Controls) -> Scored:
    """Scores of one guess against the batches of the clients; of texts, those of `gradient_texts`.

    - `record_identified` (headline): share of the records identified in a pool of their batch and `others`.
    - `exact`: share recovered to `EXACT_DB` or better; chance 0.
    - `ssim` or `closeness`: likeness to the record, beside the same of the controls.
    - `label_recall`, where the guess names classes (`gradient_labels`); the only score of a guess of labels alone.

    The unit of an interval is the client, or the record where there is one client: what is recovered of the
    records of one update is not independent.

    Raises:
        DataError: for a guess that does not fit the batch.
    """
    if isinstance(secret, CapturedSecret):
        return gradient_consistency.consistency(guess, secret, controls)
    if not isinstance(secret, GradientSecret):
        raise DataError(f"a GradientSecret was wanted, got a {type(secret).__name__}")
    if isinstance(guess, Posterior):
        return gradient_labels.score(guess, secret, controls)
    if isinstance(guess, Texts):
        return gradient_texts.score(guess, secret, controls)
    truth = _Truth(secret)
    value = truth.compare(guess, "the attack's guess")
    no_model = {name: truth.compare(other, f"the control '{name}'") for name, other in controls.no_model.items()}
    null = None
    if controls.null_model is not None:
        null = truth.compare(controls.null_model, "the attack given another batch's update")

    def measured(name: str, title: str, chance: float, method: str) -> Score:
        parts = no_model.items() if name != HEADLINE else [p for p in no_model.items() if p[0] not in IN_HAND]
        return against.score(
            name,
            title,
            truth.measure(value, name),
            against.Against(
                chance=chance,
                no_model={part: truth.measure(found, name) for part, found in parts},
                null_model=None if null is None else truth.measure(null, name),
                missing=dict(controls.missing),
            ),
            n=truth.units,
            unit=truth.unit,
            method=method,
        )

    spread = _INTERVAL.format(spread="Wilson, or its extension to shares", unit=truth.unit)
    likeness = "ssim" if truth.pictures else "closeness"
    scores = {
        HEADLINE: measured(
            HEADLINE,
            "Records identified among others",
            truth.chance,
            f"{_IDENTIFIED.format(others=truth.others)}. {spread}",
        ),
        "exact": measured("exact", f"Records recovered exactly ({EXACT_DB:.0f} dB)", 0.0, spread),
        likeness: measured(
            likeness,
            "Structural similarity to the true record" if truth.pictures else "Closeness to the true record",
            0.0,
            _INTERVAL.format(spread="Student's t", unit=truth.unit) + "; its chance of 0 is that of unrelated noise",
        ),
    }
    labels = gradient_labels.of_reconstruction(guess, secret, controls)
    if labels is not None:
        scores["label_recall"] = labels
    return Scored(
        scores=scores,
        headline=HEADLINE,
        exposed=_exposed(value, no_model, null, truth),
        gallery=_gallery(value, no_model, null, truth),
        curves={"psnr_db": value.db, **({} if null is None else {"null_psnr_db": null.db})},
        facts=_facts(value, no_model, null, truth),
    )


class _Truth:
    """The records of the clients, as every guess is compared with them."""

    def __init__(self, secret: GradientSecret):
        batch = secret.batch
        if not len(batch):
            raise DataError("records of a batch were wanted in the secret, there are none")
        self.batch = batch
        self.client = np.zeros(len(batch), dtype=np.int64) if secret.client is None else secret.client
        self.clients = np.unique(self.client)
        self.pictures = batch.modality is Modality.IMAGE
        self.span = _span(batch)
        self.middle = (batch.x.max() + batch.x.min()) / 2 if self.pictures else batch.x.mean(axis=0)
        apart = secret.others.x if secret.others is not None else batch.x[:0]
        self.others = len(apart)
        pool = np.concatenate([batch.x, apart]).reshape(len(batch) + len(apart), -1).astype(np.float64)
        self._mean = pool.mean(axis=0)
        self._pool = unit_rows(pool - self._mean)

    @property
    def unit(self) -> str:
        return "client" if len(self.clients) > 1 else "record"

    @property
    def units(self) -> int:
        return len(self.clients) if len(self.clients) > 1 else len(self.batch)

    @property
    def chance(self) -> float:
        """What matching alone gives: the share of a client's batch in its pool, the mean over clients."""
        sizes = np.array([(self.client == c).sum() for c in self.clients], dtype=float)
        return float(sizes.mean() / (len(self.batch) + self.others))

    def measure(self, found: Recovered, name: str) -> against.Measure:
        values = {
            HEADLINE: found.identified,
            "exact": (found.db >= EXACT_DB).astype(float) * found.given,
            "ssim": found.alike,
            "closeness": found.alike,
        }[name]
        if self.unit == "client":
            values = np.array([values[self.client == c].mean() for c in self.clients])
        if name in ("ssim", "closeness"):
            return RecordMean(values)
        return against.UnitMean(values, np.arange(len(values)))

    def compare(self, guess: Guess, what: str) -> Recovered:
        """A guess held against the records, client by client.

        Raises:
            DataError: when it is no reconstruction of such records, or holds NaN.
        """
        if not isinstance(guess, Reconstruction):
            raise DataError(f"{what}: a Reconstruction was wanted, got a {type(guess).__name__}")
        x = np.asarray(guess.x, dtype=np.float64)
        if x.shape[1:] != self.batch.x.shape[1:] or not np.isfinite(x).all():
            raise DataError(
                f"{what}: finite reconstructions of shape {self.batch.x.shape[1:]} were wanted, got {x.shape[1:]}"
            )
        owner = np.zeros(len(x), dtype=np.int64) if guess.client is None else guess.client
        if len(owner) != len(x):
            raise DataError(f"{what}: one client a reconstruction was wanted, got {len(owner)} for {len(x)}")
        made = np.broadcast_to(self.middle, self.batch.x.shape).astype(np.float64)
        given = np.zeros(len(self.batch))
        for c in self.clients:
            rows, mine = np.nonzero(self.client == c)[0], np.nonzero(owner == c)[0]
            pairs = linear_sum_assignment(_squares(self.batch.x[rows], x[mine], self.span))
            made[rows[pairs[0]]] = x[mine[pairs[1]]]
            given[rows[pairs[0]]] = 1.0
        return Recovered(
            x=made.astype(np.float32),
            given=given,
            identified=self._identified(made) * given,
            alike=self._alike(made),
            db=_db(made, self.batch.x, self.span),
            extra=len(x) - int(given.sum()),
        )

    def _identified(self, x: Float[Array, " n ..."]) -> Float[Array, " n"]:
        """The odds that the record in its place is nearest to each row: ties count as a fair draw."""
        likeness = np.round(unit_rows(x.reshape(len(x), -1) - self._mean) @ self._pool.T, 9)
        found = np.zeros(len(x))
        for row, here in enumerate(likeness):
            # The records of other clients are in the pool as others.
            own = here[row]
            found[row] = 0.0 if (here > own).any() else 1.0 / int((here == own).sum())
        return found

    def _alike(self, x: Float[Array, " n ..."]) -> Float[Array, " n"]:
        if self.pictures:
            return np.clip(ssim(x, self.batch.x, float(self.span)), 0.0, 1.0)
        apart = (np.abs(x - self.batch.x) / self.span).reshape(len(x), -1).mean(axis=1)
        return np.clip(1 - apart, 0.0, 1.0).astype(np.float64)


def _span(records: Records) -> Float[Array, " ..."]:
    """The range of the values: of all of a picture's, of each column of a table."""
    if records.modality is Modality.IMAGE:
        return np.asarray(float(np.ptp(records.x)) or 1.0)
    wide = np.ptp(records.x, axis=0)
    return np.where(wide > 0, wide, 1.0)


def _squares(a: Float[Array, " n ..."], b: Float[Array, " m ..."], span: Array) -> Float[Array, " n m"]:
    """Mean squared differences of every row of `a` to every row of `b`, in units of the range."""
    p = (a / span).reshape(len(a), -1).astype(np.float64)
    q = (b / span).reshape(len(b), int(np.prod(b.shape[1:]))).astype(np.float64)
    return np.array([[((u - v) ** 2).mean() for v in q] for u in p]).reshape(len(p), len(q))


def _db(x: Float[Array, " n ..."], truth: Float[Array, " n ..."], span: Array) -> Float[Array, " n"]:
    error = (((x - truth) / span) ** 2).reshape(len(x), -1).mean(axis=1)
    return np.minimum(-10 * np.log10(np.maximum(error, 1e-30)), MOST_DB)


def _facts(
    value: Recovered, no_model: Mapping[str, Recovered], null: Recovered | None, truth: _Truth
) -> dict[str, float | str | None]:
    low, middle, high = np.quantile(value.db, [0.25, 0.5, 0.75])
    facts: dict[str, float | str | None] = {
        "records": float(len(truth.batch)),
        "clients": float(len(truth.clients)),
        "pool": float(len(truth.batch) + truth.others),
        "not_reconstructed": float((value.given == 0).sum()),
        "reconstructions_of_no_record": float(value.extra),
        "psnr_db_worst": float(value.db.min()),
        "psnr_db_quarter": float(low),
        "psnr_db_median": float(middle),
        "psnr_db_three_quarters": float(high),
        "psnr_db_best": float(value.db.max()),
    }
    facts |= {f"psnr_db_median_{name}": float(np.median(found.db)) for name, found in no_model.items()}
    facts["psnr_db_median_null_model"] = None if null is None else float(np.median(null.db))
    return facts


def _named(truth: _Truth, row: int) -> str:
    batch = truth.batch
    told = f"record {batch.ids[row]}" if batch.ids else f"record {row}"
    return f"client {int(truth.client[row])}, {told}"


def _exposed(
    value: Recovered, no_model: Mapping[str, Recovered], null: Recovered | None, truth: _Truth
) -> tuple[Exposure, ...]:
    """Records by how many dB they are recovered better than by any control."""
    others = {name.replace("_", " "): found.db for name, found in no_model.items()}
    if null is not None:
        others["another batch's update"] = null.db
    controls = np.max([*others.values()], axis=0) if others else np.zeros(len(value.db))
    order = np.lexsort((np.arange(len(value.db)), -(value.db - controls)))
    rows: list[Exposure] = []
    for place, row in enumerate(order.tolist()):
        text = f"recovered to {value.db[row]:.1f} dB" if value.given[row] else "not recovered"
        text += f"; {'' if value.identified[row] == 1 else 'not '}identified among {len(truth.batch) + truth.others}"
        if others:
            text += "; otherwise: " + ", ".join(f"{name} {found[row]:.1f} dB" for name, found in others.items())
        rows.append(
            Exposure(
                id=_named(truth, row),
                rank=place + 1,
                value=float(value.db[row]),
                control=float(controls[row]) if others else None,
                evidence=text,
                index=row,
            )
        )
    return tuple(rows)


def _gallery(
    value: Recovered, no_model: Mapping[str, Recovered], null: Recovered | None, truth: _Truth
) -> dict[str, Array]:
    batch = truth.batch
    gallery: dict[str, Array] = {
        "labels": np.arange(len(batch), dtype=np.int64),
        "class_names": np.array([_named(truth, row) for row in range(len(batch))]),
        "real": batch.x,
        "reconstruction": value.x,
        "hit": value.identified == 1,
        "said": np.array([f"{db:.1f} dB" for db in value.db]),
    }
    if batch.y is not None:
        gallery["true_class"] = batch.y
    if "nearest_public" in no_model:
        gallery["nearest_public"] = no_model["nearest_public"].x
    if null is not None:
        gallery["null_reconstruction"] = null.x
    return gallery
