"""Tables in their own form: what a victim that takes names, texts and gaps is given for a record of numbers."""

from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

Array = np.ndarray


@runtime_checkable
class TableForm(Protocol):
    """The way back from numbers to the table they were read from (`seepage.data.own_form`).

    Attacks, controls and checks see records as numbers; the victim and its recipe see the table that its owner has.
    Equal texts (`repr`) are equal forms.
    """

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the table, in its own order."""
        ...

    @property
    def texts(self) -> tuple[str, ...]:
        """Those that hold no numbers."""
        ...

    def frame(self, x: Float[Array, " n d"]) -> Any:
        """The records as a pandas data frame, with the types, texts and missing values of the table."""
        ...
