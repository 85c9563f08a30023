"""Audits of arms, with the product's own store: what was found once is not sought again."""

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from arms import REPORT, Arm, label

from seepage.audit.config import parse
from seepage.audit.plan import Arm as Applied
from seepage.audit.run import execute
from seepage.audit.setting import Setting, from_config
from seepage.core.progress import Progress
from seepage.core.record import Finding
from seepage.core.registry import defense_class

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Group:
    """Arms that one audit plays.

    Attributes:
        name: of the audit.
        arms: the defenses; None for none.
        attacks: name -> parameters.
        federated: changes to `[federated]`.
        prefix: of the rows' names.
    """

    name: str
    arms: Sequence[Arm]
    attacks: Mapping[str, dict[str, Any]]
    federated: Mapping[str, Any]
    prefix: str = ""


def content(
    seed: int, federated: Mapping[str, Any], attacks: Mapping[str, dict[str, Any]], arms: Sequence[Arm]
) -> dict[str, Any]:
    """The audit file with these changes, as plain values."""
    base = tomllib.loads((HERE / "audit.toml").read_text("utf-8"))
    return {
        **base,
        "seed": seed,
        "federated": {**base["federated"], **federated},
        "attack": [{"name": name, **params} for name, params in attacks.items()],
        "defense": [{"name": arm[0], **arm[1]} for arm in arms if arm is not None],
    }


def setting_of(told: dict[str, Any], out: Path) -> Setting:
    """The setting of an audit file's content."""
    return from_config(parse(told, "gradient-defenses"), told, base=HERE, out=out)


def defenses_of(arms: Sequence[Arm]) -> list[Applied]:
    """The arms as an audit plays them."""
    return [Applied() if arm is None else Applied(defense_class(arm[0])(**arm[1])) for arm in arms]


def played(group: Group, out: Path, listener: Callable[[Progress], None]) -> dict[str, list[Finding]]:
    """The findings of a group by row."""
    told = content(REPORT, group.federated, group.attacks, group.arms)
    setting = setting_of(told, out)
    # What cannot be played behind a defense, or in a setting, is left out; the bare victim only stands in where asked.
    wanted = [replace(one, auto=True) for one in setting.wanted]
    arms = defenses_of(group.arms)
    record = execute(replace(setting, processes=1, wanted=wanted, arms=arms), listener)
    found: dict[str, list[Finding]] = {group.prefix + label(arm): [] for arm in group.arms}
    for finding in record.findings:
        place = next(label(arm) for arm, one in zip(group.arms, arms, strict=True) if finding.defenses == one.applied)
        found[group.prefix + place].append(finding)
    return found
