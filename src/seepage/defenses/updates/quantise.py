"""Updates sent in few bits."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field

from seepage.core.case import Case
from seepage.core.defense import UpdateDefense
from seepage.core.victim import Update
from seepage.defenses.updates.vectors import flat

Array = np.ndarray
BITS = {"fp16": 16, "bf16": 16, "int8": 8, "int4": 4}
_FLOATS = {"fp16": torch.float16, "bf16": torch.bfloat16}


class Quantise(UpdateDefense):
    """Rounds every value to a coarser format; the adversary reads the values back as the server does.

    Integers are symmetric, one scale a tensor: its greatest magnitude is the greatest integer (127 for int8, 7 for
    int4). Floating formats keep their own range; what is too great for fp16 is sent as its greatest number.

    Attributes:
        format: "fp16", "bf16", "int8" or "int4".
        stochastic: round integers up or down by chance, so that the mean is kept; to the nearest otherwise.
    """

    name: ClassVar[str] = "quantise"
    title: ClassVar[str] = "Quantised update"
    cites: ClassVar[tuple[str, ...]] = (
        "Alistarh, Grubic, Li, Tomioka, Vojnovic 2017, QSGD: Communication-Efficient SGD via Gradient Quantization "
        "and Encoding, NeurIPS",
    )

    format: Literal["fp16", "bf16", "int8", "int4"] = Field(default="int8")
    stochastic: bool = False

    def noise(self, sent: Float[Array, " ..."]) -> float:
        """The deviation of a rounding error spread evenly over a step; a float's step grows with its magnitude."""
        if self.format in _FLOATS:
            exponent = np.frexp(sent.astype(np.float64))[1] - 1
            steps = np.where(sent == 0, 0.0, np.exp2(exponent)) * torch.finfo(_FLOATS[self.format]).eps
            return float(np.sqrt(np.square(steps).mean() / 12)) if sent.size else 0.0
        # Nearest: evenly spread over a step. By chance: over two, more often near.
        return self._step(sent) / math.sqrt(6.0 if self.stochastic else 12.0)

    def possible(self, sent: Update) -> Mapping[str, tuple[Array, Array]]:
        """Half a step of the format around every value; a whole one where it was rounded by chance.

        What was cut to the greatest number of fp16 is taken to have been that number.
        """
        found: dict[str, tuple[Array, Array]] = {}
        for name, tensor in sent.tensors.items():
            wide = tensor.astype(np.float64)
            if self.format in _FLOATS:
                room = np.abs(wide) * torch.finfo(_FLOATS[self.format]).eps / 2
            else:
                room = np.full(wide.shape, self._step(tensor) * (1.0 if self.stochastic else 0.5))
            found[name] = (wide - room, wide + room)
        return found

    def _step(self, tensor: Float[Array, " ..."]) -> float:
        """The distance of two levels: read from the tensor as sent too, for its greatest magnitude is kept."""
        return float(np.abs(tensor).max(initial=0.0)) / (2 ** (BITS[self.format] - 1) - 1)

    def facts(self, case: Case) -> Mapping[str, float | str | None]:
        return {"bits_per_value": float(BITS[self.format])}

    def apply(self, update: Update, rng: np.random.Generator) -> Update:
        """The update as it is read after quantisation, in the precision it came in."""
        flat(update)
        return replace(update, tensors={name: self._rounded(t, rng) for name, t in update.tensors.items()})

    def _rounded(self, tensor: Float[Array, " ..."], rng: np.random.Generator) -> Float[Array, " ..."]:
        if self.format in _FLOATS:
            kind = _FLOATS[self.format]
            most = torch.finfo(kind).max
            coarse = torch.from_numpy(np.array(tensor, dtype=np.float64)).clamp(-most, most).to(kind)
            return coarse.double().numpy().astype(tensor.dtype)
        levels, step = 2 ** (BITS[self.format] - 1) - 1, self._step(tensor)
        if step == 0.0:
            return tensor.copy()
        wanted = tensor.astype(np.float64) / step
        whole = np.floor(wanted + rng.random(wanted.shape)) if self.stochastic else np.rint(wanted)
        return (np.clip(whole, -levels, levels) * step).astype(tensor.dtype)
