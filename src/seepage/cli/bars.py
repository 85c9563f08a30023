"""Progress on the terminal: one bar for the whole, one line for each task under way."""

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from seepage.cli.preflight import print_preflight
from seepage.core.progress import Progress as Step

LABELS = {
    "victim": "training the victim",
    "twin": "training its null twin",
    "checks": "checking the records",
    "preflight": "looking at the update",
    "facts": "trying the judge",
}
# The same task where nothing is judged.
UNJUDGED = {"facts": "looking at the victim"}


def _named(task: str, judged: bool = True) -> str:
    """What a task is called."""
    if task.startswith("references "):
        return f"training reference models from number {int(task.split()[-1]) + 1}"
    return (LABELS if judged else {**LABELS, **UNJUDGED}).get(task, task)


def _short(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02d}"


class Bars:
    """Draws what an audit reports; on a pipe, one line for each task that ends."""

    def __init__(self, quiet: bool, whole: str = "the whole audit"):
        self._quiet = quiet
        self._console = Console(stderr=True, width=None if Console(stderr=True).is_terminal else 160)
        self._live = self._console.is_terminal and not quiet
        self._begun = time.monotonic()
        self._tasks: dict[str, TaskID] = {}
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=32),
            TextColumn("{task.percentage:>3.0f}%", markup=False),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}", markup=False),
            console=self._console,
            transient=True,
        )
        self._whole = self._progress.add_task(whole, total=1.0, left="")

    def __enter__(self) -> "Bars":
        if self._live:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._progress.stop()

    def say(self, text: str) -> None:
        """One line above the bars."""
        if not self._quiet:
            self._console.print(f"  {text}", highlight=False, markup=False)

    def about(self, whole: str) -> None:
        """Say what the whole is from now on."""
        self._progress.update(self._whole, description=whole)

    def draw(self, step: Step) -> None:
        """Move the bars by one step, and say nothing of it; on a pipe, nothing at all."""
        if not self._live:
            return
        self._progress.update(self._whole, completed=step.total)
        if step.state == "started":
            self._tasks[step.task] = self._progress.add_task(f"  {_named(step.task)}", total=1.0, left="")
        elif step.task in self._tasks:
            self._progress.update(self._tasks[step.task], completed=step.done)
            if step.state != "moving":
                self._progress.remove_task(self._tasks.pop(step.task))

    def listen(self, step: Step) -> None:
        """Take one step of progress from the audit."""
        name = _named(step.task, step.judged)
        left = "" if step.eta is None else f"about {_short(step.eta)} left"
        if self._live:
            self._progress.update(self._whole, completed=step.total, left=left)
            if step.state == "started":
                self._tasks[step.task] = self._progress.add_task(f"  {name}", total=1.0, left="")
            elif step.task in self._tasks:
                self._progress.update(self._tasks[step.task], completed=step.done)
        if step.state in ("done", "failed", "cached"):
            if self._live and step.task in self._tasks:
                self._progress.remove_task(self._tasks.pop(step.task))
            mark = {"done": "✓", "failed": "✗", "cached": "="}[step.state]
            note = {"cached": " (already there)", "failed": f": {step.message}"}.get(step.state, "")
            spent = _short(time.monotonic() - self._begun)
            self.say(f"{mark} {spent}  {name}{note}" + ("" if self._live or not left else f"  [{left}]"))
        if step.preflight and not self._quiet:
            self._console.print()
            print_preflight(self._console, step.preflight)
        sys.stderr.flush()
