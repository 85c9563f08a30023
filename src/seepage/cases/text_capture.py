"""A captured update of texts that nobody here knows: attacked and looked at, never scored."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from seepage.cases.gradient_texts import alone
from seepage.cases.replay import TextReplay
from seepage.cases.scene import Scene
from seepage.core.assumptions import Assumptions
from seepage.core.case import Case
from seepage.core.guess import Guess, Texts
from seepage.core.knowledge import TextGradientKnowledge
from seepage.core.secrets import CapturedSecret
from seepage.core.seeds import stream
from seepage.core.victim import Update, Updates
from seepage.core.vocabulary import Access, Leak
from seepage.models.text_clients import TextNet

_BATCH = (
    "the texts that the client trained on, with their classes where it tells them apart ([data] members, or batch= in "
    "Python)"
)
# Tokens of a text drawn at random.
_DRAWN = 12


@dataclass(frozen=True, kw_only=True)
class TextCapture(Scene):
    """An update of texts, the model it is of, and what is known of its making; `members` are no texts.

    Attributes:
        open_net: gives the model as the server sent it; called once.
        spec: none, since a text is no array.
        update: what was captured.
        ladder: what the adversary knows of its making.
    """

    of: ClassVar[str] = "a captured update of texts"

    open_net: Callable[[], TextNet]
    update: Update
    ladder: Assumptions
    spec: None = None

    @cached_property
    def net(self) -> TextNet:
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


def obstacle(scene: TextCapture) -> str | None:
    """A captured update can always be attacked."""
    return None


def knowledge(scene: TextCapture, form: str = "text") -> TextGradientKnowledge:
    """What the adversary holds: the model, the public texts, and what is known of the round."""
    return TextGradientKnowledge(
        public=scene.public,
        net=scene.net,
        classes=scene.net.classes,
        clients=1,
        assumptions=scene.ladder,
    )


def build(scene: TextCapture, form: str = "text") -> Case:
    """The case of a captured update: its secret is what the update itself says of the texts guessed.

    What is guessed without it are tokens at random, and what public texts suggest.
    """
    batch = scene.ladder.batch.value
    n = 1 if batch is None else int(batch)
    return Case(
        leak=Leak.GRADIENT,
        name="captured update of texts",
        victim=scene.victim,
        knowledge=knowledge(scene),
        secret=CapturedSecret(replay=TextReplay(scene.net, scene.update, scene.ladder)),
        baselines={"random_tokens": _random(scene, n), **alone(scene.net, scene.public, 1, n, scene.seed)},
        missing={"null_model": _BATCH, "no_model": _BATCH},
        seed=scene.seed,
    )


def _random(scene: TextCapture, n: int) -> Guess:
    """`n` texts of tokens drawn from the whole vocabulary, but for the padding."""
    net, rng = scene.net, stream(scene.seed, "baseline", "tokens")
    known = np.setdiff1d(np.arange(net.vocabulary), [net.pad])
    size = min(_DRAWN, net.length)
    return Texts((tuple(net.write(rng.choice(known, size).tolist()) for _ in range(n)),))
