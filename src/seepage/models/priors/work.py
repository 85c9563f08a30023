"""A long training: it says how far it is, keeps its state now and then, and goes on after it was killed."""

import logging
import os
import pickle
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from seepage.core.errors import StoreError
from seepage.core.progress import Listener, Progress

_log = logging.getLogger(__name__)
# What torch raises on a file that is cut short, or is none of its own.
_BROKEN = (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError, zipfile.BadZipFile)


@dataclass(frozen=True)
class Work:
    """How a training keeps its state and reports.

    Attributes:
        checkpoint: the file its state is kept in while it runs; None keeps none.
        fingerprint: of everything the training depends on: a state of another one is not taken up.
        listener: told after every step how far it is; what it raises stops the training with its state kept.
        task: what the listener is told it is.
        every: seconds between two states kept.
    """

    checkpoint: Path | None = None
    fingerprint: str = ""
    listener: Listener | None = None
    task: str = "training the prior"
    every: float = 20.0

    def run(
        self,
        steps: int,
        step: Callable[[int], None],
        state: Callable[[], dict[str, Any]],
        restore: Callable[[dict[str, Any]], None],
    ) -> float:
        """Take steps 0 to `steps` - 1, after taking up a state kept before.

        Args:
            steps: how many there are.
            step: takes one; called with its number.
            state: all that the next step depends on: tensors, numbers, texts, and lists and mappings of them.
            restore: puts a state back, on whatever device the training is.

        Returns:
            Seconds spent, those before an interruption included.

        Raises:
            StoreError: when the state cannot be written.
        """
        first, spent = 0, 0.0
        kept = self._kept()
        if kept is not None:
            restore(kept["state"])
            first, spent = int(kept["step"]), float(kept["seconds"])
            _log.info("%s: taken up at step %d of %d", self.task, first, steps)
        begun = last = time.monotonic()
        self._tell("started", first, steps, None)
        for number in range(first, steps):
            step(number)
            now = time.monotonic()
            try:
                self._tell("moving", number + 1, steps, (now - begun) / (number + 1 - first) * (steps - number - 1))
            except BaseException:
                # An interruption between two steps: nothing of the work is lost.
                self._keep(number + 1, spent + now - begun, state)
                raise
            if now - last > self.every:
                self._keep(number + 1, spent + now - begun, state)
                last = time.monotonic()
        self._tell("done", steps, steps, 0.0)
        return spent + time.monotonic() - begun

    def finished(self) -> None:
        """The result is safe: the state is no longer needed."""
        if self.checkpoint is not None:
            self.checkpoint.unlink(missing_ok=True)

    def _tell(self, what: Any, done: int, steps: int, eta: float | None) -> None:
        if self.listener is not None:
            share = done / steps if steps else 1.0
            self.listener(Progress(self.task, what, share, share, eta))

    def _keep(self, number: int, seconds: float, state: Callable[[], dict[str, Any]]) -> None:
        if self.checkpoint is None:
            return
        whole = {"fingerprint": self.fingerprint, "step": number, "seconds": seconds, "state": state()}
        fresh = self.checkpoint.with_name(f"{self.checkpoint.name}.{os.getpid()}.new")
        try:
            self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
            torch.save(whole, fresh)
            fresh.replace(self.checkpoint)
        except OSError as error:
            raise StoreError(
                f"the state of a training cannot be kept at {self.checkpoint}: {error.strerror or error}; "
                "name a folder that can be written"
            ) from error
        finally:
            fresh.unlink(missing_ok=True)

    def _kept(self) -> dict[str, Any] | None:
        if self.checkpoint is None or not self.checkpoint.is_file():
            return None
        try:
            kept = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
            if kept["fingerprint"] == self.fingerprint:
                return kept
        except _BROKEN as error:
            _log.warning("%s cannot be read (%s): the training starts anew", self.checkpoint, error)
            return None
        _log.warning("%s is of another training: this one starts anew", self.checkpoint)
        return None
