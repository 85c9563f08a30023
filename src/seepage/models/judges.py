"""Judges: who recognises a reconstruction, independently of the victim.

A judge never shares weights, architecture family or training records with the victim. It learns from
the non-members, is tried on the members (which it has never seen), and says how good it is. Where there
are no non-members of every class it learns from some of the members, and says that too.

Each gives features, in which likeness is measured, and keeps the records it learned from (`trained_on`).
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import ExtraTreesClassifier
from torch.nn import functional

from seepage.core.errors import ConfigError, did_you_mean
from seepage.core.records import Records
from seepage.core.secrets import Judge
from seepage.core.seeds import derive, stream
from seepage.core.spec import InputSpec
from seepage.core.vocabulary import Modality
from seepage.models.independence import digests, shared
from seepage.models.training import lit, moved

Array = np.ndarray
BATCH = 512
SIDE = 32
NOISE_TRIES = 200
# Features kept of each kind: those that tell the people apart best.
DISCRIMINANTS = 64


def _blur(x: torch.Tensor, sigma: float) -> torch.Tensor:
    if sigma <= 0:
        return x
    radius = max(1, int(3 * sigma))
    offsets = torch.arange(-radius, radius + 1, dtype=x.dtype)
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).view(1, 1, 1, -1)
    padded = functional.pad(x, (radius,) * 4, mode="replicate")
    return functional.conv2d(functional.conv2d(padded, kernel), kernel.transpose(2, 3))


def _grey(x: torch.Tensor) -> torch.Tensor:
    """One channel of `SIDE` x `SIDE`: what the features below are computed on."""
    grey = x.mean(dim=1, keepdim=True)
    if grey.shape[-2:] != (SIDE, SIDE):
        grey = functional.interpolate(grey, (SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True)
    return grey


def gabor_energies(x: torch.Tensor) -> torch.Tensor:
    """Energies of a fixed bank of Gabor filters (three scales, six angles; Daugman 1985), pooled."""
    flat = (x - x.mean(dim=(2, 3), keepdim=True)) / (x.std(dim=(2, 3), keepdim=True) + 0.02)
    offsets = torch.arange(-8, 9, dtype=x.dtype)
    rows, columns = torch.meshgrid(offsets, offsets, indexing="ij")
    bank: list[torch.Tensor] = []
    for spread, wavelength in ((1.2, 3.5), (2.0, 6.0), (3.5, 10.0)):
        window = torch.exp(-(rows**2 + columns**2) / (2 * spread**2))
        window = window / window.sum()
        for step in range(6):
            angle = step * torch.pi / 6
            along = columns * np.cos(angle) + rows * np.sin(angle)
            for wave in (torch.cos, torch.sin):
                kernel = window * wave(2 * torch.pi * along / wavelength)
                bank.append(kernel - window * kernel.sum())
    answers = functional.conv2d(functional.pad(flat, (8,) * 4, mode="replicate"), torch.stack(bank).unsqueeze(1))
    energy = torch.sqrt(answers[:, 0::2] ** 2 + answers[:, 1::2] ** 2 + 1e-6)
    return torch.sqrt(functional.avg_pool2d(energy, 4)).flatten(1)


def binary_patterns(x: torch.Tensor) -> torch.Tensor:
    """Soft local binary patterns (after Ojala et al. 2002) in four directions, pooled over cells."""
    side = x.shape[-1]
    p = functional.pad(_blur(x, 0.7), (1, 1, 1, 1), mode="replicate")
    signs = [
        torch.sigmoid(
            40
            * (
                p[..., 1 + down : 1 + down + side, 1 + across : 1 + across + side]
                - p[..., 1 - down : 1 - down + side, 1 - across : 1 - across + side]
            )
        )
        for down, across in ((0, 1), (1, 0), (1, 1), (-1, 1))
    ]
    patterns = [torch.ones_like(x)]
    for sign in signs:
        patterns = [part for old in patterns for part in (old * sign, old * (1 - sign))]
    return torch.sqrt(functional.avg_pool2d(torch.cat(patterns, dim=1), 4)).flatten(1)


class _Discriminant:
    """Principal components of fixed features, then Fisher's linear discriminant (Fisherfaces)."""

    def __init__(self, features: Any, components: int = 150, shrinkage: float = 0.1):
        self._features = features
        self._components = components
        self._shrinkage = shrinkage

    def fit(self, x: torch.Tensor, y: Array) -> "_Discriminant":
        found = self._features(x)
        self._mean = found.mean(dim=0)
        centred = (found - self._mean).double()
        _, axes = torch.linalg.eigh(centred.T @ centred / len(found))
        self._axes = axes[:, -self._components :].float()
        low = ((found - self._mean) @ self._axes).numpy().astype(np.float64)
        self._lda = LinearDiscriminantAnalysis(solver="eigen", shrinkage=self._shrinkage).fit(low, y)
        return self

    def _low(self, x: torch.Tensor) -> Array:
        return ((self._features(x) - self._mean) @ self._axes).numpy().astype(np.float64)

    def project(self, x: torch.Tensor) -> Array:
        """On the axes that tell the classes apart, in units of the spread within a class."""
        return self._lda.transform(self._low(x))[:, :DISCRIMINANTS]

    def decide(self, x: torch.Tensor) -> Array:
        low = self._low(x)
        decided = self._lda.decision_function(low)
        if decided.ndim == 1:
            decided = np.stack([-decided, decided], axis=1) / 2
        return decided


