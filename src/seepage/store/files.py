"""Runs on disk. Files are the truth.

One folder a run, every file written under another name and then renamed, so that a run killed at
any point holds whole files only.

    runs/<utc>-<short key>/
      audit.toml  plan.json     as written, as resolved
      findings/<cell>.json      one each, written when its cell ends
      arrays/<cell>.npz         guesses and curves; mode 0600
      record.json               last
      log.jsonl
"""

import errno
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from pydantic import ValidationError

from seepage.core.errors import StoreError
from seepage.core.record import SCHEMA_VERSION, AuditRecord, Finding

PRIVATE = 0o600
PUBLIC = 0o644


def canonical(value: Any) -> str:
    """One text for one JSON value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=str)


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON of `value`, as hex."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


@contextmanager
def _explained(path: Path, doing: str) -> Generator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            what = "the disk is full; free some space and run the same command again: finished attacks are kept"
        elif error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            what = "the folder cannot be written to; choose another with --out (or out=)"
        elif error.errno in (errno.ENOTDIR, errno.EEXIST):
            what = "a file stands where a folder is needed; choose another place with --out (or out=)"
        else:
            what = error.strerror or str(error)
        raise StoreError(f"{doing} {path}: {what}") from error


def write_bytes(path: Path, content: bytes, mode: int = PUBLIC) -> None:
    """Write a whole file or none: under another name first, then renamed over `path`.

    Raises:
        StoreError: when the disk is full or the folder cannot be written to.
    """
    with _explained(path, "cannot write"):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, mode)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON; NaN is an error, never written."""
    write_bytes(path, (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays as `.npz`, readable by the owner alone."""
    buffer = io.BytesIO()
    for name, array in arrays.items():
        if np.asarray(array).dtype.hasobject:
            raise TypeError(f"the array '{name}' holds Python objects, which only a pickle could store")
    np.savez_compressed(buffer, **dict(arrays))  # pyright: ignore[reportArgumentType] - names are no options here
    write_bytes(path, buffer.getvalue(), PRIVATE)


def read_json(path: Path) -> Any:
    """The JSON in `path`.

    Raises:
        StoreError: when it is missing or damaged.
    """
    with _explained(path, "cannot read"):
        content = path.read_bytes()
    try:
        return json.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise StoreError(f"{path} is damaged (text was wanted, got other bytes): restore it or run again") from error
    except json.JSONDecodeError as error:
        raise StoreError(f"{path} is damaged (not JSON at line {error.lineno}): restore it or run again") from error


class RunFolder:
    """One run on disk.

    Use `create` for a new one and `unfinished` to take one up again; `locked` holds it against a
    second audit of the same run.
    """

    def __init__(self, path: Path):
        self.path = path

    @property
    def id(self) -> str:
        return self.path.name

    @classmethod
    def create(cls, out: Path, key: str) -> "RunFolder":
        """A new run folder under `out`, named by the time and the first eight characters of `key`."""
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        with _explained(out, "cannot make a run folder in"):
            out.mkdir(parents=True, exist_ok=True)
            for attempt in range(1000):
                path = out / (f"{stamp}-{key[:8]}" + (f"-{attempt + 1}" if attempt else ""))
                try:
                    path.mkdir()
                    break
                except FileExistsError:
                    continue
            else:
                raise StoreError(f"cannot make a run folder in {out}: a thousand of this second exist already")
            for part in ("findings", "arrays"):
                (path / part).mkdir()
        return cls(path)

    @classmethod
    def unfinished(cls, out: Path, key: str) -> "RunFolder | None":
        """The latest run under `out` with this key that has no record yet."""
        if not out.is_dir():
            return None
        for path in sorted(out.glob(f"*-{key[:8]}*"), reverse=True):
            plan = path / "plan.json"
            if path.is_dir() and plan.is_file() and not (path / "record.json").exists():
                try:
                    if read_json(plan).get("key") == key:
                        return cls(path)
                except StoreError:
                    continue
        return None

    @contextmanager
    def locked(self) -> Generator[None]:
        """Hold the run; the operating system lets go of it when the process dies, however it dies.

        Raises:
            StoreError: when another process holds it.
        """
        lock = FileLock(str(self.path / ".lock"))
        with _explained(self.path, "cannot lock"):
            try:
                lock.acquire(timeout=0)
            except Timeout as error:
                raise StoreError(
                    f"another audit is writing {self.path}; wait for it to end, or choose another folder with --out"
                ) from error
        try:
            yield
        finally:
            lock.release()

    def log(self, event: str, **facts: Any) -> None:
        """Append one event to `log.jsonl`."""
        line = canonical({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **facts})
        path = self.path / "log.jsonl"
        with _explained(path, "cannot write"), path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def events(self, event: str) -> int:
        """How often an event was logged."""
        path = self.path / "log.jsonl"
        if not path.is_file():
            return 0
        return sum(f'"event":"{event}"' in line for line in path.read_text(encoding="utf-8").splitlines())

    def finding_path(self, cell: str) -> Path:
        return self.path / "findings" / f"{cell}.json"

    def arrays_path(self, name: str) -> Path:
        return self.path / "arrays" / f"{name}.npz"

    def read_finding(self, cell: str, key: str) -> Finding | None:
        """The finding of a cell that ended with this key, or None."""
        path = self.finding_path(cell)
        if not path.is_file():
            return None
        found = parse_finding(path)
        return found if found.key == key else None

    def write_finding(self, finding: Finding, arrays: Mapping[str, Mapping[str, np.ndarray]]) -> None:
        """Write a finding's arrays, then the finding: once it is there, all it names is there."""
        for name, content in arrays.items():
            write_arrays(self.arrays_path(name), content)
        write_json(self.finding_path(finding.id), finding.model_dump(mode="json"))

    def adopt(self, finding: Finding, source: "RunFolder") -> Finding:
        """Copy a finding of an earlier run, arrays included."""
        for artifact in finding.artifacts:
            origin = source.path / artifact.path
            with _explained(origin, "cannot read"):
                content = origin.read_bytes()
            write_bytes(self.path / artifact.path, content, PRIVATE)
        write_json(self.finding_path(finding.id), finding.model_dump(mode="json"))
        return finding

    def write_record(self, record: AuditRecord) -> None:
        """Write the record: last, so that a folder with a record is a finished run."""
        write_json(self.path / "record.json", record.model_dump(mode="json"))


def parse_finding(path: Path) -> Finding:
    """The finding in a file.

    Raises:
        StoreError: when it is damaged.
    """
    try:
        return Finding.model_validate(read_json(path))
    except ValidationError as error:
        raise StoreError(f"{path} is damaged ({error.error_count()} fields): delete it and run again") from error


def read_record(path: Path) -> AuditRecord:
    """The record of a run folder, or of a `record.json`.

    Raises:
        StoreError: when there is none, it is damaged, or it was written by a newer Seepage.
    """
    file = path / "record.json" if path.is_dir() else path
    if not file.is_file():
        if path.is_dir() and (path / "plan.json").is_file():
            raise StoreError(f"{path} is not finished: run its audit again to go on where it stood")
        raise StoreError(f"no record at {file}: `seepage runs` lists the runs there are")
    content = read_json(file)
    version = str(content.get("schema_version", "")) if isinstance(content, dict) else ""
    if version.split(".")[0] != SCHEMA_VERSION.split(".")[0]:
        raise StoreError(
            f"{file} has schema version '{version}', this Seepage reads {SCHEMA_VERSION}: "
            "update Seepage, or run the audit again"
        )
    try:
        return AuditRecord.model_validate(content).in_folder(str(file.parent))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise StoreError(f"{file} is damaged at {place}: {first['msg']}") from error


def find_run(name: str, out: Path) -> Path:
    """The run folder that `name` means: a path, a run's id, the start of one, or "latest".

    Raises:
        StoreError: when there is none, or several.
    """
    if name != "latest" and Path(name).exists():
        return Path(name)
    found = sorted(path for path in out.glob("*") if (path / "plan.json").is_file()) if out.is_dir() else []
    if name == "latest":
        finished = [path for path in found if (path / "record.json").is_file()]
        if not finished:
            raise StoreError(f"no finished run in {out}: run `seepage audit FILE` first")
        return finished[-1]
    matching = [path for path in found if path.name.startswith(name) or path.name.endswith(name)]
    if len(matching) == 1:
        return matching[0]
    if matching:
        raise StoreError(f"'{name}' means {len(matching)} runs in {out}: " + ", ".join(p.name for p in matching[:5]))
    raise StoreError(f"no run '{name}' in {out}: `seepage runs --out {out}` lists the runs there are")
