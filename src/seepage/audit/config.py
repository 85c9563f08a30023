"""The audit file: every key checked, every default filled in, nothing run yet."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from seepage.core.attack import Attack
from seepage.core.defense import Defense
from seepage.core.errors import ConfigError, did_you_mean
from seepage.core.registry import attack_class, defense_class
from seepage.core.spec import Bounds, InputSpec
from seepage.core.vocabulary import Access, Leak, Modality

Number = int | float
# Names that stand for many attacks: those that take seconds, and the thorough ones too.
EVERY = ("auto", "all")
# Kinds whose members are the records of the update itself, and may be unknown.
CAPTURED = ("update", "flower")
# Kinds whose records can be texts.
TEXTS = ("encoder", "federated", *CAPTURED)
T = TypeVar("T", bound=BaseModel)


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _Open(BaseModel):
    """A table whose further keys are options of what it names; those are checked where they are used."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class InputTable(_Table):
    """`[victim] input`: one input of the victim, declared once."""

    shape: list[int]
    range: list[Number | list[Number]] = Field(default=[0.0, 1.0], min_length=2, max_length=2)
    modality: Modality | None = None
    mean: list[float] = []
    std: list[float] = []
    layout: Literal["chw", "hwc"] = "chw"
    channels: Literal["rgb", "bgr"] = "rgb"

    def spec(self) -> InputSpec:
        """The input as the rest of Seepage knows it."""
        modality = self.modality or (Modality.IMAGE if len(self.shape) == 3 else Modality.TABLE)
        low, high = self.range
        return InputSpec(
            shape=tuple(self.shape),
            bounds=Bounds.of(low, high),  # pyright: ignore[reportArgumentType]
            modality=modality,
            mean=tuple(self.mean),
            std=tuple(self.std),
            layout=self.layout,
            channels=self.channels,
        )


class VictimTable(_Open):
    """`[victim]`: what is audited, and what its adversary is granted."""

    kind: Literal["recipe", "torch", "sklearn", "onnx", "http", "callable", "encoder", "federated", "update", "flower"]
    name: str = ""
    access: Access = Access.SCORES
    budget: int | None = Field(default=None, ge=1)
    top_k: int = Field(default=5, ge=1, description='classes seen where access is "top_k" and the victim gives all')
    input: InputTable | None = None


class DataTable(_Open):
    """`[data]`: members, non-members and public records, or a built-in set that is split."""

    builtin: str | None = None
    members: str | None = None
    nonmembers: str | None = None
    public: str | None = None
    overlap: Literal["refuse", "drop"] = "refuse"
    text: str | None = Field(default=None, description="where records are texts: the column of a table that holds them")
    noun: str = Field(default="", description="what one class is, for reports: person, patient, ...")


class FederatedTable(_Table):
    """`[federated]`: the clients of a federation, what they do in a round, and what the server is told of it.

    `knows` replaces the rungs of the assumption ladder that the adversary is told: by default what a server
    has itself configured, and the public records.
    """

    clients: int = Field(default=8, ge=1, description="how many clients send an update")
    records: int = Field(default=4, ge=1, description="records each client holds")
    update: Literal["gradient", "delta"] = Field(
        default="gradient", description="one gradient over all records, or the change of weights after local steps"
    )
    local_batch: int = Field(default=0, ge=0, description="records a local step, for delta; 0 takes all")
    epochs: int = Field(default=1, ge=1, description="passes over the records, for delta")
    rate: float = Field(default=0.01, gt=0, description="learning rate of the local steps, for delta")
    mode: Literal["train", "eval"] = Field(default="train", description="how batch normalisation computes")
    trained: int = Field(default=0, ge=0, description="steps the model was trained, on records no client holds")
    momentum: float | None = Field(
        default=None, ge=0, lt=1, description="of the client's optimiser, where it is known, for a captured update"
    )
    summed: bool = Field(
        default=False, description="for a captured update of several clients: their sum, and not their mean"
    )
    knows: list[str] | None = None


class RecipeTable(_Table):
    """`[recipe]`: how victims like this one are trained."""

    fit: str
    options: dict[str, Any] = {}


