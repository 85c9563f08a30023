"""Clients that leave entries of the last layer's gradient out: the representation they give away is made poorer."""

from typing import Any, ClassVar

from pydantic import Field

from seepage.core.defense import TrainingDefense
from seepage.core.recipe import Recipe
from seepage.models.federated import ClientNet
from seepage.models.last_layer import last_layer
from seepage.models.soteria import PrunedFeatures


class Soteria(TrainingDefense):
    """Sends zero for the entries of the last layer's weights that belong to the share `prune` of the features.

    Left out are the features f_j that move least with the records for their size, |d f_j / dx| / f_j summed over the
    batch: without them, a record found from the representation lies as far off as can be. It acts inside the client,
    at each local step, for it needs model and records; features that are zero for the whole batch come first, so that
    behind a ReLU a small share leaves out nothing.

    The other tensors are sent as they are. Who knows the defense drops this one from what is matched (`left_out`):
    the bypass of Balunovic et al. 2022.

    Attributes:
        prune: share of the features whose entries are left out.
    """

    name: ClassVar[str] = "soteria"
    title: ClassVar[str] = "Soteria, a pruned representation"
    cites: ClassVar[tuple[str, ...]] = (
        "Sun, Li, Wang, Yang, Li, Chen 2021, Soteria: Provable Defense against Privacy Leakage in Federated Learning "
        "from Representation Perspective, CVPR",
        "Balunovic, Dimitrov, Staab, Vechev 2022, Bayesian Framework for Gradient Leakage, ICLR (the bypass)",
    )
    retrains: ClassVar[bool] = True

    prune: float = Field(default=0.8, gt=0, lt=1)

    def on_recipe(self, recipe: Recipe) -> Recipe:
        """The recipe with `pruned` set: its trainer has to take it."""
        return recipe.with_options(f"{recipe.name}+{self.name}", pruned=PrunedFeatures(self.prune))

    def left_out(self, net: Any) -> frozenset[str]:
        """The weights of the last layer."""
        last = last_layer(net) if isinstance(net, ClientNet) else None
        return frozenset() if last is None else frozenset({last.weight})
