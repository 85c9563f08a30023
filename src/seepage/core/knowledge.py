"""What the adversary knows before the first query. One class a leak, all with the same base.

Nothing here may come from the secret: an attack receives knowledge and a target, and no more.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int

from seepage.core.assumptions import Assumptions
from seepage.core.errors import ConfigError
from seepage.core.recipe import Recipe
from seepage.core.records import Records
from seepage.core.references import ReferenceSource
from seepage.core.shadows import Shadows, ShadowSource
from seepage.core.spec import InputSpec

if TYPE_CHECKING:
    from seepage.core.defense import Defense

Array = np.ndarray


@dataclass(frozen=True)
class Knowledge:
    """Common to all leaks.

    Attributes:
        public: records the adversary may own, of other people or from other sources.
        recipe: how victims like this one are trained, for reference models. Behind a defense the
            adversary knows, this trains defended ones (adaptive by default).
        defenses: the defenses the adversary knows of.
    """

    public: Records | None = None
    recipe: Recipe | None = None
    defenses: tuple["Defense", ...] = ()


@runtime_checkable
class PriorSource(Protocol):
    """Where the adversary gets a prior from: trained on public records once, then kept (`seepage.models.priors`)."""

    def get(self, kind: str, public: Records, spec: InputSpec, **options: Any) -> Any: ...


@dataclass(frozen=True)
class InversionKnowledge(Knowledge):
    """Inversion: which classes to recover, and what one input looks like.

    Attributes:
        spec: one input, as the adversary knows it.
        classes: (c,) the classes to recover.
        priors: where priors come from; None trains them anew from `public`.
        captured: how many answers to private records are in the adversary's hands (`Target.captured_scores`).
    """

    spec: InputSpec = field(kw_only=True)
    classes: Int[Array, " c"] = field(kw_only=True)
    priors: PriorSource | None = field(default=None, kw_only=True)
    captured: int = field(default=0, kw_only=True)


@dataclass(frozen=True)
class TextInversionKnowledge(Knowledge):
    """Inversion of texts: how many of their vectors are in the adversary's hands (`Target.captured_embeddings`)."""

    captured: int = field(kw_only=True)


@dataclass(frozen=True)
class MembershipKnowledge(Knowledge):
    """Membership: the records asked about, with their classes, in an order that tells nothing.

    Attributes:
        candidates: the records asked about.
        references: where reference models come from; None where the adversary trains none.
    """

    candidates: Records = field(kw_only=True)
    references: ReferenceSource | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class PropertyKnowledge(Knowledge):
    """Property inference: how large a group's share is said to be, and models trained at other shares.

    Attributes:
        asked: public records held back for asking: no shadow model was trained on them.
        asked_group: (n,) which of these are of the group.
        share: the group's share in the training set, as far as the public knows.
        models: how many models are asked about.
        shadows: where shadow models come from.
    """

    asked: Records = field(kw_only=True)
    asked_group: Bool[Array, " n"] = field(kw_only=True)
    share: float = field(kw_only=True)
    models: int = field(kw_only=True)
    shadows: ShadowSource = field(kw_only=True)

    def trained(self) -> Shadows:
        """The shadow models, as the adversary trains them.

        Raises:
            ConfigError: without a recipe.
        """
        if self.recipe is None:
            raise ConfigError("shadow models are trained by a recipe, and none is known: give the victim's")
        return self.shadows.get(self.recipe, self.defenses)


@dataclass(frozen=True)
class AttributeKnowledge(Knowledge):
    """Attribute inference: records with one column unknown.

    Attributes:
        partial: the records, NaN in the unknown column; `y` is the true class where it is known.
        column: index of the unknown column.
        values: (v,) the values it can take.
    """

    partial: Records = field(kw_only=True)
    column: int = field(kw_only=True)
    values: Array = field(kw_only=True)


@dataclass(frozen=True)
class UpdateKnowledge(Knowledge):
    """Gradient inversion, of whatever records: the model before the round, and how many clients' updates.

    Attributes:
        net: the model as the server sent it (`seepage.models.federated.ClientNet`, or `TextNet` for texts); None
            where an attack reads the tensors alone.
        classes: how many classes it tells apart.
        clients: how many updates there are.
        assumptions: the ladder: what else is known of the making of the updates.
    """

    net: Any = field(default=None, kw_only=True)
    classes: int = field(default=0, kw_only=True)
    clients: int = field(default=1, kw_only=True)
    assumptions: Assumptions = field(default_factory=Assumptions, kw_only=True)


@dataclass(frozen=True)
class GradientKnowledge(UpdateKnowledge):
    """Gradient inversion of arrays: besides, the form of one input.

    Attributes:
        spec: one input, as the adversary knows it.
        priors: where priors come from; None trains them anew from `public`.
    """

    spec: InputSpec = field(kw_only=True)
    priors: PriorSource | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class TextGradientKnowledge(UpdateKnowledge):
    """Gradient inversion of texts: the model comes with its tokenizer, and no more is to be known of an input."""


@dataclass(frozen=True)
class ExtractionKnowledge(Knowledge):
    """Extraction: prompts, how many tokens to recover after each, and text the adversary may own."""

    prompts: tuple[str, ...] = field(kw_only=True)
    length: int = field(kw_only=True)
    public_text: tuple[str, ...] = field(default=(), kw_only=True)


@dataclass(frozen=True)
class StealingKnowledge(Knowledge):
    """Stealing: what one input looks like and how many classes there are."""

    spec: InputSpec = field(kw_only=True)
    classes: int = field(kw_only=True)
