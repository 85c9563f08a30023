"""The audit file: every key checked, every default filled in, nothing run yet."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, Field, ValidationError, field_validator

from seepage.audit.tables import (
    AttackTable,
    CanariesTable,
    ClaimTable,
    DataTable,
    DefenseTable,
    FederatedTable,
    JudgeTable,
    PriorTable,
    PropertyTable,
    RecipeTable,
    ReferencesTable,
    ReportTable,
    RunTable,
    SweepTable,
    SweepTraining,
    Table,
    VerdictTable,
    VictimTable,
)
from seepage.core.attack import Attack
from seepage.core.defense import Defense
from seepage.core.errors import ConfigError, did_you_mean
from seepage.core.registry import attack_class, defense_class
from seepage.core.vocabulary import Leak

# Names that stand for many attacks: those that take seconds, and the thorough ones too.
EVERY = ("auto", "all")
# Kinds whose members are the records of the update itself, and may be unknown.
CAPTURED = ("update", "flower")
# Kinds whose records can be texts.
TEXTS = ("encoder", "federated", *CAPTURED)
T = TypeVar("T", bound=BaseModel)


class AuditConfig(Table):
    """An audit file, checked. Names of attacks and defenses are resolved, parameters filled in."""

    title: str = ""
    seed: int = Field(default=0, ge=0)
    victim: VictimTable
    data: DataTable = DataTable()
    recipe: RecipeTable | None = None
    references: ReferencesTable | None = None
    federated: FederatedTable | None = None
    prior: PriorTable | None = None
    property: PropertyTable | None = None
    attack: list[AttackTable] = Field(default_factory=lambda: [AttackTable(name="auto")])
    defense: list[DefenseTable] = Field(default_factory=list[DefenseTable])
    judge: JudgeTable = JudgeTable()
    canaries: CanariesTable | None = None
    claim: ClaimTable | None = None
    verdict: VerdictTable = VerdictTable()
    gate: dict[Leak, float] = Field(default_factory=dict[Leak, float])
    report: ReportTable = ReportTable()
    run: RunTable = RunTable()
    sweep: SweepTable | None = None

    @field_validator("gate")
    @classmethod
    def _gates_in_range(cls, gates: dict[Leak, float]) -> dict[Leak, float]:
        for leak, threshold in gates.items():
            if not 0 <= threshold <= 1:
                raise ValueError(f"a threshold lies between 0 and 1, got {leak} = {threshold}")
        return gates

    def resolved(self) -> dict[str, Any]:
        """The whole configuration as JSON, every default filled in, attacks with all parameters."""
        whole = self.model_dump(mode="json")
        whole["attack"] = [
            table.model_dump(mode="json")
            if table.name in EVERY
            else {
                "name": table.name,
                "label": table.label,
                "budget": table.budget,
                "budgets": table.budgets,
                **make_attack(table).model_dump(mode="json"),
            }
            for table in self.attack
        ]
        whole["defense"] = [
            {"name": table.name, "aware": table.aware, **make_defense(table).model_dump(mode="json")}
            for table in self.defense
        ]
        return whole


def explain(error: ValidationError, where: str, known: Mapping[str, type[BaseModel]]) -> ConfigError:
    """The first thing wrong, in one sentence, with a "did you mean" for unknown keys."""
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    dotted = ".".join(path)
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        # A table within a table is known by its whole name.
        table = known.get(".".join(path[:-1])) or known.get(path[0] if len(path) > 1 else "")
        names = list(table.model_fields) if table is not None else []
        return ConfigError(f"{where}: unknown key '{dotted}': {did_you_mean(path[-1], names)}{more}")
    if first["type"] == "missing":
        return ConfigError(f"{where}: '{dotted}' is missing: it is needed{more}")
    if first["type"] == "value_error":
        return ConfigError(f"{where}: {dotted}: {first['msg'].removeprefix('Value error, ')}{more}")
    got = repr(first.get("input"))
    got = got if len(got) < 80 else got[:77] + "..."
    return ConfigError(f"{where}: {dotted or 'the whole'}: {first['msg']}, got {got}{more}")


_TABLES: dict[str, type[BaseModel]] = {
    "": AuditConfig,
    "victim": VictimTable,
    "data": DataTable,
    "recipe": RecipeTable,
    "references": ReferencesTable,
    "federated": FederatedTable,
    "prior": PriorTable,
    "property": PropertyTable,
    "attack": AttackTable,
    "defense": DefenseTable,
    "judge": JudgeTable,
    "canaries": CanariesTable,
    "claim": ClaimTable,
    "verdict": VerdictTable,
    "report": ReportTable,
    "run": RunTable,
    "sweep": SweepTable,
    "sweep.training": SweepTraining,
}


def make_attack(table: AttackTable) -> Attack:
    """The attack a table names, with its parameters.

    Raises:
        ConfigError: for an unknown name or parameter, with a "did you mean".
    """
    return _build(attack_class(table.name), table.options, f"attack '{table.name}'")


def make_defense(table: DefenseTable) -> Defense:
    """The defense a table names, with its parameters.

    Raises:
        ConfigError: for an unknown name or parameter, with a "did you mean".
    """
    return _build(defense_class(table.name), table.options, f"defense '{table.name}'")


def _build(cls: type[T], params: Mapping[str, Any], where: str) -> T:
    try:
        return cls.model_validate(dict(params))
    except ValidationError as error:
        raise explain(error, where, {"": cls}) from error


def override(content: dict[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """The file's content with `a.b=c` settings applied; a number in a path counts list entries from 0.

    Raises:
        ConfigError: when a setting is not `key=value`, or its path does not fit the file.
    """
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals or not path.strip():
            raise ConfigError(f"--set wants key=value, as in --set victim.budget=1000; got '{setting}'")
        try:
            value: Any = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        place: Any = content
        parts = path.strip().split(".")
        for i, part in enumerate(parts):
            last = i == len(parts) - 1
            if isinstance(place, list):
                if not part.isdigit() or int(part) >= len(place):
                    raise ConfigError(f"--set {path}: '{part}' should be a number from 0 to {len(place) - 1}")
                if last:
                    place[int(part)] = value
                else:
                    place = place[int(part)]
            elif isinstance(place, dict):
                if last:
                    place[part] = value
                else:
                    place = place.setdefault(part, {})
            else:
                raise ConfigError(f"--set {path}: '{'.'.join(parts[:i])}' holds a value, not a table")
    return content


def parse(content: dict[str, Any], where: str) -> AuditConfig:
    """A checked configuration.

    Raises:
        ConfigError: one message for the first thing wrong.
    """
    try:
        config = AuditConfig.model_validate(content)
    except ValidationError as error:
        raise explain(error, where, _TABLES) from error
    for attack in config.attack:
        if attack.name not in EVERY:
            make_attack(attack)
    for defense in config.defense:
        make_defense(defense)
    if config.victim.kind == "recipe" and config.recipe is None:
        raise ConfigError(f'{where}: [victim] kind = "recipe" needs a [recipe] with fit = ...')
    if config.references is not None and config.references.models and config.recipe is None:
        raise ConfigError(
            f"{where}: [references] trains models like the victim: give a [recipe] with fit = ..., or leave it out"
        )
    if config.report.groups and config.victim.kind in TEXTS:
        raise ConfigError(
            f"{where}: [report] groups: membership is looked at in groups of records of a classifier, not of [victim] "
            f'kind = "{config.victim.kind}": leave it out'
        )
    if config.property is not None and config.victim.kind in TEXTS:
        raise ConfigError(
            f'{where}: [property] is asked about a classifier, not about [victim] kind = "{config.victim.kind}"'
        )
    if config.property is not None and config.recipe is None:
        raise ConfigError(
            f"{where}: [property] trains models at other shares of the group: give a [recipe] with fit = ..., or leave "
            "it out"
        )
    if config.victim.kind not in TEXTS and config.data.text is not None:
        raise ConfigError(
            f'{where}: [data] text is for [victim] kind = "encoder", or "federated", "update" or "flower" with a model '
            "of texts; columns of a table of numbers need no naming"
        )
    if config.data.builtin is None and config.data.members is None and config.victim.kind not in CAPTURED:
        raise ConfigError(f"{where}: [data] needs members = ... (or builtin = ...)")
    if (config.canaries or config.claim) is not None and config.victim.kind in TEXTS:
        raise ConfigError(
            f'{where}: [canaries] and [claim] are for classifiers; a victim of kind "{config.victim.kind}" has no use '
            "for them"
        )
    if config.claim is not None and config.canaries is None:
        raise ConfigError(
            f"{where}: [claim] is held against canaries, and there are none: add [canaries] with manifest = ... (of "
            '`seepage corpus canaries`), or with count = ... where [victim] kind = "recipe"'
        )
    if config.data.builtin is not None and config.victim.kind in CAPTURED:
        raise ConfigError(
            f"{where}: [data] builtin: a captured update has the client's own records as members, or none"
        )
    if config.data.builtin is not None:
        for name in ("members", "nonmembers", "public"):
            if getattr(config.data, name) is not None:
                raise ConfigError(
                    f"{where}: [data] has both builtin and {name}: a built-in set is split here; keep one"
                )
    return config


def read(path: Path, settings: Sequence[str] = ()) -> tuple[AuditConfig, dict[str, Any]]:
    """The configuration in an audit file, and its content as written (with `settings` applied).

    Raises:
        ConfigError: when the file is missing, not TOML, or holds something unusable.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(
            f"no audit file at {path}: give the path of a TOML file, as in examples/faces.toml"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as text ({error}): give the path of a TOML file") from error
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    content = override(content, settings)
    return parse(content, str(path)), content
