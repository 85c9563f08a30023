"""Local training with every record's gradient clipped and noise added: differential privacy of a record."""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from seepage.core.case import Case
from seepage.core.defense import TrainingDefense
from seepage.core.recipe import Recipe
from seepage.models.accounting import gaussian_epsilon, stated
from seepage.models.federated import LocalTraining
from seepage.models.private import PerRecord

UNIT = "record of a client, before a server that sees its update: there or not"


class DPSGD(TrainingDefense):
    """Clips the gradient of every record to l2 norm `clip`, sums, and adds noise of deviation `multiplier * clip`.

    It acts inside the client, at each local step: the recipe's trainer is given the keyword `private`, so the
    updates are made anew. So are reference models, where the adversary has any.

    Epsilon is that of every record's presence, composed over local epochs and rounds, without amplification: batches
    here are not drawn by Poisson sampling, and the server knows which client answered. A record takes part in one
    step an epoch, so T rounds of E epochs are E T Gaussian mechanisms of sensitivity `clip`. For all n records of a
    client together the sensitivity is n times as great.

    Attributes:
        clip: the greatest l2 norm of a record's gradient.
        multiplier: standard deviation of the noise on the sum, in units of `clip`.
        rounds: how many updates a client sends in the whole training.
        delta: the probability with which the guarantee may fail; well below one over the number of records.
    """

    name: ClassVar[str] = "dp-sgd"
    title: ClassVar[str] = "DP-SGD in the client"
    cites: ClassVar[tuple[str, ...]] = (
        "Abadi, Chu, Goodfellow, McMahan, Mironov, Talwar, Zhang 2016, Deep Learning with Differential Privacy, CCS",
    )

    clip: float = Field(default=1.0, gt=0)
    multiplier: float = Field(default=1.0, gt=0)
    rounds: int = Field(default=1, ge=1)
    delta: float = Field(default=1e-5, gt=0, lt=1)

    def facts(self, case: Case) -> Mapping[str, float | str | None]:
        local = None if case.training is None else case.training.recipe.options.get("local")
        if not isinstance(local, LocalTraining):
            return {"dp_epsilon": None, "dp_epsilon_missing": "how often a record is used in a round is not known"}
        epochs = 1 if local.kind == "gradient" else local.epochs
        epsilon = gaussian_epsilon(self.multiplier, self.delta, self.rounds * epochs)
        return stated(epsilon, self.delta, self.rounds, UNIT) | {"dp_local_epochs": float(epochs)}

    def on_recipe(self, recipe: Recipe) -> Recipe:
        """The recipe with `private` set: its trainer has to take it."""
        return recipe.with_options(f"{recipe.name}+{self.name}", private=PerRecord(self.clip, self.multiplier))
