"""The scene of an encoder of texts: a vector database whose vectors have got out."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from seepage.cases.scene import Scene
from seepage.core.record import Check
from seepage.core.victim import TextEncoder


@dataclass(frozen=True, kw_only=True)
class Sentences(Scene):
    """Everything the audit of an encoder was given.

    Attributes:
        open_encoder: gives the encoder; called once.
        members: the texts that the encoder was asked about; their vectors have leaked.
        public: texts that the adversary owns.
        spec: none, since a text is no array.
        checks: what was found when the texts were looked at.
    """

    of: ClassVar[str] = "an encoder of texts"

    open_encoder: Callable[[], TextEncoder]
    spec: None = None
    checks: tuple[Check, ...] = ()

    @property
    def victim(self) -> TextEncoder:
        return self._opened

    @cached_property
    def _opened(self) -> TextEncoder:
        return self.open_encoder()

    @property
    def twin_missing(self) -> str | None:
        """No twin is wanted: the control is the same attack given the vectors of other texts."""
        return "nothing: the control is the same attack given the vectors of other texts"
