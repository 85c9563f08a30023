"""The span test where an update is noisy: no token is near the span, but true ones stand out of all others."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from seepage.attacks.gradient.span import Span, outlying

# Numbers of directions tried, up to three in four of those there are.
_RANKS = (4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768)
# How many of the candidates that stand out the most a number of directions is judged by.
_MOST = 16
# A token stands where it is nearest, and wherever it is not farther than by this factor.
_AS_NEAR = 1.25
Places = tuple[tuple[int, ...], ...]


def sharpest(spaces: Sequence[Span], parts: Callable[[], Iterable[Tensor]]) -> Span:
    """The space, at as many directions, that lets the candidates stand out the most: nothing else tells.

    What the noise's own spectrum says of it (`span.above_noise`) holds for noise of one variance alone; rounding and
    sparsifying make errors of many. The judgement is of the candidates' distances, and of no truth.

    Args:
        spaces: with any number of directions.
        parts: gives (v, places, d) what the first layer sees of the candidates, in parts of the vocabulary.
    """
    best, most = spaces[0], -1.0
    for space in spaces:
        tried = [r for r in _RANKS if r <= 3 * space.size // 4]
        inside = torch.cat([space.by_rank(part, tried) for part in parts()], dim=1)
        for rank, one in zip(tried, inside, strict=True):
            sharp = float(outlying((1 - one).clamp_min(0).sqrt()).flatten().topk(_MOST).values.mean())
            if sharp > most:
                best, most = space.at(rank), sharp
    return best


def standing_out(apart: Tensor, sigmas: float, batch: int | None) -> Places:
    """The tokens at each place, nearest first, from their distances (vocabulary, places); empty behind the texts.

    Tokens that stand out of the others of some place by `sigmas` are true ones; each stands where it is nearest (a
    token is nearer than chance at other places too). At a place of the texts there are no more tokens than texts,
    and with noise hardly fewer: where the batch is known the nearest others fill it up.
    """
    likely = (outlying(apart) > sigmas).any(dim=1)
    nearest = apart.min(dim=1, keepdim=True).values
    here = likely[:, None] & (apart <= _AS_NEAR * nearest)
    places: list[tuple[int, ...]] = []
    for place in range(apart.shape[1]):
        # One place may have lost all its tokens; two in a row are the end.
        if not bool(here[:, place : place + 2].any()):
            break
        order = torch.argsort(torch.where(here[:, place], apart[:, place] - 1, apart[:, place]), stable=True)
        found = int(here[:, place].sum())
        places.append(tuple(order[: max(found, 1) if batch is None else batch].tolist()))
    return tuple(places)
