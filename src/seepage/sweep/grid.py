"""The points of a sweep: every setting of the axes behind every defense, checked before anything runs."""

import copy
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from math import prod
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from seepage.audit import federated, text_clients
from seepage.audit.config import AuditConfig, make_defense, override, parse, read
from seepage.audit.plan import Arm
from seepage.audit.records import SPLITS
from seepage.audit.tables import DataTable, DefenseTable, FederatedTable, SweepTable, VictimTable
from seepage.core.errors import ConfigError, did_you_mean
from seepage.core.frontier import Axis
from seepage.data import Reading

# What the federation does not choose: how far the model is trained, what its adversary knows and sees.
CONDITIONS = frozenset({"federated.trained", "federated.knows", "victim.weights", "victim.access", "seed"})
_TABLES: Mapping[str, type[BaseModel]] = {"federated": FederatedTable, "victim": VictimTable, "data": DataTable}
_OPTIONS: Mapping[str, frozenset[str]] = {
    "federated": frozenset(),
    "victim": frozenset({*federated.KEYS, *text_clients.KEYS}),
    "data": frozenset(
        {"split", *(f.name for f in fields(Reading)), *(n for names, _ in SPLITS.values() for n in names)}
    ),
}
# Keys that a point cannot differ in: what is measured would not be comparable, or the victim another one.
_FIXED = frozenset({"victim.kind", "victim.name", "victim.input", "victim.task", "data.builtin", "data.noun"})

_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


@dataclass(frozen=True)
class Point:
    """One setting: one audit, of which the defenses are arms.

    Attributes:
        number: from 1, in the order of the grid.
        setting: axis -> value.
        content: the audit file of this point, as plain values.
        config: the same, checked.
        label: the setting in words.
    """

    number: int
    setting: dict[str, Any]
    content: dict[str, Any]
    config: AuditConfig
    label: str

    @property
    def name(self) -> str:
        """Unique within the sweep; names its files."""
        return f"point-{self.number:03d}"


@dataclass(frozen=True)
class Grid:
    """A sweep file, checked.

    Attributes:
        content: as written.
        config: the file without `[sweep]`; defenses with several strengths are one each.
        table: `[sweep]`.
        axes: in the order of the file.
        points: every combination of their values.
        base: folder that relative paths start from.
    """

    content: dict[str, Any]
    config: AuditConfig
    table: SweepTable
    axes: tuple[Axis, ...]
    points: tuple[Point, ...]
    base: Path

    @property
    def arms(self) -> list[Arm]:
        """The bare victim, then one arm a defense."""
        return [Arm(), *(Arm(make_defense(table), table.aware) for table in self.config.defense)]

    @property
    def rows(self) -> int:
        """Points times defenses, none included."""
        return len(self.points) * (len(self.config.defense) + 1)


def grid_of_file(file: Path, settings: Sequence[str] = ()) -> Grid:
    """The grid of a sweep file.

    Raises:
        ConfigError: for what cannot be used, before anything is read, made or run.
    """
    config, content = read(file, settings)
    table = config.sweep
    if table is None:
        raise ConfigError(
            f"{file} has no [sweep]: name what to vary, as in [sweep.axes] with "
            f'"federated.records" = [1, 4, 16]; or run `seepage audit {file}`'
        )
    if config.victim.kind != "federated":
        raise ConfigError(
            f'{file}: [sweep] varies a simulated federation: [victim] kind = "federated" was wanted, got '
            f"'{config.victim.kind}'"
        )
    listed = dict(_dotted(table.axes))
    defenses = [*content.get("defense", []), *strengths(content["sweep"].get("defense", []), table.training.rounds)]
    if not listed and not defenses:
        raise ConfigError(f"{file}: [sweep] has neither axes nor defenses: there is nothing to compare")
    axes = [_axis(key, values, f"{file}: [sweep.axes]") for key, values in listed.items()]
    _count(axes, len(defenses) + 1, table.most, str(file))
    plain = {key: value for key, value in content.items() if key != "sweep"}
    plain["defense"] = _distinct(defenses, str(file))
    points = tuple(_points(axes, plain, str(file)))
    return Grid(content, parse(plain, str(file)), table, tuple(axes), points, file.resolve().parent)


