"""The frontier of a sweep: what every setting gives away and what it costs.

Versioned JSON; missing is null with a reason.

Reports read it and nothing else. `Frontier.model_json_schema()` is the published schema
(`schema/frontier.schema.json` in the repository).
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from seepage.core.record import Applied, Estimate, Failure, Ruling, Tool

FRONTIER_VERSION = "1.0"

Role = Literal["choice", "condition"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Axis(_Part):
    """One key of the audit file that was varied."""

    key: str = Field(description="dotted, as in `--set`")
    title: str = Field(description="what reports call it")
    values: list[Any]
    role: Role = Field(
        description="choice: the federation sets it; condition: it comes as it comes, and a choice is held to its worst"
    )


class Strongest(_Part):
    """What all attacks of one measure show on one setting; the strongest of them by leakage."""

    measure: str = Field(description="name of the score the attacks are judged by")
    title: str
    attack: str
    attack_title: str
    value: float
    low: float | None
    high: float | None
    control: float | None = Field(description="the strongest control")
    leakage: Estimate
    upper: float = Field(description="the greatest upper end of the leakage of any attack, not of the strongest alone")
    n: int
    unit: str
    ruling: Ruling
    smallest_effect: float | None = Field(description="the smallest leakage that would have been called a leak")
    tried: list[str] = Field(description="attacks that were played")
    facts: dict[str, float | str | None] = Field(default_factory=dict[str, float | str | None])


class Cost(_Part):
    """What a setting costs: of a federation trained behind it from the model before the first round.

    Attributes are null where they could not be had; `missing` says why.
    """

    accuracy: Estimate | None = Field(
        default=None,
        description="share of held-out records classified rightly; of a model of the next token, of next tokens",
    )
    loss: Estimate | None = Field(
        default=None, description="the same setting without a defense, minus this; over the same records"
    )
    held_out: int = 0
    rounds: int = 0
    clients: int = 0
    repeats: int = 1
    bytes_dense: float | None = Field(default=None, description="a client's update as 32-bit numbers")
    bytes_a_round: float | None = Field(default=None, description="what a client sends in one round")
    bytes_note: str = ""
    seconds_a_round: float | None = Field(default=None, description="CPU seconds of one client in one round")
    seconds_ratio: float | None = Field(default=None, description="to the same setting without a defense")
    dp_epsilon: float | None = Field(default=None, description="over all rounds, where noise gives one")
    dp_delta: float | None = None
    dp_rounds: int | None = None
    dp_unit: str | None = None
    diverged: bool = False
    missing: dict[str, str] = Field(default_factory=dict[str, str], description="what could not be had -> why")


class Row(_Part):
    """One point of a sweep: a setting behind a defense, or behind none. A point that failed is a row with its error."""

    id: str
    setting: dict[str, Any] = Field(description="axis -> value")
    defense: Applied | None = None
    adversary: Literal["adaptive", "unaware"] = "adaptive"
    label: str = Field(description="the setting in words")
    defense_label: str
    status: Literal["done", "failed"]
    error: Failure | None = None
    run: str | None = Field(default=None, description="folder of the audit, beside the sweep's")
    seed: int
    leaks: dict[str, Strongest] = Field(default_factory=dict[str, Strongest], description="by measure")
    failed: dict[str, str] = Field(default_factory=dict[str, str], description="attack that failed -> why")
    left_out: dict[str, str] = Field(default_factory=dict[str, str], description="attack that was not played -> why")
    cost: Cost | None = None
    notes: list[str] = Field(default_factory=list[str])


class Advice(_Part):
    """One recommendation, or one thing that can or cannot be said, in words, with the rows it rests on."""

    kind: Literal["recommended", "none", "recoverable", "inconclusive", "failed", "labels", "privacy", "limits"]
    text: str
    rows: list[str] = Field(default_factory=list[str])


class SweepRun(_Part):
    """About this run rather than about the federation."""

    id: str
    started: str
    finished: str
    seconds: float = Field(description="by the clock, of this call; results that were there already cost nothing")
    processes: int
    reused: int = Field(description="points that an interrupted call had finished")


class Frontier(_Part):
    """All that a sweep found."""

    schema_version: str = FRONTIER_VERSION
    tool: Tool
    title: str
    run: SweepRun
    environment: dict[str, str]
    axes: list[Axis]
    measure: str | None = Field(description="the score the recommendation rests on; null when nothing was measured")
    tolerance: float = Field(description="the leakage whose upper bound a recommended setting stays within")
    tolerance_from: str
    rows: list[Row]
    confirmation: list[Row] = Field(
        default_factory=list[Row], description="the recommended choice audited again with other clients"
    )
    advice: list[Advice]
    rules: list[str] = Field(description="how the recommendation was made")
    config: dict[str, Any] = Field(description="the sweep file as written")
