"""What can be expected of an attack on updates before it is run: its pre-flight."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Prospect = Literal["expected", "possible", "unlikely", "impossible"]
Holding = Literal["holds", "fails", "unknown", "noted"]


class Outlook(BaseModel):
    """Whether an attack can work on an update, why, and what would change the answer.

    It is said of the model, the update and the assumption ladder alone, never of the records.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    prospect: Prospect = Field(description="expected: its conditions are met; impossible: one of them cannot be")
    why: str = Field(description="the condition that decides, with its figures, in a sentence")
    change: str = Field(default="", description="what would make the answer another one, either way")
    seconds: float | None = Field(default=None, ge=0, description="what a run would take on this machine, roughly")


class Forecast(BaseModel):
    """The outlook of one attack, planned or left out."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    attack: str
    title: str
    left_out: str | None = Field(default=None, description="why it is no part of the audit, when it is not")
    outlook: Outlook | None = Field(description="null where nothing can be said beforehand")


class Diagnostic(BaseModel):
    """One thing seen of an update or of the model it was made with, and what it means for reading records out of it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(description="what was looked at")
    assumption: str = Field(description="what attacks of this kind take for granted")
    holds: Holding = Field(
        description="whether they may: holds, fails, unknown; noted: it decides nothing by itself. "
        "What fails for an attack protects the client"
    )
    found: str = Field(description="what was found, with its figures")
    value: float | None = Field(default=None, description="the figure itself, where there is one")
    means: str = Field(description="what that means, for whom")
    change: str = Field(default="", description="what would make it otherwise, either way")
