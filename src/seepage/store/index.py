"""An index over runs: which runs there are, and which findings can be used again.

SQLite beside the runs by default, another database by URL. It holds nothing that is not in the
files: `rebuild` makes it anew.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import (
    Boolean,
    Column,
    Engine,
    Float,
    MetaData,
    String,
    Table,
    create_engine,
    delete,
    insert,
    select,
)
from sqlalchemy.exc import SQLAlchemyError

from seepage.core.errors import StoreError
from seepage.core.record import AuditRecord
from seepage.store.files import read_record

log = logging.getLogger(__name__)

_schema = MetaData()
_runs = Table(
    "runs",
    _schema,
    Column("id", String, primary_key=True),
    Column("folder", String, nullable=False),
    Column("title", String, nullable=False),
    Column("started", String, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("victim", String, nullable=False),
    Column("verdicts", String, nullable=False),
)
_findings = Table(
    "findings",
    _schema,
    Column("run", String, primary_key=True),
    Column("id", String, primary_key=True),
    Column("key", String, index=True, nullable=False),
    Column("leak", String, nullable=False),
    Column("attack", String, nullable=False),
    Column("status", String, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("queries", Float, nullable=False),
    Column("leakage", Float),
    Column("reusable", Boolean, nullable=False),
)


@dataclass(frozen=True)
class RunRow:
    """One finished run, as `seepage runs` lists it."""

    id: str
    folder: str
    title: str
    started: str
    seconds: float
    victim: str
    verdicts: str


@dataclass(frozen=True)
class Known:
    """A finding of an earlier run: where it lies and how long it took."""

    run: str
    id: str
    seconds: float
    queries: float


class Index:
    """The index over the runs below `out`. Errors of the database become `StoreError` on leaving it.

    Args:
        out: the folder of the runs.
        url: a SQLAlchemy database URL; without one, `index.sqlite` in `out`.
    """

    def __init__(self, out: Path, url: str | None = None):
        self.out = out
        self._engine: Engine = create_engine(url or f"sqlite:///{out / 'index.sqlite'}")

    def __enter__(self) -> "Index":
        try:
            _schema.create_all(self._engine)
        except SQLAlchemyError as error:
            self._engine.dispose()
            raise StoreError(f"cannot open the index of {self.out}: {error.__cause__ or error}") from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self._engine.dispose()
        if isinstance(error, SQLAlchemyError):
            raise StoreError(
                f"the index of {self.out} cannot be used ({error.__cause__ or error}): delete it, and "
                "`seepage runs --rebuild` makes it anew from the runs"
            ) from error

    def add(self, record: AuditRecord, folder: str, reusable: bool) -> None:
        """Add or replace a finished run."""
        run = record.run
        with self._engine.begin() as db:
            db.execute(delete(_runs).where(_runs.c.id == run.id))
            db.execute(delete(_findings).where(_findings.c.run == run.id))
            db.execute(
                insert(_runs).values(
                    id=run.id,
                    folder=folder,
                    title=record.title,
                    started=run.started,
                    seconds=run.seconds,
                    victim=str(record.victim.get("name", "")),
                    verdicts=", ".join(f"{leak}: {v.verdict}" for leak, v in record.verdicts.items()),
                )
            )
            rows = [
                {
                    "run": run.id,
                    "id": finding.id,
                    "key": finding.key,
                    "leak": str(finding.leak),
                    "attack": finding.attack,
                    "status": finding.status,
                    "seconds": finding.seconds,
                    "queries": float(finding.queries + finding.control_queries),
                    "leakage": finding.score.leakage.value
                    if finding.score is not None and finding.score.leakage is not None
                    else None,
                    "reusable": reusable and finding.status == "done",
                }
                for finding in record.findings
            ]
            if rows:
                db.execute(insert(_findings), rows)

    def runs(self) -> list[RunRow]:
        """All finished runs, latest first."""
        with self._engine.connect() as db:
            rows = db.execute(select(_runs).order_by(_runs.c.started.desc())).all()
        return [RunRow(**row._mapping) for row in rows]  # pyright: ignore[reportPrivateUsage]

    def known(self, key: str) -> Known | None:
        """The latest finding with this key that may be used again, or None."""
        query = (
            select(_findings.c.run, _findings.c.id, _findings.c.seconds, _findings.c.queries)
            .where(_findings.c.key == key, _findings.c.reusable.is_(True))
            .order_by(_findings.c.run.desc())
        )
        with self._engine.connect() as db:
            rows = db.execute(query).all()
        for run, name, seconds, queries in rows:
            if (self.out / run / "findings" / f"{name}.json").is_file():
                return Known(run, name, seconds, queries)
        return None

    def pace(self, attack: str) -> float | None:
        """Seconds a query took in earlier runs of this attack (median), or None."""
        query = select(_findings.c.seconds, _findings.c.queries).where(
            _findings.c.attack == attack, _findings.c.status == "done", _findings.c.queries > 0
        )
        with self._engine.connect() as db:
            paces = sorted(seconds / queries for seconds, queries in db.execute(query).all())
        return paces[len(paces) // 2] if paces else None

    def rebuild(self) -> int:
        """Forget everything and read the run folders again; returns how many runs were found."""
        with self._engine.begin() as db:
            db.execute(delete(_findings))
            db.execute(delete(_runs))
        found = 0
        for path in sorted(self.out.glob("*/record.json")):
            try:
                record = read_record(path)
            except StoreError as error:
                log.warning("left out of the index: %s", error)
                continue
            self.add(record, str(path.parent), reusable=record.victim.get("fingerprint") is not None)
            found += 1
        return found
