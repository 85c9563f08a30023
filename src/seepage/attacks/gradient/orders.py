"""From the tokens that can stand at each place to whole sequences, by what the second attention layer has seen."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from seepage.attacks.gradient.attention import Reader
from seepage.attacks.gradient.span import NEAREST, Span

# Tokens that go through the model at a time.
_TOKENS = 8192
# Rounds in which every place is given its best token; two or three do, where there is an answer.
_SWEEPS = 12
# Times that a few places of a settled sequence are drawn anew, to leave it for a better one.
_KICKS = 8
# Sequences of chance tokens that noise is judged by.
_CHANCE = 200
Sequence_ = tuple[int, ...]
Places = Sequence[Sequence_]


@dataclass(frozen=True)
class Orders:
    """What sequences are judged by.

    Attributes:
        space: what the second layer's inputs span.
        batch: how many sequences there are; None where that is not known.
        beam: sequences followed at a time.
        rng: draws sequences of chance tokens and where searches begin.
        ends: tokens that end a text, where some are known to.
    """

    space: Span
    batch: int | None
    beam: int
    rng: np.random.Generator
    ends: frozenset[int] = frozenset()

    def cost(self, reader: Reader, ids: Tensor, last: bool) -> Tensor:
        """(n, t) how far each input to the second layer stands out of the span, or (n, 1) that of the last token."""
        step = max(1, _TOKENS // ids.shape[1])
        parts: list[Tensor] = []
        for some in ids.split(step):
            seen = reader.inputs(1, some)
            parts.append(self.space.apart(seen[:, -1:] if last else seen))
        return torch.cat(parts)

    def limit(self, reader: Reader, length: int) -> float:
        """The distance below which a token at the end of a sequence of `length` is taken for a true one.

        Under noise, that of a middling sequence of chance tokens: it is the nearest that counts then.
        """
        if not self.space.noisy:
            return self.space.tolerance
        chance = torch.from_numpy(self.rng.integers(reader.vocabulary, size=(_CHANCE, length)))
        return float(self.cost(reader, chance, last=True)[:, 0].median())

    def limits(self, reader: Reader, length: int) -> tuple[float, ...]:
        """The distances that a whole sequence has to keep within, the strictest first.

        The bound of `limit` is that of an input in the weakest direction of the span. Most keep within what rounding
        alone makes of an input, and sequences with two tokens exchanged lie between the two.
        """
        most, strict = self.limit(reader, length), NEAREST[self.space.directions.dtype]
        return (most,) if self.space.noisy or most <= 2 * strict else (strict, most)


def read_forward(reader: Reader, orders: Orders, places: Places) -> list[Sequence_]:
    """Sequences of a decoder, surest first: prefixes grow while their last token fits what the second layer saw.

    A text that is the beginning of another one in the batch is not told from it, nor, by a model without positions,
    one that begins with the same token twice.
    """
    if orders.space.noisy:
        return _read_through_noise(reader, orders, places)
    alive: list[tuple[float, Sequence_]] = [(0.0, ())]
    ended: list[tuple[float, Sequence_]] = []
    for place, tokens in enumerate(places):
        if not alive:
            break
        if not tokens:
            ended.extend(alive)
            alive = []
            break
        ids = torch.tensor([(*prefix, token) for _, prefix in alive for token in tokens])
        apart = orders.cost(reader, ids, last=True)[:, 0].reshape(len(alive), len(tokens))
        fits = apart < orders.limit(reader, place + 1)
        grown: list[tuple[float, Sequence_]] = []
        for row, (sum_, prefix) in enumerate(alive):
            kept = torch.nonzero(fits[row])[:, 0].tolist()
            if not kept and prefix:
                ended.append((sum_, prefix))
            grown.extend((sum_ + log(max(float(apart[row, k]), 1e-9)), (*prefix, tokens[k])) for k in kept)
        ended.extend(one for one in grown if one[1][-1] in orders.ends)
        grown = [one for one in grown if one[1][-1] not in orders.ends]
        if not reader.positioned:
            # What is attended to is the same token throughout: of any number of it, the second layer sees one.
            grown = [one for one in grown if len(one[1]) == 1 or len(set(one[1])) > 1]
        alive = sorted(grown)[: orders.beam]
    ended.extend(one for one in alive if one[1])
    return _surest(ended, places, orders.batch)


def _read_through_noise(reader: Reader, orders: Orders, places: Places) -> list[Sequence_]:
    """Sequences of a decoder where no distance is small: at each place prefixes and tokens are matched one to one.

    A prefix left without a token takes the nearest one, or ends where that is no nearer than chance.
    """
    starts = places[0] if places else ()
    alive: list[Sequence_] = [(token,) for token in starts[: orders.batch]]
    ended: list[Sequence_] = []
    for place, tokens in enumerate(places[1:], 1):
        alive, finished = _apart_by(alive, lambda ids: ids[-1] not in orders.ends)
        ended += finished
        if not alive or not tokens:
            break
        ids = torch.tensor([(*prefix, token) for prefix in alive for token in tokens])
        apart = orders.cost(reader, ids, last=True)[:, 0].reshape(len(alive), len(tokens))
        pairs = dict(zip(*(some.tolist() for some in linear_sum_assignment(apart.clamp_min(1e-9).log())), strict=True))
        limit = orders.limit(reader, place + 1)
        grown: list[Sequence_] = []
        for row, prefix in enumerate(alive):
            k = pairs.get(row, int(apart[row].argmin()))
            if row in pairs or float(apart[row, k]) < limit:
                grown.append((*prefix, tokens[k]))
            else:
                ended.append(prefix)
        alive = grown
    return [*ended, *alive]


def _apart_by(found: list[Sequence_], test: Callable[[Sequence_], bool]) -> tuple[list[Sequence_], list[Sequence_]]:
    return [ids for ids in found if test(ids)], [ids for ids in found if not test(ids)]


def _surest(found: list[tuple[float, Sequence_]], places: Places, batch: int | None) -> list[Sequence_]:
    """As many sequences as the batch has: each explains most tokens not yet explained, of equal ones the nearest."""
    left = sorted({ids: cost / len(ids) for cost, ids in found}.items(), key=lambda one: (-len(one[0]), one[1], one[0]))
    wanted = {(place, token) for place, tokens in enumerate(places) for token in tokens}
    chosen: list[Sequence_] = []
    while left and (batch is None or len(chosen) < batch):
        best = max(range(len(left)), key=lambda i: (_new(left[i][0], wanted), -left[i][1]))
        ids, _ = left.pop(best)
        chosen.append(ids)
        wanted -= set(enumerate(ids))
    return chosen


def _new(ids: Sequence_, wanted: set[tuple[int, int]]) -> int:
    return sum((place, token) in wanted for place, token in enumerate(ids))


def read_both_ways(reader: Reader, orders: Orders, places: Places, restarts: int) -> list[Sequence_]:
    """Sequences of an encoder, surest first, for each length at which a text can end.

    Every input to the second layer depends on the whole sequence, so that a sequence is searched as a whole: from
    tokens drawn at each place, one place after the other is given the token that brings the inputs nearest to the
    span, until nothing changes. Searches begin with tokens that no sequence found so far explains.
    """
    found: list[tuple[float, Sequence_]] = []
    wanted = {(place, token) for place, tokens in enumerate(places) for token in tokens}
    # What fits without noise is right; under noise a few more are looked at, and the best ones kept.
    most = float("inf") if orders.batch is None else orders.batch * (2 if orders.space.noisy else 1)
    for length in _lengths(places, orders.ends):
        for limit in orders.limits(reader, length):
            failed = 0
            while failed < restarts and len(found) < most and any(place < length for place, _ in wanted):
                cost, worst, ids = _descend(reader, orders, places[:length], wanted, limit)
                if worst < limit and all(ids != other for _, other in found):
                    found.append((cost, ids))
                    wanted -= set(enumerate(ids))
                    failed = 0
                else:
                    failed += 1
    return _surest([(cost * len(ids), ids) for cost, ids in found], places, orders.batch)


def _lengths(places: Places, ends: frozenset[int]) -> list[int]:
    """The lengths that texts can have, the longest first: where a token stands that ends them, or any."""
    every = range(len(places), 0, -1)
    marked = [length for length in every if ends & set(places[length - 1])]
    return marked or list(every)


def _descend(
    reader: Reader, orders: Orders, places: Places, wanted: set[tuple[int, int]], limit: float
) -> tuple[float, float, Sequence_]:
    """One search: the mean and the worst distance of the sequence it ends with, and the sequence.

    It ends when the mean is below a third of `limit` (under noise a limit says little), or after a few tries to leave
    what it has settled on.

    The last token is one that ends a text, where such are known.
    """
    last = len(places) - 1
    choices = [
        tuple(t for t in tokens if not orders.ends or (t in orders.ends) == (place == last)) or tokens
        for place, tokens in enumerate(places)
    ]
    free = [place for place, tokens in enumerate(choices) if len(tokens) > 1]
    start = [_drawn(tokens, {t for p, t in wanted if p == place}, orders.rng) for place, tokens in enumerate(choices)]
    best, ids = _settled(reader, orders, choices, free, start)
    for _ in range(_KICKS if free else 0):
        if not orders.space.noisy and best < limit / 3:
            break
        moved = list(ids)
        for place in orders.rng.permutation(free)[: max(2, len(free) // 12)].tolist():
            moved[place] = _drawn(choices[place], set(), orders.rng)
        value, settled = _settled(reader, orders, choices, free, moved)
        if value < best:
            best, ids = value, settled
    apart = orders.cost(reader, torch.tensor([ids]), last=False)
    return best, float(apart.max()), tuple(ids)


def _settled(
    reader: Reader, orders: Orders, choices: Sequence[Sequence_], free: list[int], start: list[int]
) -> tuple[float, list[int]]:
    """The sequence that a start comes to when place after place is given its best token, and its cost."""
    ids, best = list(start), float(orders.cost(reader, torch.tensor([start]), last=False).mean())
    for _ in range(_SWEEPS):
        before = list(ids)
        for place in orders.rng.permutation(free).tolist():
            tried = torch.tensor([[*ids[:place], token, *ids[place + 1 :]] for token in choices[place]])
            costs = orders.cost(reader, tried, last=False).mean(dim=1)
            best, ids[place] = float(costs.min()), choices[place][int(costs.argmin())]
        if ids == before:
            break
    return best, ids


def _drawn(tokens: Sequence_, fresh: set[int], rng: np.random.Generator) -> int:
    """A token of a place, one not yet explained where there is one."""
    first = [token for token in tokens if token in fresh] or list(tokens)
    return first[int(rng.integers(len(first)))]
