"""A record that names nobody: what a report shows when records were not asked for by name.

Everything downstream renders the cleaned record, so no template can show what it was never given.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from seepage.core.record import AuditRecord
from seepage.report.words import noun_of

HIDDEN = "[hidden]"

# Fields that hold words of the tool's own vocabulary, never text about records.
_VOCABULARY = frozenset(
    {
        *("id", "key", "leak", "attack", "cites", "needs", "access", "status", "adversary", "verdict", "name"),
        *("headline", "unit", "method", "strongest_control", "artifacts", "schema_version", "tool", "run"),
        *("environment", "seed", "version"),
    }
)
# Tables whose keys are free text and may name a class as well.
_FREE = frozenset({"facts", "judge", "data", "victim", "params", "config"})
_CREDENTIAL = re.compile(
    r"(^|[_-])(token|secret|password|passwd|passphrase|credentials?|cookie)$|authorization|api[_-]?key", re.IGNORECASE
)
_USER_IN_URL = re.compile(r"(?<=://)[^/@\s]+@")


def identities(record: AuditRecord, class_names: Iterable[str] = ()) -> frozenset[str]:
    """Every name of a person, class or record that the record or its arrays are known to hold."""
    ids = {exposure.id for finding in record.findings for exposure in finding.exposed}
    return frozenset(name for name in ids | set(class_names) if name)


def shareable(record: AuditRecord, arrays: Mapping[str, Mapping[str, np.ndarray]], show_records: bool) -> AuditRecord:
    """The record as a report may show it: never with credentials, with names of members only when asked for.

    Args:
        record: what was found.
        arrays: finding id -> array name -> array; `class_names` among them are hidden as well.
        show_records: whether members may be named.
    """
    clean = without_credentials(record)
    if show_records:
        return clean
    return without_identities(clean, {str(name) for found in arrays.values() for name in found.get("class_names", ())})


def without_credentials(record: AuditRecord) -> AuditRecord:
    """The record with passwords, keys and tokens in its configuration hidden."""
    whole = record.model_dump(mode="json")
    whole["config"] = _masked(whole["config"])
    for finding in whole["findings"]:
        finding["params"] = _masked(finding["params"])
    return AuditRecord.model_validate(whole)


def without_identities(record: AuditRecord, class_names: Iterable[str] = ()) -> AuditRecord:
    """The record with members and classes numbered instead of named.

    An id becomes `<unit> #<k>`, the same one wherever it appears, numbered as the findings rank them. The
    evidence beside it goes, and ids within other texts become `[hidden]`. Ids that cannot be told from
    ordinary words or numbers (up to three digits, or two lower-case letters) stay within other texts.
    """
    names = sorted(filter(_telling, identities(record, class_names)), key=len, reverse=True)
    whole = record.model_dump(mode="json")
    numbers: dict[str, dict[str, int]] = {}
    for source, finding in zip(record.findings, whole["findings"], strict=True):
        unit = noun_of(record, source.score)
        known = numbers.setdefault(unit, {})
        for exposure in finding["exposed"]:
            k = known.setdefault(exposure["id"], len(known) + 1)
            exposure["id"], exposure["evidence"] = f"{unit} #{k}", ""
        _unnamed(finding["groups"], record.data.get("class_noun") == "person")
    exposed = [finding.pop("exposed") for finding in whole["findings"]]
    cleaned = _walked(whole, _hider(names), free=False)
    for finding, ranking in zip(cleaned["findings"], exposed, strict=True):
        finding["exposed"] = ranking
    return AuditRecord.model_validate(cleaned)


def _unnamed(groups: list[dict[str, Any]], people: bool) -> None:
    """Where a class is a person, groups by class are numbered, in the order of the classes."""
    for k, group in enumerate(group for group in groups if people and group["axis"] == "class"):
        group["name"] = f"person {k + 1}"


def _telling(name: str) -> bool:
    if name.isdecimal():
        return len(name) >= 4
    return len(name) >= 3 or not name.isascii() or not name.islower() or any(c.isdigit() for c in name)


def _hider(names: list[str]) -> Callable[[str], str]:
    def hide(text: str) -> str:
        for name in names:
            if name in text:
                text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", HIDDEN, text)
        return text

    return hide


def _walked(value: Any, change: Callable[[str], str], free: bool) -> Any:
    """`value` with every text changed; in `free` tables keys are text too, and no key is vocabulary."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_walked(item, change, free) for item in value]
    if not isinstance(value, dict):
        return value
    out: dict[str, Any] = {}
    for key, item in value.items():
        if not free and key in _VOCABULARY:
            out[key] = item
            continue
        name = change(key) if free else key
        while name in out:
            name += "'"
        out[name] = _walked(item, change, free or key in _FREE)
    return out


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return _USER_IN_URL.sub(f"{HIDDEN}@", value)
    if isinstance(value, list):
        return [_masked(item) for item in value]
    if isinstance(value, dict):
        return {
            key: HIDDEN if _CREDENTIAL.search(key) and isinstance(item, str) else _masked(item)
            for key, item in value.items()
        }
    return value
