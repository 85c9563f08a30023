"""The attacks that an audit file or a call asks for."""

from dataclasses import replace

from seepage.audit.config import EVERY, make_attack
from seepage.audit.plan import Wanted, everything
from seepage.audit.tables import AttackTable
from seepage.core.errors import ConfigError


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
        listed = everything(thorough=table.name == "all")
        return [replace(want, budget=limit) for want in listed for limit in table.limits]
    return [Wanted(make_attack(table), table.label, limit) for limit in table.limits]
