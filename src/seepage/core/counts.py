"""Shares of classes as whole counts."""

import numpy as np
from jaxtyping import Float, Int

Array = np.ndarray


def whole_counts(share: Float[Array, " c"], n: int) -> Int[Array, " c"]:
    """Counts that sum to `n`, nearest to `n * share / sum(share)`: largest remainders; ties go to the lower class."""
    wanted = share / share.sum() * n
    counts = np.floor(wanted + 1e-9).astype(np.int64)
    for c in np.argsort(counts - wanted, kind="stable")[: max(n - int(counts.sum()), 0)]:
        counts[c] += 1
    return counts
