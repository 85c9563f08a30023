"""One exception tree. A message says what was wanted, what came and what to do.

Everything a user can mend derives from `SeepageError`; the command line prints such an error as one
message, without a traceback, and exits with its `exit_code`.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class SeepageError(Exception):
    """Base of every error that a user can mend."""

    exit_code = 2


class ConfigError(SeepageError):
    """A name, key or value in an audit file or a call that cannot be used."""


class DataError(SeepageError):
    """Records that cannot be read, or do not fit together."""


class ModelError(SeepageError):
    """A victim that cannot be loaded, or answers something that is not a prediction."""


class EndpointError(ModelError):
    """A remote victim that does not answer, or answers something unusable."""


class TrustError(ModelError):
    """A file that would run code when loaded, without permission to do so."""


class AccessDenied(SeepageError):
    """An attack asked for more than the access it declared or was granted."""


class BudgetExceeded(SeepageError):
    """A query was refused because the budget is spent. The refused query costs nothing."""


class StoreError(SeepageError):
    """A run folder that cannot be read or written."""


class MissingExtra(SeepageError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str, purpose: str):
        super().__init__(
            f"{purpose} needs the package '{package}', which is not installed: pip install 'seepage[{extra}]'"
        )
        self._given = (package, extra, purpose)

    def __reduce__(self) -> tuple[type["MissingExtra"], tuple[str, str, str]]:
        # An exception is rebuilt from its message when it comes back from a worker; this one takes three.
        return MissingExtra, self._given


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """A short hint for an unknown name: the nearest known one, or all of them when none is near."""
    known = sorted(options)
    close = get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    return "known: " + ", ".join(known) if known else "none is known"
