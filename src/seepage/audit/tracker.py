"""How far a run is and how long it will take, from the tasks' own pace."""

import time
from collections.abc import Collection, Mapping, Sequence

from seepage.core.progress import Listener, Progress
from seepage.core.record import Preflight

# Seconds a query takes before anything has been measured: a small net on one core. Only the first
# seconds of the first run use it.
FIRST_GUESS = 3e-4


class Tracker:
    """Turns what tasks report into progress of the whole.

    Args:
        weights: task -> queries it will ask at the most.
        heavy: tasks whose queries also ask for gradients, which cost several times as much.
        pace: task -> seconds a query took in earlier runs, where known.
        processes: how many tasks run at a time.
        listener: called with every change; at most about ten times a second while tasks move.
        judged: whether there is a judge, for what a task is called.
    """

    def __init__(
        self,
        weights: Mapping[str, int],
        heavy: Collection[str],
        pace: Mapping[str, float | None],
        processes: int,
        listener: Listener | None,
        judged: bool = True,
    ):
        self._expected = {task: max(weight * (pace.get(task) or FIRST_GUESS), 0.05) for task, weight in weights.items()}
        self._weights = dict(weights)
        self._done: dict[str, float] = dict.fromkeys(weights, 0.0)
        self._started: dict[str, float] = {}
        self._processes = max(processes, 1)
        self._listener = listener
        self._judged = judged
        self._last = 0.0

    def _left(self, task: str, now: float) -> float:
        share = self._done[task]
        if share >= 1:
            return 0.0
        begun = self._started.get(task)
        if begun is not None and share > 0.02:
            return (now - begun) * (1 - share) / share
        return self._expected[task] * (1 - share)

    def _tell(self, task: str, state: str, message: str = "", preflight: Sequence[Preflight] = ()) -> None:
        if self._listener is None:
            return
        now = time.monotonic()
        if state == "moving" and now - self._last < 0.1:
            return
        self._last = now
        left = {name: self._left(name, now) for name in self._done}
        spent = sum(self._expected[name] * share for name, share in self._done.items())
        whole = sum(self._expected.values()) or 1.0
        # No schedule ends before its longest task does, nor before all work is shared out.
        eta = max(sum(left.values()) / self._processes, max(left.values(), default=0.0))
        self._listener(
            Progress(
                task=task,
                state=state,  # pyright: ignore[reportArgumentType]
                done=self._done.get(task, 0.0),
                total=min(spent / whole, 1.0),
                eta=eta,
                message=message,
                judged=self._judged,
                preflight=tuple(preflight),
            )
        )

    def started(self, task: str) -> None:
        self._started[task] = time.monotonic()
        self._tell(task, "started")

    def moved(self, task: str, queries: int) -> None:
        """A task has asked `queries` queries so far."""
        if self._weights.get(task):
            self._done[task] = min(queries / self._weights[task], 0.999)
        self._tell(task, "moving")

    def ended(self, task: str, state: str, message: str = "", preflight: Sequence[Preflight] = ()) -> None:
        """A task is done, failed or cached."""
        begun = self._started.get(task)
        if begun is not None:
            self._expected[task] = max(time.monotonic() - begun, 0.05)
        self._done[task] = 1.0
        self._tell(task, state, message, preflight)
