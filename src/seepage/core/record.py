"""The record of an audit: versioned, JSON throughout, missing is null with a reason, never NaN.

Reports, comparisons and gates read records and nothing else. `AuditRecord.model_json_schema()` is
the published schema (`schema/record.schema.json` in the repository).
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from seepage.core.outlook import Diagnostic, Forecast
from seepage.core.vocabulary import Access, Leak

SCHEMA_VERSION = "1.0"

Ruling = Literal["leaks", "no leak found", "inconclusive", "not tried"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Estimate(_Part):
    """A value with its confidence interval (95 % unless said otherwise)."""

    value: float
    low: float
    high: float


class Score(_Part):
    """One measure of one finding. Higher always means more leakage."""

    name: str
    title: str
    value: float | None = Field(description="null when it cannot be estimated; `reason` says why")
    low: float | None = None
    high: float | None = None
    chance: float | None = Field(default=None, description="the same score for a blind guess")
    controls: dict[str, Estimate | None] = Field(
        default_factory=dict[str, Estimate | None],
        description="no_model: the best without the victim; null_model: the same attack on a twin without the secret",
    )
    no_model_parts: dict[str, Estimate] = Field(
        default_factory=dict[str, Estimate], description="every model-free guess that was scored, by name"
    )
    missing: dict[str, str] = Field(
        default_factory=dict[str, str], description="control that cannot be had -> what the user could supply"
    )
    leakage: Estimate | None = Field(default=None, description="value minus the strongest control, with its interval")
    strongest_control: str | None = None
    p_value: float | None = Field(
        default=None, description="one-sided: the probability of so large a leakage when there is none"
    )
    n: int = Field(description="how many units the interval is over")
    unit: str = Field(description="what a unit is: class, record, pair")
    method: str = Field(description="how the interval was made")
    reason: str | None = None


class Exposure(_Part):
    """How exposed one member (or class) is, most exposed first, with the evidence."""

    id: str
    rank: int
    value: float = Field(description="higher is more exposed")
    control: float | None = Field(default=None, description="the same measure without the model")
    evidence: str
    index: int | None = Field(default=None, description="row of the finding's gallery arrays")
    memorised: Estimate | None = Field(
        default=None,
        description="membership with reference models: how much likelier the record's class is where it was trained on "
        "than where it was not, with its interval over models",
    )
    reasons: list[str] = Field(
        default_factory=list[str], description="what of the record itself makes it stand out, from the records alone"
    )


class Group(_Part):
    """How membership shows in one group of records, against all others."""

    axis: str = Field(description="what records are grouped by: class, rarity, a column of the table")
    name: str
    members: int
    nonmembers: int
    auc: Estimate | None = Field(default=None, description="null when it cannot be estimated; `reason` says why")
    found: Estimate | None = Field(
        default=None, description="share of its members above 99 % of all non-members; null where these are too few"
    )
    rest: float | None = Field(default=None, description="the mean AUC within the other groups of the axis")
    p_value: float | None = Field(
        default=None, description="one-sided, corrected for all groups of the finding: of leaking no more than the rest"
    )
    flagged: bool = Field(default=False, description="leaks more than the rest, at 5 % after correction")
    reason: str | None = None


class Spread(_Part):
    """How a score varies from training to training, from reference models that played the victim."""

    score: str
    targets: int
    mean: Estimate = Field(description="over targets, with Student's t interval of the mean")
    deviation: float = Field(description="standard deviation over targets")
    least: float
    most: float


class Artifact(_Part):
    """A file beside the record."""

    kind: Literal["gallery", "curves"]
    path: str = Field(description="relative to the run folder")
    private: bool = Field(description="holds real or recovered private data; mode 0600")
    keys: list[str] = Field(description="names of the arrays inside")


class Failure(_Part):
    """Why an attack did not end."""

    type: str
    message: str


class Applied(_Part):
    """A defense or a poison with its parameters."""

    name: str
    params: dict[str, Any] = Field(default_factory=dict[str, Any])


class Finding(_Part):
    """What one attack on one case gave. A failed attack is a finding, never a missing row."""

    id: str
    key: str = Field(description="hash of everything that decides the result")
    leak: Leak
    attack: str
    title: str
    version: int
    cites: list[str]
    params: dict[str, Any]
    needs: list[Access]
    access: list[Access] = Field(description="what was opened to the attack")
    budget: int | None
    queries: int
    queries_by_access: dict[str, int] = Field(default_factory=dict[str, int])
    control_queries: int = Field(default=0, description="the same attack on the null twin; not part of the budget")
    seconds: float
    seed: int
    case: str
    victim: str
    defenses: list[Applied]
    poisons: list[Applied] = Field(default_factory=list[Applied])
    adversary: Literal["adaptive", "unaware"]
    status: Literal["done", "failed"]
    error: Failure | None = None
    headline: str | None = Field(default=None, description="name of the score the verdict rests on")
    scores: dict[str, Score] = Field(default_factory=dict[str, Score])
    exposed: list[Exposure] = Field(default_factory=list[Exposure])
    groups: list[Group] = Field(default_factory=list[Group])
    spread: list[Spread] = Field(default_factory=list[Spread])
    artifacts: list[Artifact] = Field(default_factory=list[Artifact])
    facts: dict[str, float | str | None] = Field(default_factory=dict[str, float | str | None])
    confounded: str | None = Field(default=None, description="why the score may not be due to the model")
    notes: list[str] = Field(default_factory=list[str])

    @property
    def score(self) -> Score | None:
        """The score the verdict rests on."""
        return None if self.headline is None else self.scores.get(self.headline)


class LeftOut(_Part):
    """An attack that "auto" or the plan left out, and why."""

    attack: str
    leak: Leak
    reason: str
    defenses: list[Applied] = Field(default_factory=list[Applied])


class Check(_Part):
    """Something looked at before the attacks (overlaps, the blind baseline)."""

    name: str
    passed: bool
    message: str
    value: Estimate | None = None


class Preflight(_Part):
    """Whether updates can be read at all, looked at before any attack; one for each arm of the audit."""

    defenses: list[Applied] = Field(default_factory=list[Applied])
    answer: str = Field(description="in a sentence or two: what can be expected, and which assumption fails")
    forecasts: list[Forecast] = Field(description="each attack, planned or left out")
    diagnostics: list[Diagnostic] = Field(description="what was seen of the update and its model, the gravest first")

    @property
    def failing(self) -> list[Diagnostic]:
        """The assumptions that do not hold."""
        return [found for found in self.diagnostics if found.holds == "fails"]


class Verdict(_Part):
    """What can be said about one leak, over all attacks tried."""

    verdict: Ruling
    reasons: list[str]
    uncontrolled: list[str] = Field(default_factory=list[str], description="controls that were missing")
    smallest_effect: float | None = Field(
        default=None, description="the smallest leakage that would have been called a leak, on the headline score"
    )


class GateResult(_Part):
    """A threshold held against the upper bound of the leakage."""

    leak: Leak
    threshold: float
    upper: float | None
    passed: bool
    message: str


class CanaryBound(_Part):
    """What one attack on canaries shows of epsilon."""

    finding: str = Field(description="id of the finding")
    title: str
    alone: float = Field(description="lower bound on epsilon at 95 %, as if this were the only attack")
    bound: float | None = Field(description="the same at the confidence that the verdict asks of each attack")
    guessed: int = Field(description="canaries that were there to be guessed")
    made: int = Field(description="guesses made")
    right: int = Field(description="guesses that were right")


class EpsilonVerdict(_Part):
    """Empirical epsilon: what canaries show of the privacy of the training, beside what is claimed of it."""

    claimed: float | None = Field(description="the epsilon that is claimed; null where none is")
    delta: float
    family: Literal["any", "gaussian"] = Field(description="the mechanisms that the bounds hold for")
    source: str | None = Field(description="who claims it")
    standing: Literal["consistent", "violated", "not informative"] | None = Field(
        description="of the claim; null where there is none"
    )
    bound: float | None = Field(description="lower bound on epsilon over all attacks that decide")
    confidence: float = Field(description="of that bound")
    each_at: float = Field(description="confidence of each attack's bound, corrected for their number")
    tried: int = Field(description="attacks that decide")
    decided_by: str | None = Field(description="id of the finding with the greatest bound")
    reach: float | None = Field(description="the greatest bound that so many canaries can give")
    canaries: int
    included: int
    wanted: int | None = Field(description="canaries that could refute the claim, where these cannot")
    bounds: list[CanaryBound]
    message: str


class Tool(_Part):
    """What made the record."""

    name: str = "seepage"
    version: str


class Config(_Part):
    """The configuration as it was written and as it was resolved (every default filled in)."""

    as_written: dict[str, Any]
    as_resolved: dict[str, Any]


class Run(_Part):
    """About this run rather than about the victim: differs between runs of one configuration."""

    id: str
    started: str
    finished: str
    seconds: float
    processes: int
    resumed: int = Field(default=0, description="how often it was taken up again")
    cached: int = Field(default=0, description="findings taken from earlier runs")


class AuditRecord(_Part):
    """All that an audit found. The truth of a run; reports only read it."""

    schema_version: str = SCHEMA_VERSION
    tool: Tool
    title: str = ""
    run: Run
    environment: dict[str, str]
    config: Config
    victim: dict[str, float | str | None] = Field(description="facts about the victim")
    data: dict[str, float | str | None] = Field(description="facts about the records")
    judge: dict[str, float | str | None] = Field(default_factory=dict[str, float | str | None])
    checks: list[Check] = Field(default_factory=list[Check])
    preflight: list[Preflight] = Field(
        default_factory=list[Preflight], description="of audits of updates: whether they can be read, before any attack"
    )
    findings: list[Finding]
    left_out: list[LeftOut] = Field(default_factory=list[LeftOut])
    verdicts: dict[Leak, Verdict]
    epsilon: EpsilonVerdict | None = Field(
        default=None, description="where canaries were played: what they show of the privacy of the training"
    )
    gates: list[GateResult] = Field(default_factory=list[GateResult])
    limits: list[str] = Field(default_factory=list[str], description="what was not tried and could not be seen")
    _folder: str | None = PrivateAttr(default=None)

    @property
    def folder(self) -> str | None:
        """The run folder it was written to or read from, when there is one."""
        return self._folder

    def in_folder(self, folder: str) -> "AuditRecord":
        """This record, remembering where it lies."""
        self._folder = folder
        return self

    def verdict(self, leak: Leak | str) -> "RulingWithReasons":
        """The verdict on one leak: a string with `.reasons`."""
        found = self.verdicts.get(Leak(leak))
        if found is None:
            return RulingWithReasons("not tried", ["no attack for this leak was part of the audit"])
        return RulingWithReasons(found.verdict, found.reasons)

    def comparable(self) -> dict[str, Any]:
        """The record without what may differ between two runs of one configuration: times, machine, ids."""
        whole = self.model_dump(mode="json")
        for name in ("run", "environment"):
            whole.pop(name)
        for config in whole["config"].values():
            # Where it ran and on how many processes.
            config.pop("run", None)
        for finding in whole["findings"]:
            finding.pop("seconds")
        return whole


class RulingWithReasons(str):
    """A verdict that compares as its text and carries its reasons."""

    reasons: list[str]

    def __new__(cls, text: str, reasons: list[str]) -> "RulingWithReasons":
        made = super().__new__(cls, text)
        made.reasons = reasons
        return made
