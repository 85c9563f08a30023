"""The pieces of a sweep: one audit a setting, one training a setting and defense. Plain values in, plain values out.

Every piece can be done in any process and in any order, and gives the same.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from seepage.audit.api import import_from
from seepage.audit.config import make_defense, parse
from seepage.audit.plan import Arm
from seepage.audit.run import execute
from seepage.audit.setting import Setting, from_config
from seepage.audit.tables import DefenseTable, SweepTraining
from seepage.audit.workers import one_thread
from seepage.core.errors import SeepageError, StoreError
from seepage.core.frontier import Row
from seepage.core.progress import Progress
from seepage.core.record import AuditRecord
from seepage.store.files import digest
from seepage.store.where import index_url
from seepage.sweep.costs import trained_cost
from seepage.sweep.rows import facts_of, failed_row, rows_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """One piece of work, told in plain values.

    Attributes:
        kind: "audit" or "training".
        name: unique in the sweep; names the file of its result.
        title: for people.
        content: the audit file.
        base: folder that relative paths in it start from.
        out: folder of the runs.
        labels: what the arms are called; for "audit".
        told: what every row of an audit says (setting, label, seed).
        training: `[sweep.training]`; for "training".
        weight: how long it may take, beside others.
    """

    kind: str
    name: str
    title: str
    content: dict[str, Any]
    base: str
    out: str
    trust_pickle: bool = False
    fresh: bool = False
    labels: tuple[str, ...] = ()
    told: dict[str, Any] | None = None
    training: dict[str, Any] | None = None
    weight: float = 1.0

    @property
    def key(self) -> str:
        """Hash of what decides the result, as far as it can be told without reading the records."""
        return digest([self.kind, self.content, self.labels, self.told, self.training])


def perform(task: Task, listener: Callable[[Progress], None] | None = None) -> dict[str, Any]:
    """Do a task, and give its result as JSON values.

    What goes wrong with one setting is told in its result. A folder that cannot be written to is raised: it would stop
    all the others too.

    Raises:
        StoreError: see above.
    """
    one_thread()
    import_from(Path(task.base))
    return _audit(task, listener) if task.kind == "audit" else _training(task)


def setting_of(task: Task, content: dict[str, Any] | None = None) -> Setting:
    """The setting of a task's audit.

    An attack that cannot be played at one point is left out there with its reason, though it was named: what can be
    played changes with the very keys that are varied.
    """
    whole = task.content if content is None else content
    setting = from_config(
        parse(whole, task.title),
        whole,
        base=Path(task.base),
        out=Path(task.out),
        trust_pickle=task.trust_pickle,
        index_url=index_url(),
    )
    wanted = [replace(want, auto=True) for want in setting.wanted]
    return replace(setting, processes=1, wanted=wanted)


def arms_of(content: dict[str, Any]) -> list[Arm]:
    """The bare victim, then one arm a defense of the file."""
    tables = [DefenseTable.model_validate(table) for table in content.get("defense", [])]
    return [Arm(), *(Arm(make_defense(table), table.aware) for table in tables)]


def _audit(task: Task, listener: Callable[[Progress], None] | None) -> dict[str, Any]:
    arms = arms_of(task.content)
    told = {**(task.told or {}), "id": task.name}
    try:
        record = _executed(task, task.content, listener)
    except SeepageError as error:
        if len(arms) == 1 or isinstance(error, StoreError):
            return _failed(task, arms, told, error)
        log.info("%s: %s; each defense is now tried by itself", task.title, error)
        return _one_by_one(task, arms, told, listener)
    except Exception as error:
        log.exception("%s failed", task.title)
        return _failed(task, arms, told, error)
    tolerance = record.config.as_resolved["verdict"]["tolerance"]
    rows = rows_of(record, arms, task.labels, {**told, "run": record.run.id}, tolerance)
    return {"rows": _plain(rows), "facts": [facts_of(record, arm) for arm in arms]}


def _executed(task: Task, content: dict[str, Any], listener: Callable[[Progress], None] | None) -> AuditRecord:
    return execute(setting_of(task, content), listener, task.fresh)


def _failed(task: Task, arms: Sequence[Arm], told: dict[str, Any], error: Exception) -> dict[str, Any]:
    if isinstance(error, StoreError):
        raise error
    rows = [
        failed_row(arm, label, k, told, error) for k, (arm, label) in enumerate(zip(arms, task.labels, strict=True))
    ]
    return {"rows": _plain(rows), "facts": [None for _ in arms]}


def _one_by_one(
    task: Task, arms: Sequence[Arm], told: dict[str, Any], listener: Callable[[Progress], None] | None
) -> dict[str, Any]:
    """The same audit with one defense at a time, so that one that cannot be played takes no other with it."""
    tables = task.content.get("defense", [])
    rows: list[Row] = []
    facts: list[Any] = []
    for number, arm in enumerate(arms):
        own = {**task.content, "defense": [] if number == 0 else [tables[number - 1]]}
        try:
            record = _executed(task, own, listener)
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - as above
            rows.append(failed_row(arm, task.labels[number], number, told, error))
            facts.append(None)
            continue
        tolerance = record.config.as_resolved["verdict"]["tolerance"]
        (row,) = rows_of(record, [arm], [task.labels[number]], {**told, "run": record.run.id}, tolerance)
        rows.append(row.model_copy(update={"id": f"{task.name}-{number}"}))
        facts.append(facts_of(record, arm))
    return {"rows": _plain(rows), "facts": facts}


def _plain(rows: Sequence[Row]) -> list[Any]:
    return [row.model_dump(mode="json") for row in rows]


def _training(task: Task) -> dict[str, Any]:
    training = SweepTraining.model_validate(task.training)
    try:
        arm = arms_of(task.content)[-1]
        found = trained_cost(setting_of(task), arm, training, task.fresh)
    except StoreError:
        raise
    except Exception as error:  # noqa: BLE001 - a federation that cannot be trained is told in the row
        shown = str(error) if isinstance(error, SeepageError) else f"{type(error).__name__}: {error}"
        return {"missing": shown}
    return {"cost": found.model_dump(mode="json")}
