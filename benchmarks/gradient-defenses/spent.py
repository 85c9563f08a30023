"""What every piece of work took, written as it ends: a run that goes on knows what the earlier one had spent."""

import json
import time
from pathlib import Path

from seepage.core.progress import Progress


class Spent:
    """CPU seconds by piece, in a file of JSON lines.

    Args:
        path: the file; what stands in it is read.
    """

    def __init__(self, path: Path):
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._known: dict[str, float] = {}
        self._met: set[str] = set()
        self._last = time.process_time()
        for line in path.read_text("utf-8").splitlines() if path.is_file() else ():
            told = json.loads(line)
            self._keep(told["piece"], told["cpu_seconds"])

    def lap(self, piece: str) -> None:
        """A piece has ended: it took what was spent since the last one; less than before if it was in the store."""
        now = time.process_time()
        spent, self._last = now - self._last, now
        self._met.add(piece)
        if spent > self._known.get(piece, 0.0):
            self._keep(piece, spent)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"piece": piece, "cpu_seconds": round(spent, 3)}) + "\n")
        print(f"{sum(self._known[name] for name in self._met):7.0f} s  {piece} ({spent:.1f} s)", flush=True)

    def listener(self, group: str) -> "Listened":
        """What tells of the pieces of an audit."""
        return Listened(self, group)

    def total(self) -> float:
        """Of all pieces that this run met, whether it did them or an earlier one."""
        return sum(self._known[piece] for piece in self._met)

    def by_piece(self, part: str) -> float:
        """Of the pieces whose name holds a part."""
        return sum(self._known[piece] for piece in self._met if part in piece)

    def _keep(self, piece: str, spent: float) -> None:
        self._known[piece] = max(spent, self._known.get(piece, 0.0))


class Listened:
    """Laps for the tasks of one audit."""

    def __init__(self, spent: Spent, group: str):
        self._spent, self._group = spent, group

    def __call__(self, step: Progress) -> None:
        if step.state in ("done", "failed", "cached"):
            failed = f" failed: {step.message}" if step.state == "failed" else ""
            self._spent.lap(f"{self._group}: {step.task}{failed}")
