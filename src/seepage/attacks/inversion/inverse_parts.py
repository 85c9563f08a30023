"""Parts that attacks by a learned inverse are composed of: what is asked, and how an answer is read."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float

from seepage.attacks.inversion.parts import torch_rng
from seepage.core.defense import OutputDefense
from seepage.core.knowledge import Knowledge
from seepage.core.spec import InputSpec
from seepage.core.vocabulary import Modality
from seepage.models.priors import Prior
from seepage.models.training import lit, moved

Array = np.ndarray
BATCH = 1024
FLOOR = 1e-6


def log_scores(
    scores: Float[Array, " n c"], keep: int = 0, floor: float = FLOOR, offset: float | None = None
) -> Float[Array, " n c"]:
    """Scores as an inverse reads them: the rescaled, truncated vector of Yang et al. 2019, sections 4.2 and 4.3.

    The `keep` greatest scores of a row become max(log p, log floor) + offset, raised together until none
    is negative; all others become 0. With `offset` None it is -log floor, so that a score at the floor
    and one that was cut off read the same; the paper's code has 50 and a floor of e^-1000.

    Args:
        scores: rows of scores in [0, 1].
        keep: how many of a row are kept; 0 keeps all.
        floor: the least score that is told from nothing, above 0.
        offset: added to every logarithm that is kept.
    """
    scores = np.asarray(scores, dtype=np.float64)
    logs = np.maximum(np.log(np.maximum(scores, np.finfo(np.float64).tiny)), np.log(floor))
    logs = logs + (-np.log(floor) if offset is None else offset)
    k = scores.shape[1] if keep == 0 else min(keep, scores.shape[1])
    kept = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    values = np.take_along_axis(logs, kept, axis=1)
    values = values + np.maximum(-values.min(axis=1, keepdims=True), 0.0)
    out = np.zeros_like(logs)
    np.put_along_axis(out, kept, values, axis=1)
    return out


def levelled(rows: Float[Array, " n d"]) -> Float[Array, " n d"]:
    """Rows with their mean taken off, brought to length sqrt(d); a constant row becomes 0.

    A victim is surer of its members than of public records. That makes the whole vector of log-scores
    longer and leaves its direction, which is what an inverse learned from public records can read.
    """
    centred = rows - rows.mean(axis=1, keepdims=True)
    length = np.sqrt((centred**2).mean(axis=1, keepdims=True))
    return centred / np.where(length > 1e-12, length, np.inf)


def floor_of(knowledge: Knowledge) -> float:
    """The least score that says more than nothing: half a step of the coarsest grid known, `FLOOR` without one."""
    grids = [d.resolution for d in knowledge.defenses if isinstance(d, OutputDefense)]
    return max([grid / 2 for grid in grids] + [FLOOR])


def questions(
    public: Float[Array, " m ..."], prior: Prior, spec: InputSpec, count: int, rng: np.random.Generator
) -> Float[Array, " n ..."]:
    """Records to learn an inverse from, no more than `count`: the public ones, then variations and draws.

    Half of the rest are public records varied (pictures moved and lit at random; of others, two mixed),
    half are draws of the prior. All lie within the bounds.
    """
    if count <= len(public):
        return public[np.sort(rng.permutation(len(public))[:count])]
    varied = (count - len(public)) // 2
    drawn = prior.sample(count - len(public) - varied, rng)
    rows = rng.integers(len(public), size=varied)
    if spec.modality is Modality.IMAGE and varied:
        draws = torch_rng(rng)
        unit = torch.from_numpy(spec.bounds.to_unit(public[rows]))
        changed = spec.bounds.from_unit(lit(moved(unit, draws), draws).numpy())
    else:
        share = rng.random((varied,) + (1,) * len(spec.shape))
        changed = share * public[rows] + (1 - share) * public[rng.integers(len(public), size=varied)]
    return spec.bounds.clip(np.concatenate([public, changed, drawn]))


def asked(ask: Callable[[Array], Array], x: Float[Array, " n ..."]) -> Float[Array, " n d"]:
    """Answers to many records, a thousand at a time."""
    return np.concatenate([ask(x[at : at + BATCH]) for at in range(0, len(x), BATCH)])


def within(wanted: int, budget: int | None) -> int:
    """How many queries are asked when `wanted` are wished for and `budget` are left."""
    return wanted if budget is None else min(wanted, budget)


def too_few(least: int, budget: int | None) -> str | None:
    """Why a budget is too small for an inverse to be learned, or None when it is not."""
    if budget is not None and budget < least:
        return f"it needs {least} queries at the least, the budget is {budget}"
    return None
