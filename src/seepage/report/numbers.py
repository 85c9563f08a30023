"""Numbers as a reader sees them: never with more digits than their interval supports."""

import math

from seepage.core.record import Estimate, Score

MINUS = "−"  # U+2212: as wide as the plus sign
MISSING = "–"


def decimals(value: float, low: float | None = None, high: float | None = None) -> int:
    """How many digits after the point `value` deserves.

    With an interval its half width decides: two digits from 0.01 up, fewer above 1, and one digit of
    the half width below. Without an interval it is two significant digits of the value, at least two
    places for anything that may be a share.
    """
    if low is not None and high is not None and high > low:
        half = (high - low) / 2
        if half >= 0.01:
            return 0 if half >= 10 else 1 if half >= 1 else 2
        return min(math.ceil(-math.log10(half)), 8)
    size = abs(value)
    if size == 0 or 0.1 <= size <= 1:
        return 2
    return max(0, min(1 - math.floor(math.log10(size)), 8))


def _fixed(value: float, places: int) -> str:
    text = f"{abs(round(value, places)):,.{places}f}"
    return MINUS + text if value < 0 and float(text.replace(",", "")) != 0 else text


def number(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """`value` with the digits its interval supports; a dash when it is missing."""
    if value is None:
        return MISSING
    if value != 0 and abs(value) < 1e-6:
        return f"{value:.1e}".replace("-", MINUS)
    text = _fixed(value, decimals(value, low, high))
    if low is None and "." in text:
        # Without an interval a third place is shown only where it says something: 0.06, and 0.056.
        whole_part, places = text.split(".")
        text = f"{whole_part}.{places[:2]}{places[2:].rstrip('0')}"
    return text


def short(value: float | None) -> str:
    """A value for a crowded place: two places where it may be a share, else two significant digits."""
    if value is None:
        return MISSING
    return _fixed(value, 2) if abs(value) <= 1 else number(value)


def likely(e: Estimate) -> str:
    """An estimate in words: `0.60 (likely between 0.37 and 0.76)`."""
    low, high = number(e.low, e.low, e.high), number(e.high, e.low, e.high)
    return f"{number(e.value, e.low, e.high)} (likely between {low} and {high})"


def interval(low: float | None, high: float | None) -> str:
    """`[low, high]`, both with the digits that their distance supports; empty when there is none."""
    if low is None or high is None:
        return ""
    return f"[{number(low, low, high)}, {number(high, low, high)}]"


def estimate(e: Estimate | None) -> str:
    """A value with its interval, as `0.85 [0.64, 0.95]`; a dash when it is missing."""
    return MISSING if e is None else f"{number(e.value, e.low, e.high)} {interval(e.low, e.high)}"


def signed(e: Estimate | None) -> str:
    """A difference with its interval, its sign always written: `+0.60 [0.37, 0.76]`."""
    if e is None:
        return MISSING
    text = number(e.value, e.low, e.high)
    return f"{text if text.startswith(MINUS) else '+' + text} {interval(e.low, e.high)}"


def score_text(score: Score | None) -> str:
    """The value of a score with its interval when it has one; a dash when it cannot be estimated."""
    if score is None or score.value is None:
        return MISSING
    return f"{number(score.value, score.low, score.high)} {interval(score.low, score.high)}".strip()


def p_text(p: float | None) -> str:
    """A p-value; anything below 0.001 is only said to be so."""
    if p is None:
        return MISSING
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.01 else f"{p:.2f}"


def whole(n: int | None) -> str:
    """A count, with thousands apart; a dash when it is missing."""
    return MISSING if n is None else f"{n:,}"


def duration(seconds: float | int) -> str:
    """Seconds as a person says them: `0.4 s`, `42 s`, `3 min 5 s`, `2 h 10 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    total = round(seconds)
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} min {total % 60} s"
    return f"{total // 3600} h {total % 3600 // 60} min"


def fact(value: float | int | str | None) -> str:
    """A fact of a record: counts whole, other numbers with two significant digits, text as it is."""
    if value is None:
        return MISSING
    if isinstance(value, str):
        return value
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}".replace("-", MINUS)
    return number(float(value))


def count_of(value: float | None, n: int) -> int | None:
    """How many of `n` units a share `value` stands for, or None when it is no whole number of them."""
    if value is None or n < 1 or not 0 <= value <= 1:
        return None
    nearest = round(value * n)
    return nearest if abs(value * n - nearest) <= 0.01 else None


def difference(after: Estimate, before: Estimate) -> Estimate:
    """`after - before` with an interval recovered from the two intervals.

    The square-and-add rule of Newcombe (1998, Statistics in Medicine 17, method 10) for any pair of
    estimates (Zou and Donner 2008, Statistics in Medicine 27). It takes the two as independent; for
    two runs over the same records, which rise and fall together, it is wider than it need be.
    """
    value = after.value - before.value
    down = math.hypot(after.value - after.low, before.high - before.value)
    up = math.hypot(after.high - after.value, before.value - before.low)
    return Estimate(value=value, low=value - down, high=value + up)
