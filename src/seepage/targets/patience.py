"""How long to wait before a question is put again: what the server asks for, else longer every time."""

import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_LONGEST = 30.0


def retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks to wait (RFC 9110, 10.2.3): a number, or a date.

    Returns:
        Zero or more, or None when there is no such header or it cannot be read.
    """
    text = (value or "").strip()
    if text.isdecimal():
        return float(text)
    try:
        then = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError):
        return None
    if then.tzinfo is None:
        then = then.replace(tzinfo=UTC)
    return max(0.0, (then - now).total_seconds())


class Patience:
    """The waits of one question, which together last no longer than `seconds`.

    Args:
        seconds: the most to wait in all.
        first: the first wait when the server says nothing, in seconds; doubled every time, at most 30.
        jitter: draws the share of a wait that is kept, one half to one, so that several audits of
            one server do not come back together. It changes no result.
    """

    def __init__(self, seconds: float, first: float, jitter: random.Random):
        self.left = seconds
        self._next = first
        self._jitter = jitter

    def wait(self, told: float | None = None) -> float | None:
        """Seconds to wait now, or None when that would be longer than patience lasts.

        Args:
            told: what the server asks for. Zero counts as nothing, or a server that always says
                so would be asked without end.
        """
        seconds = told or 0.0
        if seconds <= 0:
            seconds = min(self._next, _LONGEST) * self._jitter.uniform(0.5, 1.0)
            self._next *= 2
        if seconds > self.left:
            return None
        self.left -= seconds
        return seconds
