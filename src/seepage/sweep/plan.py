"""What a sweep would do, said without doing it: records are read, nothing is made, trained or attacked."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from seepage.core.errors import SeepageError, StoreError
from seepage.core.frontier import Axis
from seepage.store.index import Index
from seepage.store.where import index_url
from seepage.sweep.grid import defense_labels, grid_of_file
from seepage.sweep.run import Call, audits_of, key_of, trainings_of, unfinished
from seepage.sweep.tasks import setting_of


@dataclass(frozen=True)
class PlannedAudit:
    """One setting.

    Attributes:
        label: the setting in words.
        cells: attacks times arms.
        cached: cells whose finding is there already.
        seconds: what the others will take, by the pace of earlier runs; None where that is not known.
        problem: why this setting cannot be audited.
    """

    label: str
    cells: int
    cached: int
    seconds: float | None
    problem: str | None = None


@dataclass(frozen=True)
class PlannedSweep:
    """All settings."""

    audits: tuple[PlannedAudit, ...]
    axes: tuple[Axis, ...]
    defenses: tuple[str, ...]
    rows: int
    trainings: int
    rounds: int
    confirm: bool
    unfinished: Path | None


def planned(
    file: Path, settings: Sequence[str] = (), *, out: Path | None = None, trust_pickle: bool = False
) -> PlannedSweep:
    """What `sweep_file` would do.

    Raises:
        ConfigError: for what cannot be used.
    """
    grid = grid_of_file(file, settings)
    call = Call(out or Path(grid.config.run.out), trust_pickle)
    audits, trainings = audits_of(grid, call), trainings_of(grid, call)
    found: list[PlannedAudit] = []
    for task in audits:
        try:
            plan = setting_of(task).plan()
        except SeepageError as error:
            found.append(PlannedAudit(task.title, 0, 0, None, f"cannot run: {error}"))
            continue
        known, seconds = _known(call.out, [(cell.key, cell.attack.name, cell.cost) for cell in plan.cells])
        found.append(PlannedAudit(task.title, len(plan.cells), known, seconds))
    return PlannedSweep(
        tuple(found),
        grid.axes,
        tuple(defense_labels(grid.arms)),
        grid.rows,
        len(trainings),
        grid.table.training.rounds,
        grid.table.confirm,
        unfinished(call, key_of(grid, audits, trainings)),
    )


def _known(out: Path, cells: Sequence[tuple[str, str, int]]) -> tuple[int, float | None]:
    """How many findings are there, and the seconds that the others will take."""
    url = index_url()
    if not (out / "index.sqlite").is_file() and url is None:
        return 0, None
    try:
        with Index(out, url) as index:
            todo = [(name, cost) for key, name, cost in cells if index.known(key) is None]
            paces = {name: index.pace(name) for name, _ in todo}
    except StoreError:
        return 0, None
    if any(pace is None for pace in paces.values()):
        return len(cells) - len(todo), None
    return len(cells) - len(todo), sum(cost * (paces[name] or 0.0) for name, cost in todo)
