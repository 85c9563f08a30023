"""A captured update whose batch nobody here knows: attacked and looked at, never scored."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from seepage.cases.replay import UpdateReplay
from seepage.cases.scene import Scene
from seepage.core.assumptions import Assumptions
from seepage.core.case import Case
from seepage.core.guess import Guess, Reconstruction
from seepage.core.knowledge import GradientKnowledge, PriorSource
from seepage.core.secrets import CapturedSecret
from seepage.core.spec import InputSpec
from seepage.core.victim import Update, Updates
from seepage.core.vocabulary import Access, Leak
from seepage.models.federated import ClientNet

Array = np.ndarray

_BATCH = "the records that the client trained on, with their classes ([data] members, or batch= in Python)"


@dataclass(frozen=True, kw_only=True)
class Capture(Scene):
    """An update, the model it is of, and what is known of its making; `members` are no records.

    Attributes:
        open_net: gives the model as the server sent it; called once.
        spec: what one input looks like.
        update: what was captured.
        ladder: what the adversary knows of its making.
        priors: where the adversary gets its priors from.
    """

    open_net: Callable[[], ClientNet]
    spec: InputSpec
    update: Update
    ladder: Assumptions
    priors: PriorSource | None = None

    @cached_property
    def net(self) -> ClientNet:
        """The model before the round."""
        return self.open_net()

    @property
    def offers(self) -> frozenset[Access]:
        return frozenset({Access.UPDATES})

    @property
    def victim(self) -> Updates:
        return Updates((self.update,))

    @property
    def twin_missing(self) -> str | None:
        return _BATCH


def obstacle(scene: Capture) -> str | None:
    """A captured update can always be attacked."""
    return None


def knowledge(scene: Capture, form: str = "") -> GradientKnowledge:
    """What the adversary holds: the model, the public records, and what is known of the round."""
    return GradientKnowledge(
        public=scene.public,
        spec=scene.spec,
        net=scene.net,
        classes=scene.net.classes,
        clients=1,
        assumptions=scene.ladder,
        priors=scene.priors,
    )


def build(scene: Capture, form: str = "") -> Case:
    """The case of a captured update: its secret is what the update itself says of a reconstruction."""
    batch = scene.ladder.batch.value
    n = 1 if batch is None else int(batch)
    shape, bounds = scene.spec.shape, scene.spec.bounds
    middle = np.broadcast_to((bounds.low + bounds.high) / 2, (n, *shape)).astype(np.float32)
    baselines: dict[str, Guess] = {}
    if form != "labels":
        baselines["constant"] = Reconstruction(middle)
        if scene.public is not None and len(scene.public):
            mean = scene.public.x.mean(axis=0, keepdims=True).astype(np.float32)
            baselines["public_mean"] = Reconstruction(np.repeat(mean, n, axis=0))
    return Case(
        leak=Leak.GRADIENT,
        name="labels of a captured update" if form == "labels" else "captured update",
        victim=scene.victim,
        knowledge=knowledge(scene),
        secret=CapturedSecret(replay=UpdateReplay(scene.net, scene.update, scene.ladder)),
        baselines=baselines,
        missing={"null_model": _BATCH, "no_model": _BATCH},
        seed=scene.seed,
    )