def _dotted(axes: Mapping[str, Any], before: str = "") -> Iterable[tuple[str, Any]]:
    """Axes by dotted key, whether the key was quoted ("federated.records") or not (a table in a table)."""
    for key, value in axes.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{name}.")
        else:
            yield name, value


def _axis(key: str, values: Any, where: str) -> Axis:
    check_key(key, where)
    if not isinstance(values, list):
        raise ConfigError(f'{where} "{key}": a list of values was wanted, got {values!r}')
    if not values:
        raise ConfigError(f'{where} "{key}": the list is empty: give the values to try, or leave the axis out')
    told = [json.dumps(value, sort_keys=True, default=str) for value in values]
    for text in told:
        if told.count(text) > 1:
            raise ConfigError(f'{where} "{key}": {text} stands there {told.count(text)} times; once is enough')
    role = "condition" if key in CONDITIONS else "choice"
    return Axis(key=key, title=_title(key), values=values, role=role)


def _title(key: str) -> str:
    known = {
        "federated.records": "records a client",
        "federated.epochs": "local epochs",
        "federated.local_batch": "local batch",
        "federated.rate": "local rate",
        "federated.clients": "clients",
        "federated.update": "update",
        "federated.trained": "steps trained before",
        "victim.net": "network",
    }
    return known.get(key, key.rpartition(".")[2].replace("_", " "))


def check_key(key: str, where: str) -> None:
    """Nothing, unless no audit of a federation has such a key, or points may not differ in it.

    Raises:
        ConfigError: with a "did you mean".
    """
    parts = key.split(".")
    if parts[0] in ("defense", "attack"):
        place = (
            "[[sweep.defense]], with a list for a strength" if parts[0] == "defense" else "[[attack]]: all are played"
        )
        raise ConfigError(f'{where} "{key}": a {parts[0]} is no axis; it goes under {place}')
    roots = [*_TABLES, "seed"]
    if parts[0] not in roots:
        # The bare name of a key is what people write first.
        near = [f"{root}.{name}" for root, names in _names().items() for name in names if name == key]
        hint = f"did you mean '{near[0]}'?" if near else did_you_mean(parts[0], roots)
        raise ConfigError(f'{where} unknown key "{key}": {hint}')
    if parts[0] == "seed":
        if len(parts) > 1:
            raise ConfigError(f'{where} unknown key "{key}": the seed is one number')
        return
    names = _names()[parts[0]]
    if len(parts) < 2 or parts[1] not in names:
        name = parts[1] if len(parts) > 1 else ""
        raise ConfigError(f'{where} unknown key "{key}": {did_you_mean(name, names)}')
    if ".".join(parts[:2]) in _FIXED:
        raise ConfigError(f'{where} "{key}": points of one sweep cannot differ in it: run two sweeps')


def _names() -> dict[str, list[str]]:
    return {root: [*table.model_fields, *_OPTIONS[root]] for root, table in _TABLES.items()}


def strengths(tables: Sequence[Mapping[str, Any]], rounds: int) -> list[dict[str, Any]]:
    """`[[sweep.defense]]` with one table a strength: every list of values is taken apart, several are crossed.

    A defense whose guarantee is composed over rounds is told the rounds that are trained, unless the table says.

    Raises:
        ConfigError: for an empty list.
    """
    found: list[dict[str, Any]] = []
    for table in tables:
        lists = {key: value for key, value in table.items() if isinstance(value, list)}
        for key, values in lists.items():
            if not values:
                raise ConfigError(f"[[sweep.defense]] '{table.get('name')}': {key} is an empty list: give strengths")
        for chosen in itertools.product(*lists.values()):
            one = {**table, **dict(zip(lists, chosen, strict=True))}
            defense = make_defense(DefenseTable.model_validate(one))
            if "rounds" in type(defense).model_fields and "rounds" not in one and rounds:
                one["rounds"] = rounds
            found.append(one)
    return found


