"""The attacks, defenses and numbers that an audit file or a call asks for, checked."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from seepage.audit.config import EVERY, explain, make_attack, make_defense
from seepage.audit.plan import Arm, Wanted, everything
from seepage.audit.tables import AttackTable, DefenseTable
from seepage.core.attack import Attack
from seepage.core.defense import Defense
from seepage.core.errors import ConfigError, did_you_mean
from seepage.core.vocabulary import Leak

Named = str | Mapping[str, Any]
T = TypeVar("T", bound=BaseModel)


def wanted_by(table: AttackTable) -> list[Wanted]:
    """The attacks that a table asks for, one for each of its budgets.

    Raises:
        ConfigError: for an unknown attack or parameter.
    """
    if table.name in EVERY:
        if table.options:
            raise ConfigError(
                f"attack '{table.name}' takes no '{next(iter(table.options))}': name the attack to set parameters"
            )
        listed = [
            want
            for want in everything(thorough=table.name == "all")
            if table.leak is None or want.attack.leak is table.leak
        ]
        if not listed:
            raise ConfigError(f"attack '{table.name}': there is no attack on the leak '{table.leak}' yet")
        return [replace(want, budget=limit) for want in listed for limit in table.limits]
    if table.leak is not None:
        raise ConfigError(f"attack '{table.name}' takes no leak: that chooses among the attacks of 'auto' and 'all'")
    return [Wanted(make_attack(table), table.label, limit) for limit in table.limits]


def attacks_of(attacks: Attack | Named | Sequence[Attack | Named]) -> list[Wanted]:
    """The attacks asked for, by name, table or object."""
    if isinstance(attacks, str):
        attacks = [attacks]
    if isinstance(attacks, Attack | Mapping):
        attacks = [attacks]
    found: list[Wanted] = []
    for one in attacks:
        if isinstance(one, Attack):
            found.append(Wanted(one))
        else:
            found.extend(wanted_by(_table(AttackTable, one, "attacks")))
    return found


def arms_of(defenses: Defense | Named | Sequence[Defense | Named]) -> list[Arm]:
    """The bare victim, then one arm a defense."""
    listed = [defenses] if isinstance(defenses, str | Mapping | Defense) else defenses
    return [Arm(), *(_arm(defense) for defense in listed)]


def _arm(defense: Defense | Named) -> Arm:
    if isinstance(defense, Defense):
        return Arm(defense)
    table = _table(DefenseTable, defense, "defenses")
    return Arm(make_defense(table), table.aware)


def _table(kind: type[T], named: Any, where: str) -> T:
    if not isinstance(named, str | Mapping):
        raise ConfigError(f"{where}: a name, a table with a name, or an object was wanted, got {named!r}")
    try:
        return kind.model_validate({"name": named} if isinstance(named, str) else dict(named))
    except ValidationError as error:
        raise explain(error, where, {"": kind}) from error


def gates_of(gates: Mapping[str, float]) -> dict[Leak, float]:
    """Thresholds by leak, checked."""
    found: dict[Leak, float] = {}
    for name, threshold in gates.items():
        if name not in set(Leak):
            raise ConfigError(f"gate: unknown leak '{name}': {did_you_mean(name, list(Leak))}")
        if not _share(threshold):
            raise ConfigError(f"gate: a threshold lies between 0 and 1, got {name} = {threshold!r}")
        found[Leak(name)] = threshold
    return found


def check_numbers(budget: Any, seed: Any, tolerance: Any, top_k: Any) -> None:
    """The same limits that an audit file has."""
    for name, value, least in (("budget", budget, 1), ("seed", seed, 0), ("top_k", top_k, 1)):
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not (name == "budget" and value is None) and not (whole and value >= least):
            raise ConfigError(f"{name}: a whole number, {least} or more, was wanted, got {value!r}")
    if not _share(tolerance) or tolerance in (0, 1):
        raise ConfigError(f"tolerance: a number between 0 and 1 was wanted, got {tolerance!r}")


def check_references(references: Any, recipe: Any) -> None:
    """A number of models that can be trained."""
    if references is None:
        return
    if not isinstance(references, int) or isinstance(references, bool) or references < 0 or references % 2:
        raise ConfigError(f"references: an even number of models was wanted (they come in pairs), got {references!r}")
    if references and recipe is None:
        raise ConfigError("references: reference models are trained by a recipe: give recipe=, or leave them out")


def _share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
