"""The options of `[victim]`: paths beside the audit file, and what tells one victim's from another's."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seepage.audit.config import AuditConfig
from seepage.audit.records import beside
from seepage.audit.training import source_digest
from seepage.core.records import Splits
from seepage.core.registry import load
from seepage.core.vocabulary import Task
from seepage.targets.encoder import folder_digest

# Options of [victim] that name files, beside the audit file.
_FILES = ("weights", "path", "update", "before", "after", "recording")


def victim_options(config: AuditConfig, base: Path) -> dict[str, Any]:
    """The options, paths of files starting from `base`."""
    options = dict(config.victim.options)
    for name in _FILES:
        if isinstance(options.get(name), str):
            options[name] = str(beside(options[name], base))
    return options


def classes_like(kind: str, options: Mapping[str, Any], splits: Splits) -> dict[str, Any]:
    """How many classes a victim has that cannot be asked before it is used: as many as the members."""
    if splits.members.task is not Task.CLASSES:
        return {}
    if kind in ("http", "callable") and "classes" not in options and "class_names" not in options:
        return {"classes": len(splits.members.class_names)}
    return {}


def fingerprints(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, with files told apart by their content and code by its source."""
    found = dict(options)
    for name in _FILES:
        if isinstance(options.get(name), str) and Path(options[name]).is_file():
            found[name] = hashlib.sha256(Path(options[name]).read_bytes()).hexdigest()
        elif name == "path" and isinstance(options.get(name), str) and Path(options[name]).is_dir():
            found[name] = folder_digest(Path(options[name]))
    for name in ("build", "fn"):
        if isinstance(options.get(name), str):
            found[name] = [options[name], source_digest(load(options[name]))]
    return json.loads(json.dumps(found, default=str))


def where_from(options: Mapping[str, Any]) -> str:
    """What a victim without a name is called."""
    for name in ("weights", "path", "url", "fn", "build", "update", "after", "recording"):
        if isinstance(options.get(name), str):
            place = options[name]
            return place if name in ("url", "fn", "build") else Path(place).name
    return "the victim"