class AttackTable(_Open):
    """`[[attack]]`: one attack with its parameters, or "auto", or "all".

    With `budgets` the attack is run once for each: how leakage grows with queries.
    """

    name: str
    label: str = ""
    budget: int | None = Field(default=None, ge=1)
    budgets: list[Annotated[int, Field(ge=1)]] = []

    @model_validator(mode="after")
    def _one_way(self) -> "AttackTable":
        if self.budget is not None and self.budgets:
            raise ValueError("an attack takes budget (one) or budgets (a list, run once for each), not both")
        return self

    @property
    def limits(self) -> list[int | None]:
        """The budgets the attack is run with; None stands for the audit's."""
        return list(dict.fromkeys(self.budgets)) or [self.budget]


class PriorTable(_Table):
    """`[prior]`: a prior brought along: an artefact of `seepage prior train`, or a generator of your own.

    `path` names the artefact; `generator` an import path "module:name" of a callable from latents to
    records, with `size` numbers a latent, drawing values in `range` and brought to the victim's size
    where `resize` says so. Attacks use it where their own `prior` is "own" or "auto".
    """

    path: str | None = None
    generator: str | None = None
    size: int | None = Field(default=None, ge=1)
    range: list[Number] = Field(default=[0.0, 1.0], min_length=2, max_length=2)
    resize: bool = False

    @model_validator(mode="after")
    def _one_source(self) -> "PriorTable":
        if (self.path is None) == (self.generator is None):
            raise ValueError("a prior needs path (an artefact) or generator (an import path), one of the two")
        if self.generator is not None and self.size is None:
            raise ValueError("a generator needs size: how many numbers its latent has")
        return self


class DefenseTable(_Open):
    """`[[defense]]`: one arm of the audit: the victim behind this defense."""

    name: str
    aware: bool = True


class JudgeTable(_Table):
    """`[judge]`: how the judge of reconstructions is chosen."""

    kind: str = "auto"


class VerdictTable(_Table):
    """`[verdict]`: the leakage below which no leak is claimed to matter."""

    tolerance: float = Field(default=0.10, gt=0, lt=1)


class ReportTable(_Table):
    """`[report]`: what may be shown."""

    show_records: bool = False


class RunTable(_Table):
    """`[run]`: where and how."""

    out: str = "runs"
    processes: int = Field(default=0, ge=0, description="0: one a core, as far as there is work")


class SweepTraining(_Table):
    """`[sweep.training]`: the federation that is trained behind every setting, to see what it costs."""

    rounds: int = Field(default=60, ge=0, description="rounds of the federation; 0 trains none")
    clients: int | None = Field(default=None, ge=1, description="clients in a round; [federated] clients if not set")
    rate: float = Field(default=0.3, gt=0, description="the server's rate for gradients; changes are added as they are")
    repeats: int = Field(default=1, ge=1, description="federations, each with other clients; accuracy is their mean")


class SweepTable(_Table):
    """`[sweep]`: what `seepage sweep` varies. Every other table of the file is the same for all points.

    `axes` maps keys of the file to lists of values. A table under `defense` may give a list where a defense takes one
    value: each is a strength of its own.
    """

    axes: dict[str, Any] = {}
    defense: list[DefenseTable] = []
    training: SweepTraining = SweepTraining()
    most: int = Field(default=200, ge=1, description="points at the most: settings times defenses, none included")
    confirm: bool = Field(default=True, description="audit what is recommended again, with other clients")


class AuditConfig(_Table):
    """An audit file, checked. Names of attacks and defenses are resolved, parameters filled in."""

    title: str = ""
    seed: int = Field(default=0, ge=0)
    victim: VictimTable
    data: DataTable = DataTable()
    recipe: RecipeTable | None = None
    federated: FederatedTable | None = None
    prior: PriorTable | None = None
    attack: list[AttackTable] = Field(default_factory=lambda: [AttackTable(name="auto")])
    defense: list[DefenseTable] = []
    judge: JudgeTable = JudgeTable()
    verdict: VerdictTable = VerdictTable()
    gate: dict[Leak, float] = {}
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
    "federated": FederatedTable,
    "prior": PriorTable,
    "attack": AttackTable,
    "defense": DefenseTable,
    "judge": JudgeTable,
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
    if config.victim.kind not in TEXTS and config.data.text is not None:
        raise ConfigError(
            f'{where}: [data] text is for [victim] kind = "encoder", or "federated", "update" or "flower" with a model '
            "of texts; columns of a table of numbers need no naming"
        )
    if config.data.builtin is None and config.data.members is None and config.victim.kind not in CAPTURED:
        raise ConfigError(f"{where}: [data] needs members = ... (or builtin = ...)")
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
