"""A sweep carried out: what is not there yet is played and trained, the frontier is written last."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from seepage import __version__
from seepage.audit.config import EVERY
from seepage.audit.run import environment
from seepage.core.errors import ConfigError, SeepageError, StoreError
from seepage.core.frontier import Cost, Frontier, Row, SweepRun
from seepage.core.progress import Listener, Progress
from seepage.core.record import Tool
from seepage.store.files import RunFolder, digest, read_json, write_json
from seepage.sweep.advice import advise, chosen, main_measure, rules
from seepage.sweep.costs import TrainedCost, at_the_start, cost_of
from seepage.sweep.executors import executor
from seepage.sweep.grid import Grid, Point, defense_labels, grid_of_file
from seepage.sweep.tasks import Task, setting_of

PREFIX = "sweep-"
Results = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Call:
    """How a sweep is carried out: where to, and what may be used again."""

    out: Path
    trust_pickle: bool = False
    fresh: bool = False
    processes: int = 0


def sweep_file(
    file: Path | str,
    settings: Sequence[str] = (),
    *,
    out: Path | None = None,
    trust_pickle: bool = False,
    fresh: bool = False,
    processes: int | None = None,
    progress: Listener | None = None,
) -> tuple[Frontier, Path]:
    """Carry out the sweep that a TOML file describes, taking up an unfinished one.

    Args:
        file: an audit file with `[sweep]`.
        settings: changes to it, as "a.b=c".
        out: folder of the runs, instead of the file's; the sweep gets a folder of its own in it.
        trust_pickle: whether pickled models may be loaded; a pickle runs code.
        fresh: take up no unfinished sweep, use no earlier finding or training.
        processes: worker processes, instead of the file's; the frontier does not depend on it.
        progress: called with progress.

    Returns:
        The frontier, and its folder.

    Raises:
        SeepageError: for what cannot be used. A point that fails is a row, not an error.
    """
    begun, started = time.monotonic(), datetime.now(UTC)
    grid = grid_of_file(Path(file), settings)
    count = grid.config.run.processes if processes is None else processes
    call = Call(out or Path(grid.config.run.out), trust_pickle, fresh, count or os.cpu_count() or 1)
    audits, trainings = audits_of(grid, call), trainings_of(grid, call)
    check_playable(audits)
    key = key_of(grid, audits, trainings)
    folder = _folder(call, key)
    with folder.locked():
        write_json(folder.path / "sweep.json", {"key": key, "config": grid.content, "tasks": [t.title for t in audits]})
        folder.log("started", version=__version__)
        bench = _Bench(folder, call, progress, [*audits, *trainings])
        results = bench.do([*audits, *trainings])
        rows = _rows(grid, call, audits, results)
        again = bench.do(confirmations(grid, call, rows)) if grid.table.confirm else {}
        found = _frontier(grid, folder, rows, _confirmed(again), started, time.monotonic() - begun, call, bench.reused)
        write_json(folder.path / "frontier.json", found.model_dump(mode="json"))
        folder.log("finished")
    return found, folder.path


def key_of(grid: Grid, audits: Sequence[Task], trainings: Sequence[Task]) -> str:
    """Hash of what a sweep will do, and of the records and code it will do it with."""
    return digest([__version__, [task.key for task in [*audits, *trainings]], grid.table.confirm, _inputs(audits)])


def _inputs(audits: Sequence[Task]) -> list[Any]:
    """What tells the input of every audit from others; of one that cannot be, why."""
    found: list[Any] = []
    for task in audits:
        try:
            found.append(setting_of(task).identity)
        except SeepageError as error:
            found.append(str(error))
    return found


def audits_of(grid: Grid, call: Call) -> list[Task]:
    """One audit a setting."""
    labels = tuple(defense_labels(grid.arms))
    return [_audit(point.name, point.label, point, point.content, labels, grid, call) for point in grid.points]


def _audit(
    name: str, title: str, point: Point, content: dict[str, Any], labels: tuple[str, ...], grid: Grid, call: Call
) -> Task:
    told = {"setting": point.setting, "label": point.label, "seed": content.get("seed", 0)}
    plain = {key: value for key, value in content.items() if key != "run"}
    plain["title"] = f"{content.get('title') or 'A sweep'}: {title}"
    return Task(
        "audit",
        name,
        title,
        plain,
        str(grid.base),
        str(call.out),
        call.trust_pickle,
        call.fresh,
        labels=labels,
        told=told,
        weight=float(len(labels)),
    )


def trainings_of(grid: Grid, call: Call) -> list[Task]:
    """One training a choice and defense: points that differ in conditions alone share theirs."""
    if not grid.table.training.rounds:
        return []
    found: dict[str, Task] = {}
    labels = defense_labels(grid.arms)
    own = [axis for axis in grid.axes if axis.role == "choice"]
    for point in grid.points:
        where = ", ".join(f"{axis.title} = {point.setting[axis.key]}" for axis in own) or "as written"
        for number, label in enumerate(labels):
            content = _training_content(grid, point, number)
            task = Task(
                "training",
                "",
                f"training, {where}, defense {label}",
                content,
                str(grid.base),
                str(call.out),
                call.trust_pickle,
                call.fresh,
                training=grid.table.training.model_dump(mode="json"),
                weight=0.5,
            )
            found.setdefault(_training_name(content), replace(task, name=_training_name(content)))
    return list(found.values())


def _training_content(grid: Grid, point: Point, number: int) -> dict[str, Any]:
    conditions = [axis.key for axis in grid.axes if axis.role == "condition"]
    plain = at_the_start({k: v for k, v in point.content.items() if k != "run"}, conditions)
    tables = plain.get("defense", [])
    return {**plain, "defense": [] if number == 0 else [tables[number - 1]]}


def _training_name(content: Mapping[str, Any]) -> str:
    return f"training-{digest(content)[:16]}"


def confirmations(grid: Grid, call: Call, rows: Sequence[Row]) -> list[Task]:
    """The recommended choice audited again under every condition with other clients: its figures chose it."""
    best = chosen(rows, grid.axes, tolerance_of(grid)[0])
    if best is None:
        return []
    names = {row.id.rpartition("-")[0]: int(row.id.rpartition("-")[2]) for row in best.rows}
    labels = defense_labels(grid.arms)
    seeds = [int(point.content.get("seed", 0)) for point in grid.points]
    found: list[Task] = []
    for point in grid.points:
        if point.name not in names:
            continue
        number = names[point.name]
        content = dict(point.content)
        tables = content.get("defense", [])
        content["defense"] = [] if number == 0 else [tables[number - 1]]
        content["seed"] = int(content.get("seed", 0)) + max(seeds) - min(seeds) + 1
        own = ("none",) if number == 0 else ("none", labels[number])
        found.append(_audit(f"again-{point.name}", f"again, {point.label}", point, content, own, grid, call))
    return found


def _confirmed(results: Results) -> list[Row]:
    """Of every confirming audit the arm that was recommended: the last one."""
    return [Row.model_validate(result["rows"][-1]) for result in results.values()]


def check_playable(audits: Sequence[Task]) -> None:
    """Nothing, unless no point can be audited, or an attack that was named can be played at none.

    The fault is then the file's, and is told before anything runs.

    Raises:
        SeepageError: what is wrong with the first point.
    """
    faults: list[Exception] = []
    reasons: dict[str, str] = {}
    played: set[str] = set()
    for task in audits:
        named = {table["name"] for table in task.content.get("attack", [])} - set(EVERY)
        try:
            plan = setting_of(task).plan()
        except Exception as error:  # noqa: BLE001 - raised below, where it is the fault of all points
            faults.append(error)
            continue
        played |= {cell.attack.name for cell in plan.cells}
        reasons |= {left.attack: left.reason for left in plan.left_out if not left.defenses}
        if played and named <= played:
            return
    if len(faults) == len(audits):
        raise faults[0]
    lost = sorted(name for name in reasons if name not in played)
    told = "; ".join(f"{name}: {reasons[name]}" for name in lost)
    raise ConfigError(f"at no point of the sweep can be played: {told or 'any attack'}")


def unfinished(call: Call, key: str) -> Path | None:
    """The latest sweep of the same tasks that has no frontier yet."""
    if not call.out.is_dir():
        return None
    for path in sorted(call.out.glob(f"{PREFIX}*-{key[:8]}*"), reverse=True):
        if (path / "frontier.json").exists() or not (path / "sweep.json").is_file():
            continue
        try:
            if read_json(path / "sweep.json").get("key") == key:
                return path
        except StoreError:
            continue
    return None


def _folder(call: Call, key: str) -> RunFolder:
    """An unfinished sweep of the same tasks, or a new folder."""
    found = None if call.fresh else unfinished(call, key)
    if found is not None:
        return RunFolder(found)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    for attempt in range(1000):
        path = call.out / (f"{PREFIX}{stamp}-{key[:8]}" + (f"-{attempt + 1}" if attempt else ""))
        if not path.exists():
            write_json(path / "sweep.json", {"key": key})
            return RunFolder(path)
    raise StoreError(f"cannot make a folder for the sweep in {call.out}: a thousand of this second exist already")


class _Bench:
    """Does tasks that are not in the folder yet, writing each result as it comes, and tells how far it is."""

    def __init__(self, folder: RunFolder, call: Call, listener: Listener | None, tasks: Sequence[Task]):
        self._folder, self._call, self._listener = folder, call, listener
        self._weights = {task.name: task.weight for task in tasks}
        self._done: dict[str, float] = {}
        self._begun = time.monotonic()
        self._earlier = 0.0
        self.reused = 0

    def do(self, tasks: Sequence[Task]) -> Results:
        """Results by task name, in the order of the tasks."""
        self._weights |= {task.name: task.weight for task in tasks}
        there = {task.name: found for task in tasks if (found := self._there(task)) is not None}
        for task in tasks:
            if task.name in there:
                self.reused += 1
                self._earlier += task.weight
                self._tell(task, "cached", 1.0)
        todo = [task for task in tasks if task.name not in there]
        results: Results = dict(there)
        if todo:
            with executor(min(self._call.processes, len(todo))) as run:
                run(
                    todo,
                    lambda task: self._tell(task, "started", 0.0),
                    lambda task, share: self._tell(task, "moving", share),
                    lambda task, result: results.update({task.name: self._ended(task, result)}),
                )
        return {task.name: results[task.name] for task in tasks}

    def _path(self, task: Task) -> Path:
        return self._folder.path / "points" / f"{task.name}.json"

    def _there(self, task: Task) -> dict[str, Any] | None:
        """The result of a task that ended well in an interrupted call."""
        path = self._path(task)
        if not path.is_file():
            return None
        try:
            found = read_json(path)
        except StoreError:
            return None
        whole = found.get("key") == task.key and "missing" not in found["result"]
        return found["result"] if whole and not _failures(found["result"]) else None

    def _ended(self, task: Task, result: dict[str, Any]) -> dict[str, Any]:
        write_json(self._path(task), {"key": task.key, "title": task.title, "result": result})
        failures = _failures(result)
        self._folder.log("failed_task" if failures else "done", task=task.name)
        self._tell(task, "failed" if failures else "done", 1.0, failures[0] if failures else "")
        return result

    def _tell(self, task: Task, state: str, share: float, message: str = "") -> None:
        self._done[task.name] = share
        if self._listener is None:
            return
        whole = sum(self._weights.values())
        done = sum(self._weights[name] * share for name, share in self._done.items())
        own = done - self._earlier
        spent = time.monotonic() - self._begun
        eta = None if own <= 0 else spent * (whole - done) / own
        step = Progress(task.title, state, share, min(done / whole, 1.0), eta, message)  # pyright: ignore[reportArgumentType]
        self._listener(step)


def _failures(result: Mapping[str, Any]) -> list[str]:
    if "missing" in result:
        return [str(result["missing"])]
    rows = result.get("rows", [])
    whole = [str(row["error"]["message"]) for row in rows if row["error"]]
    return whole + [str(why) for row in rows for why in row["failed"].values()]


def _rows(grid: Grid, call: Call, audits: Sequence[Task], results: Results) -> list[Row]:
    """The rows of all points with their costs, in the order of the grid."""
    found: list[Row] = []
    training = grid.table.training
    for point, task in zip(grid.points, audits, strict=True):
        costs = [_trained(grid, point, number, results) for number in range(len(grid.arms))]
        federated = point.config.federated
        clients = training.clients or (8 if federated is None else federated.clients)
        for number, told in enumerate(results[task.name]["rows"]):
            facts = results[task.name]["facts"][number]
            cost: Cost = cost_of(costs[number], costs[0], facts, training, clients)
            found.append(Row.model_validate({**told, "cost": cost.model_dump()}))
    return found


def _trained(grid: Grid, point: Point, number: int, results: Results) -> TrainedCost | str:
    result = results.get(_training_name(_training_content(grid, point, number)))
    if result is None:
        return "no federation was trained: [sweep.training] rounds = 0"
    return TrainedCost.model_validate(result["cost"]) if "cost" in result else str(result["missing"])


def tolerance_of(grid: Grid) -> tuple[float, str]:
    """The leakage that a recommended setting stays within, and where it was set."""
    for leak, threshold in grid.config.gate.items():
        if str(leak) == "gradient":
            return threshold, "[gate] gradient"
    return grid.config.verdict.tolerance, "[verdict] tolerance"


def _frontier(
    grid: Grid,
    folder: RunFolder,
    rows: Sequence[Row],
    again: Sequence[Row],
    started: datetime,
    seconds: float,
    call: Call,
    reused: int,
) -> Frontier:
    tolerance, source = tolerance_of(grid)
    return Frontier(
        tool=Tool(version=__version__),
        title=grid.config.title or "The safe region of a federation",
        run=SweepRun(
            id=folder.id,
            started=started.isoformat(timespec="seconds"),
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=round(seconds, 2),
            processes=call.processes,
            reused=reused,
        ),
        environment=environment(),
        axes=list(grid.axes),
        measure=main_measure(rows),
        tolerance=tolerance,
        tolerance_from=source,
        rows=list(rows),
        confirmation=list(again),
        advice=advise(rows, again, grid.axes, tolerance),
        rules=rules(tolerance, source),
        config=grid.content,
    )
