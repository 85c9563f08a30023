"""The tables of an audit file, each with its keys, their types and defaults."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from seepage.core.canaries import FEWEST, Family
from seepage.core.spec import Bounds, InputSpec
from seepage.core.vocabulary import Access, Leak, Modality

Number = int | float


class Table(BaseModel):
    """A table that takes the keys it names and no others."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Open(BaseModel):
    """A table whose further keys are options of what it names; those are checked where they are used."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class InputTable(Table):
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


class VictimTable(Open):
    """`[victim]`: what is audited, and what its adversary is granted."""

    kind: Literal["recipe", "torch", "sklearn", "onnx", "http", "callable", "encoder", "federated", "update", "flower"]
    name: str = ""
    access: Access = Access.SCORES
    budget: int | None = Field(default=None, ge=1)
    top_k: int = Field(default=5, ge=1, description='classes seen where access is "top_k" and the victim gives all')
    input: InputTable | None = None


class DataTable(Open):
    """`[data]`: members, non-members and public records, or a built-in set that is split."""

    builtin: str | None = None
    members: str | None = None
    nonmembers: str | None = None
    public: str | None = None
    overlap: Literal["refuse", "drop"] = "refuse"
    text: str | None = Field(default=None, description="where records are texts: the column of a table that holds them")
    noun: str = Field(default="", description="what one class is, for reports: person, patient, ...")


class FederatedTable(Table):
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


class RecipeTable(Table):
    """`[recipe]`: how victims like this one are trained."""

    fit: str
    options: dict[str, Any] = {}


class ReferencesTable(Table):
    """`[references]`: models of the adversary's own, trained as the victim was, for membership."""

    models: int = Field(default=16, ge=0, description="how many, an even number; 0 trains none")


class PropertyTable(Table):
    """`[property]`: a group of records; how large its share of the training set is, is asked about.

    The group is a `value` of a `column`, its numbers from `at_least` on, or a class. `train_share`, where the victim
    is trained here, draws its members anew at that share: what would be seen if there were so many.
    """

    column: str = Field(default="", description="of the table that was read")
    value: str | float | None = Field(default=None, description="of the column: a category, or a number")
    at_least: float | None = Field(default=None, description="instead of a value: numbers from here on")
    class_name: str = Field(default="", description="instead of a column: a class")
    dropped: bool = Field(default=False, description="the column is taken out before anything is trained or asked")
    public_share: float | None = Field(default=None, gt=0, lt=1, description="of the public records if not set")
    train_share: float | None = Field(default=None, gt=0, lt=1, description="of members drawn anew")
    shares: list[float] = Field(default=[], description="of shadow models; about the public share if not set")
    shadows: int = Field(default=64, ge=8, description="shadow models")
    trials: int = Field(default=32, ge=4, multiple_of=2, description="models by which the attack is tried")
    records: int | None = Field(default=None, ge=1, description="each model is trained on; as many as can be")
    name: str = Field(default="", description="of a group given by flags")
    flags: bool = Field(default=False, description="the group comes as flags, from Python")

    @model_validator(mode="after")
    def _one_group(self) -> "PropertyTable":
        named = [bool(self.column), bool(self.class_name), self.flags]
        if sum(named) != 1:
            raise ValueError(
                "a property is a column (with value or at_least) or a class_name (in Python also flags by split), one "
                "of them"
            )
        if self.column and (self.value is None) == (self.at_least is None):
            raise ValueError(f"the column '{self.column}' needs a value or at_least, one of the two")
        if self.dropped and not self.column:
            raise ValueError("dropped takes a column out of the table: name it with column")
        return self


class AttackTable(Open):
    """`[[attack]]`: one attack with its parameters, or "auto", or "all".

    With `budgets` the attack is run once for each: how leakage grows with queries.
    """

    name: str
    label: str = ""
    leak: Leak | None = Field(default=None, description='with "auto" and "all": of this leak alone')
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


class PriorTable(Table):
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


class DefenseTable(Open):
    """`[[defense]]`: one arm of the audit: the victim behind this defense."""

    name: str
    aware: bool = True


class JudgeTable(Table):
    """`[judge]`: how the judge of reconstructions is chosen."""

    kind: str = "auto"


class VerdictTable(Table):
    """`[verdict]`: the leakage below which no leak is claimed to matter."""

    tolerance: float = Field(default=0.10, gt=0, lt=1)


class CanariesTable(Table):
    """`[canaries]`: records that fair coins put into the training data, by a manifest or inserted here.

    With `manifest` they are those that `seepage corpus canaries` wrote into the data; with `count` they are made and
    inserted where the victim is trained by its recipe.
    """

    manifest: str | None = None
    count: int | None = Field(default=None, ge=FEWEST, description="how many to make, each included by a fair coin")
    kind: Literal["mislabelled", "random", "gradient"] = Field(
        default="mislabelled",
        description="records of another class, records drawn at random, or gradients put into steps of DP-SGD",
    )
    seed: int | None = Field(default=None, ge=0, description="of the canaries and their coins; the audit's if not set")

    @model_validator(mode="after")
    def _one_source(self) -> "CanariesTable":
        if (self.manifest is None) == (self.count is None):
            raise ValueError("canaries need manifest (of those in the data) or count (to make some), one of the two")
        return self


class ClaimTable(Table):
    """`[claim]`: the privacy that is claimed of the victim's training, to be held against what the canaries show."""

    epsilon: float = Field(ge=0)
    delta: float = Field(default=1e-5, ge=0, lt=1)
    family: Family = Field(
        default="any", description="mechanisms that the bound holds for: any, or those no more telling than a Gaussian"
    )
    attack: str | None = Field(
        default=None, description="the attack that decides, said beforehand; else all do, corrected for their number"
    )

    @model_validator(mode="after")
    def _possible(self) -> "ClaimTable":
        if self.family == "gaussian" and self.delta == 0:
            raise ValueError("at a delta of 0 no Gaussian mechanism has an epsilon: give a delta above 0")
        return self


class ReportTable(Table):
    """`[report]`: what may be shown."""

    show_records: bool = False
    groups: list[str] = Field(default=[], description="columns of a table whose values are groups of records")


class RunTable(Table):
    """`[run]`: where and how."""

    out: str = "runs"
    processes: int = Field(default=0, ge=0, description="0: one a core, as far as there is work")


class SweepTraining(Table):
    """`[sweep.training]`: the federation that is trained behind every setting, to see what it costs."""

    rounds: int = Field(default=60, ge=0, description="rounds of the federation; 0 trains none")
    clients: int | None = Field(default=None, ge=1, description="clients in a round; [federated] clients if not set")
    rate: float = Field(default=0.3, gt=0, description="the server's rate for gradients; changes are added as they are")
    repeats: int = Field(default=1, ge=1, description="federations, each with other clients; accuracy is their mean")


class SweepTable(Table):
    """`[sweep]`: what `seepage sweep` varies. Every other table of the file is the same for all points.

    `axes` maps keys of the file to lists of values. A table under `defense` may give a list where a defense takes one
    value: each is a strength of its own.
    """

    axes: dict[str, Any] = {}
    defense: list[DefenseTable] = []
    training: SweepTraining = SweepTraining()
    most: int = Field(default=200, ge=1, description="points at the most: settings times defenses, none included")
    confirm: bool = Field(default=True, description="audit what is recommended again, with other clients")