def _distinct(defenses: Sequence[Mapping[str, Any]], where: str) -> list[dict[str, Any]]:
    seen: list[Any] = []
    for table in defenses:
        checked = DefenseTable.model_validate(table)
        told = [checked.aware, Arm(make_defense(checked)).applied]
        if told in seen:
            raise ConfigError(f"{where}: the defense '{checked.name}' stands there twice with the same parameters")
        seen.append(told)
    return [dict(table) for table in defenses]


def _count(axes: Sequence[Axis], arms: int, most: int, where: str) -> None:
    sizes = [len(axis.values) for axis in axes]
    points = prod(sizes) * arms
    if points > most:
        told = " x ".join(map(str, [*sizes, arms]))
        raise ConfigError(
            f"{where}: [sweep] makes {points:,} points ({told}, defenses last, none included), more than the {most:,} "
            f"allowed: give fewer values, or set [sweep] most = {points}"
        )


def _points(axes: Sequence[Axis], plain: dict[str, Any], where: str) -> Iterable[Point]:
    for number, values in enumerate(itertools.product(*(axis.values for axis in axes)), start=1):
        setting = {axis.key: value for axis, value in zip(axes, values, strict=True)}
        content = copy.deepcopy(plain)
        for key, value in setting.items():
            put(content, key, value)
        config = parse(content, f"{where}: [sweep.axes] at {_told(setting)}")
        _check_types(setting, config, where)
        label = ", ".join(f"{axis.title} = {_shown(value)}" for axis, value in zip(axes, values, strict=True))
        yield Point(number, setting, content, config, label or "as written")


def put(content: dict[str, Any], key: str, value: Any) -> None:
    """Set one dotted key of a file's content."""
    override(content, [f"{key}=0"])
    place: Any = content
    *way, last = key.split(".")
    for part in way:
        place = place[part]
    place[last] = value


def _check_types(setting: Mapping[str, Any], config: AuditConfig, where: str) -> None:
    """Values that would be taken for another kind ("4" for 4, true for 1) are slips of the pen."""
    whole = config.model_dump(mode="json")
    for key, given in setting.items():
        got: Any = whole
        for part in key.split("."):
            got = got.get(part) if isinstance(got, dict) else None
        if isinstance(given, bool) != isinstance(got, bool) or given != got:
            wanted = _KINDS.get(type(got), "another kind of value")
            raise ConfigError(f'{where}: [sweep.axes] "{key}": {wanted} was wanted, got {given!r}')


def _told(setting: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} = {_shown(value)}" for key, value in setting.items())


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def defense_labels(arms: Sequence[Arm]) -> list[str]:
    """Defenses as tables call them: the name, and the parameters that are not the default or tell two strengths apart.

    Rounds and delta are left out: they say how epsilon is counted, and stand beside it.
    """
    told: list[str] = []
    for arm in arms:
        if arm.defense is None:
            told.append("none")
            continue
        own = arm.defense.model_dump(mode="json")
        others = [a.defense.model_dump(mode="json") for a in arms if type(a.defense) is type(arm.defense) and a.defense]
        plain = {name: info.default for name, info in type(arm.defense).model_fields.items()}
        shown = [k for k in own if own[k] != plain[k] or any(other[k] != own[k] for other in others)]
        parts = [
            f"{k}={own[k]:g}" if isinstance(own[k], float) else f"{k}={own[k]}"
            for k in shown
            if k not in ("rounds", "delta")
        ]
        told.append(" ".join([arm.defense.name, *parts, *([] if arm.aware else ["(unaware)"])]))
    return told