def _log_softmax(z: Array) -> Array:
    z = z - z.max(axis=1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


class ImageJudge:
    """Fixed features (Gabor energies, binary patterns) under linear discriminants: no filter is learned.

    Trained on heavily augmented pictures, blurred ones among them, since reconstructions are blurred.
    Discriminants on augmented data are far too sure of themselves; one temperature, found on one
    held-out picture a class (against Platt's targets), mends that (Platt 1999; Guo et al. 2017).
    """

    family = "fixed-features"

    def __init__(self, records: Records, spec: InputSpec, classes: int, seed: int, copies: int = 24):
        self.trained_on = records
        self._spec = spec
        self._classes = classes
        y = records.labels()
        rng = stream(seed, "calibration")
        out = np.array([rng.choice(np.nonzero(y == c)[0]) for c in np.unique(y)])
        rest = np.setdiff1d(np.arange(len(y)), out)
        self._temperature = 1.0
        self._fit(records[rest], derive(seed, "calibration"), copies=6)
        # Moved and blurred like the training pictures, so that some of them are hard.
        held = _augmented(torch.from_numpy(spec.bounds.to_unit(records.x[out])), 6, derive(seed, "calibration"))
        said, truth = self._logs(spec.bounds.from_unit(held.numpy())), np.tile(y[out], 8)
        # Platt's targets: n pictures recognised without a mistake do not prove certainty.
        doubt = 1 / (len(out) + 2)
        target = np.full(said.shape, doubt / max(classes - 1, 1))
        target[np.arange(len(truth)), truth] = 1 - doubt
        grid = np.geomspace(0.5, 100, 80)
        losses = [-(target * _log_softmax(said / t)).sum(axis=1).mean() for t in grid]
        self._fit(records, seed, copies)
        self._temperature = float(grid[int(np.argmin(losses))])
        self.facts: dict[str, float | str | None] = {}

    def _fit(self, records: Records, seed: int, copies: int) -> None:
        grey = _grey(_augmented(torch.from_numpy(self._spec.bounds.to_unit(records.x)), copies, seed))
        labels = np.tile(records.labels(), copies + 2)
        self._parts = [_Discriminant(features).fit(grey, labels) for features in (gabor_energies, binary_patterns)]

    def _grey_batches(self, x: Array) -> Iterator[torch.Tensor]:
        unit = torch.from_numpy(np.ascontiguousarray(self._spec.bounds.to_unit(x)))
        for at in range(0, len(unit), BATCH):
            yield _grey(unit[at : at + BATCH])

    def _logs(self, x: Array) -> Array:
        rows = [np.zeros((0, self._classes))]
        for grey in self._grey_batches(x):
            rows.append(
                np.mean([_log_softmax((p.decide(grey) + p.decide(grey.flip(-1))) / 2) for p in self._parts], axis=0)
            )
        return np.concatenate(rows)

    def predict(self, x: Float[Array, " n ..."]) -> Float[Array, " n c"]:
        """Probabilities over the private classes, averaged over the picture and its mirror image."""
        return np.exp(_log_softmax(self._logs(x) / self._temperature))

    def features(self, x: Float[Array, " n ..."]) -> Float[Array, " n d"]:
        """The discriminants of both kinds of feature, averaged over the picture and its mirror image.

        At most `DISCRIMINANTS` of each, in units of the spread within a class.
        """
        rows = [
            np.concatenate([(p.project(grey) + p.project(grey.flip(-1))) / 2 for p in self._parts], axis=1)
            for grey in self._grey_batches(x)
        ]
        return np.concatenate(rows)


def _augmented(x: torch.Tensor, copies: int, seed: int) -> torch.Tensor:
    """Pictures, their mirror images, and `copies` versions moved, lit, blurred and noised: (n * (copies + 2), ...)."""
    rng = torch.Generator().manual_seed(derive(seed, "augmentation"))
    seen = [x, x.flip(-1)]
    for copy in range(copies):
        changed = lit(moved(x, rng, shift=0.08, zoom=0.1, turn=0.14), rng, 0.15)
        sigma = (0.0, 0.6, 1.0, 1.5)[copy % 4] * x.shape[-1] / SIDE
        changed = torch.cat([_blur(changed[:, c : c + 1], sigma) for c in range(x.shape[1])], dim=1)
        if copy % 2:
            amount = 0.04 * float(torch.rand(1, generator=rng))
            changed = changed + amount * torch.randn(changed.shape, generator=rng)
        seen.append(changed.clamp(0, 1))
    return torch.cat(seen)


def _unit_values(x: Array, spec: InputSpec) -> Array:
    return spec.bounds.to_unit(x).reshape(len(x), -1).astype(np.float64)


class TreesJudge:
    """Extremely randomised trees on the raw values (Geurts et al. 2006): for tables."""

    family = "tree"

    def __init__(self, records: Records, spec: InputSpec, classes: int, seed: int):
        self.trained_on = records
        self._spec = spec
        self._classes = classes
        rng = stream(seed, "jitter")
        flat = records.x.reshape(len(records), -1)
        jitter = 0.1 * flat.std(axis=0, keepdims=True)
        seen = np.concatenate([flat, *(flat + jitter * rng.standard_normal(flat.shape) for _ in range(4))])
        self._trees = ExtraTreesClassifier(200, min_samples_leaf=2, random_state=seed % 2**31, n_jobs=1)
        self._trees.fit(seen, np.tile(records.labels(), 5))
        self.facts: dict[str, float | str | None] = {}

    def predict(self, x: Float[Array, " n ..."]) -> Float[Array, " n c"]:
        """Probabilities over the private classes."""
        found = np.asarray(self._trees.predict_proba(x.reshape(len(x), -1)))
        rows = np.zeros((len(x), self._classes))
        rows[:, np.asarray(self._trees.classes_, dtype=int)] = found
        return rows

    def features(self, x: Float[Array, " n ..."]) -> Float[Array, " n d"]:
        """The values, each in units of its range: trees have no distance of their own.

        Proximities (the share of trees in which two records share a leaf) were tried and are no likeness: two
        strange records are near each other in them, since both are near to nothing.
        """
        return _unit_values(x, self._spec)


class DiscriminantJudge:
    """Shrunken linear discriminant on the raw values: for tables whose victim is a tree."""

    family = "linear"

    def __init__(self, records: Records, spec: InputSpec, classes: int, seed: int):
        self.trained_on = records
        self._spec = spec
        self._classes = classes
        self._lda = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
        self._spread = np.maximum(records.x.reshape(len(records), -1).std(axis=0), 1e-6)
        self._lda.fit(self._flat(records.x), records.labels())
        self.facts: dict[str, float | str | None] = {}

    def _flat(self, x: Array) -> Array:
        return x.reshape(len(x), -1).astype(np.float64) / self._spread

    def predict(self, x: Float[Array, " n ..."]) -> Float[Array, " n c"]:
        """Probabilities over the private classes."""
        rows = np.zeros((len(x), self._classes))
        rows[:, np.asarray(self._lda.classes_, dtype=int)] = self._lda.predict_proba(self._flat(x))
        return rows

    def features(self, x: Float[Array, " n ..."]) -> Float[Array, " n d"]:
        """The values, each in units of its range.

        Not whitened: a value that hardly varies within a class would then outweigh all others.
        """
        return _unit_values(x, self._spec)


_KINDS: dict[str, Any] = {
    "fixed-features": ImageJudge,
    "trees": TreesJudge,
    "discriminant": DiscriminantJudge,
}


def fit_judge(
    records: Records,
    *,
    held_out: Records,
    spec: InputSpec,
    kind: str,
    avoid: str,
    seed: int,
    members: Records | None = None,
    source: str = "non-members",
) -> Judge:
    """Train a judge and find out how good it is.

    Args:
        records: what it learns from: none of the victim's training records, where that can be had.
        held_out: real records of the same classes it never saw, for its accuracy.
        spec: what a record looks like.
        kind: "auto", or the name of one.
        avoid: the victim's architecture family; "auto" takes a judge of another one.
        seed: of the training.
        members: what the victim learned from, of which `records` must hold none; not given when `records`
            are members for want of others.
        source: what `records` are, for the report.

    Raises:
        ConfigError: for an unknown kind, one of the victim's own family, or records shared with the members.
    """
    if members is not None:
        both = int(shared(records, digests(members)).sum())
        if both:
            raise ConfigError(
                f"{both} of the {len(records)} records for the judge are among the members: a judge that learned from "
                "what the victim learned from recognises it for the same reasons. Take them out of the non-members"
            )
    if kind == "auto":
        if spec.modality is Modality.IMAGE and min(spec.shape[1:]) >= 16:
            kind = "fixed-features"
        else:
            kind = "discriminant" if avoid == "tree" else "trees"
    if kind not in _KINDS:
        raise ConfigError(f"unknown judge '{kind}': {did_you_mean(kind, [*_KINDS, 'auto'])}")
    if _KINDS[kind].family == avoid:
        raise ConfigError(
            f"the judge '{kind}' is of the victim's own family ({avoid}): it would share its mistakes; choose another"
        )
    judge = _KINDS[kind](records, spec, len(records.class_names), seed)
    judge.facts.update(_facts(judge, records, held_out, spec, seed, source))
    return judge


def _facts(
    judge: Judge, records: Records, held_out: Records, spec: InputSpec, seed: int, source: str
) -> dict[str, Any]:
    classes = len(records.class_names)
    rng = stream(seed, "noise")
    noise = spec.bounds.from_unit(rng.random((NOISE_TRIES, *spec.shape), dtype=np.float32))
    labels = held_out.labels()
    said = judge.predict(held_out.x)
    on_noise = judge.predict(noise)
    means = np.stack([held_out.of_class(int(c)).x.mean(axis=0) for c in np.unique(labels)])
    return {
        "family": judge.family,
        "trained_on": f"{len(records)} {source}",
        "accuracy_held_out": float((said.argmax(axis=1) == labels).mean()),
        "held_out": len(held_out),
        "accuracy_class_means": float((judge.predict(means).argmax(axis=1) == np.unique(labels)).mean()),
        # How often noise passes for a class drawn at random; a judge that must choose cannot do better than
        # 1/classes. The confident share says how often it is surer of somebody than halfway from a blind guess
        # to certainty: of two classes one always has even odds.
        "false_positives_noise": float((on_noise.argmax(axis=1) == rng.integers(classes, size=NOISE_TRIES)).mean()),
        "noise_most_common_share": float(np.bincount(on_noise.argmax(axis=1), minlength=classes).max() / NOISE_TRIES),
        "top_confidence_noise": float(on_noise.max(axis=1).mean()),
        "noise_confident_share": float((on_noise.max(axis=1) > (1 + 1 / classes) / 2).mean()),
    }
