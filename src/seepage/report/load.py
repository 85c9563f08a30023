"""Records and their arrays, read back from disk. Nothing here runs code from a file."""

import json
import logging
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from seepage.core.errors import StoreError
from seepage.core.record import SCHEMA_VERSION, Artifact, AuditRecord
from seepage.store.files import read_record

Array = np.ndarray

log = logging.getLogger(__name__)


def load_record(path: Path | str) -> AuditRecord:
    """The record of a run.

    Args:
        path: a run folder, or a `record.json`.

    Raises:
        StoreError: when there is none, when it is cut off or no record, or when a newer version made it.
    """
    path = Path(path)
    file = path / "record.json" if path.is_dir() else path
    try:
        return read_record(path)
    except (UnicodeDecodeError, RecursionError) as error:
        raise StoreError(f"{file} is damaged (text was wanted, got other bytes): restore it or run again") from error
    except StoreError as error:
        # A newer version may have added a field: say so, rather than that the field is a fault.
        version = _version(file)
        if version is not None and version > (_numbers(SCHEMA_VERSION) or ()):
            newer = ".".join(map(str, version))
            raise StoreError(
                f"{file} has schema version {newer}, newer than {SCHEMA_VERSION}, the newest this Seepage reads: "
                "update Seepage, or run the audit again"
            ) from error
        raise


def _version(file: Path) -> tuple[int, ...] | None:
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return _numbers(str(content.get("schema_version", ""))) if isinstance(content, dict) else None


def _numbers(version: str) -> tuple[int, ...] | None:
    parts = version.split(".")
    return tuple(int(part) for part in parts) if all(part.isdecimal() for part in parts) else None


def load_arrays(run: Path | str, artifact: Artifact, only: frozenset[str] | None = None) -> dict[str, Array]:
    """The arrays of one artifact, by name.

    Args:
        run: the run folder.
        artifact: which file; its path is relative to `run`.
        only: names to read when not all are wanted; names starting with `trace_` are read in any case.

    Raises:
        StoreError: when the path leads out of the run folder, or the file is missing, damaged or holds objects.
    """
    run = Path(run)
    asked = PurePosixPath(artifact.path.replace("\\", "/"))
    if asked.is_absolute() or ".." in asked.parts or not (run / asked).resolve().is_relative_to(run.resolve()):
        raise StoreError(f"the record names arrays outside its run folder ('{artifact.path}'); they are not read")
    try:
        # Opened here, because numpy leaves the file open when it turns out not to be an archive.
        with (run / asked).open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            names = [name for name in archive.files if only is None or name in only or name.startswith("trace_")]
            return {name: np.asarray(archive[name]) for name in names}
    except FileNotFoundError as error:
        raise StoreError(f"the arrays '{artifact.path}' are not beside the record") from error
    except (OSError, ValueError, EOFError, KeyError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        # AttributeError: a bare .npy where an archive was wanted has no `files`.
        raise StoreError(f"the arrays '{artifact.path}' cannot be read ({error}): run the audit again") from error


def load_all(run: Path | str, record: AuditRecord, show_records: bool) -> tuple[dict[str, dict[str, Array]], list[str]]:
    """The arrays of every finding by its id, and a sentence for each file that could not be read.

    A record may be passed on without its arrays, so a missing file is said in the report and is no error.
    Of a private file only traces and class names are read, the latter so that they can be hidden, unless
    records are shown.
    """
    arrays: dict[str, dict[str, Array]] = {}
    problems: list[str] = []
    for finding in record.findings:
        for artifact in finding.artifacts:
            only = frozenset({"class_names"}) if artifact.private and not show_records else None
            try:
                arrays.setdefault(finding.id, {}).update(load_arrays(run, artifact, only))
            except StoreError as error:
                log.warning("%s", error)
                problems.append(f"{finding.title}: {error}")
    return arrays, problems
