"""What can be expected of an attack on updates before it is run: its pre-flight."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Prospect = Literal["expected", "possible", "unlikely", "impossible"]


class Outlook(BaseModel):
    """Whether an attack can work on an update, why, and what would change the answer.

    It is said of the model, the update and the assumption ladder alone, never of the records.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    prospect: Prospect = Field(description="expected: its conditions are met; impossible: one of them cannot be")
    why: str = Field(description="the condition that decides, with its figures, in a sentence")
    change: str = Field(default="", description="what would make the answer another one, either way")
    seconds: float | None = Field(default=None, ge=0, description="what a run would take on this machine, roughly")
