"""Clients whose model has a variational bottleneck before its last layer: gradients hang on noise drawn inside."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from seepage.core.case import Case
from seepage.core.defense import TrainingDefense
from seepage.core.knowledge import UpdateKnowledge
from seepage.core.recipe import Recipe
from seepage.models.bottleneck import Bottleneck, stochastic, with_bottleneck
from seepage.models.federated import ClientNet


class Precode(TrainingDefense):
    """Puts a variational bottleneck before the last layer of the model that all clients are sent.

    Features are encoded as mean and deviation of a code of `size` numbers, which is drawn anew at every pass in "train"
    mode, and decoded again; `beta` times the divergence of the code from a standard normal one joins the loss. The
    server has the extended model, and not what was drawn. The bottleneck is fresh: a model that was trained before the
    round has to be trained on with it.

    Who knows the defense leaves the gradients of the bottleneck and of the layer behind it out of what is matched, and
    takes the mean code for the one that was drawn (`left_out`): the bypass of Balunovic et al. 2022.

    Attributes:
        size: numbers in the code.
        beta: weight of the divergence in the loss.
        seed: of the bottleneck's first weights, which everyone has.
    """

    name: ClassVar[str] = "precode"
    title: ClassVar[str] = "PRECODE, a variational bottleneck"
    cites: ClassVar[tuple[str, ...]] = (
        "Scheliga, Mäder, Seeland 2022, PRECODE: A Generic Model Extension to Prevent Deep Gradient Leakage, WACV",
        "Balunovic, Dimitrov, Staab, Vechev 2022, Bayesian Framework for Gradient Leakage, ICLR (the bypass)",
    )
    retrains: ClassVar[bool] = True
    extends: ClassVar[bool] = True

    size: int = Field(default=256, ge=1)
    beta: float = Field(default=1e-3, ge=0)
    seed: int = Field(default=0, ge=0)

    @property
    def _bottleneck(self) -> Bottleneck:
        return Bottleneck(self.size, self.beta, self.seed)

    def facts(self, case: Case) -> Mapping[str, float | str | None]:
        known = case.knowledge
        if not isinstance(known, UpdateKnowledge) or not isinstance(known.net, ClientNet):
            return {}
        return {"weights_added": float(self.on_net(known.net).parameters - known.net.parameters)}

    def on_net(self, net: Any) -> Any:
        """The model with the bottleneck.

        Raises:
            ModelError: when its logits do not come from a fully connected layer.
        """
        return with_bottleneck(net, self._bottleneck) if isinstance(net, ClientNet) else net

    def on_recipe(self, recipe: Recipe) -> Recipe:
        """The recipe with `bottleneck` set: its trainer has to take it."""
        return recipe.with_options(f"{recipe.name}+{self.name}", bottleneck=self._bottleneck)

    def left_out(self, net: Any) -> frozenset[str]:
        """The parameters of the bottleneck and of the layer behind it."""
        return stochastic(net) if isinstance(net, ClientNet) else frozenset()
