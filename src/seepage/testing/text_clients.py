"""Clients who train a small transformer on texts that are token numbers, for attacks on their updates.

text_gradient_case   three clients with two texts of six tokens each, who send gradients of a decoder 64 numbers wide
random_texts         texts of chance tokens
played_on            the guess of an attack on one batch
"""

import numpy as np

from seepage.core.assumptions import Assumptions, Rung
from seepage.core.attack import TextGradientAttack
from seepage.core.case import Case, Training
from seepage.core.guess import Texts
from seepage.core.knowledge import TextGradientKnowledge
from seepage.core.records import Records
from seepage.core.secrets import GradientSecret
from seepage.core.seeds import stream
from seepage.core.target import Target
from seepage.core.victim import Update, Updates
from seepage.core.vocabulary import Leak
from seepage.models.federated import LocalTraining
from seepage.models.text_clients import TextNet, text_recipe
from seepage.models.text_nets import text_net

CLIENTS, EACH, LENGTH, VOCABULARY, CLASSES = 3, 2, 6, 120, 2


def random_texts(n: int, length: int, vocabulary: int, rng: np.random.Generator) -> tuple[str, ...]:
    """`n` texts of `length` chance tokens each, written as token numbers; 0 is the padding and is never drawn."""
    return tuple(" ".join(map(str, row)) for row in rng.integers(1, vocabulary, size=(n, length)).tolist())


def text_gradient_case(seed: int, name: str = "tiny-gpt") -> Case:
    """Gradient inversion of texts; the control has other texts, and a perfect guess is the texts themselves."""
    rng = stream(seed, "testing", "text gradient")
    net = text_net(name, VOCABULARY, CLASSES, seed, width=64, layers=2, heads=2, length=16)
    local, owner = LocalTraining(mode="eval"), np.repeat(np.arange(CLIENTS), EACH)

    def drawn(n: int) -> Records:
        return Records.of_texts(
            random_texts(n, LENGTH, VOCABULARY, rng), y=rng.integers(CLASSES, size=n), class_names=("a", "b")
        )

    private, other, public = drawn(CLIENTS * EACH), drawn(CLIENTS * EACH), drawn(40)
    members = np.arange(CLIENTS * EACH)
    training = Training(
        recipe=text_recipe(net, local, private, EACH),
        members=members,
        seed=seed,
        null_recipe=text_recipe(net, local, other, EACH, "other clients"),
        null_members=members,
    )
    victim, null = training.fit()
    known = Assumptions(batch=Rung.known(EACH), steps=Rung.known(1), mode=Rung.known("eval"))
    return Case(
        leak=Leak.GRADIENT,
        name="small transformer",
        victim=victim,
        knowledge=TextGradientKnowledge(public=public, net=net, classes=CLASSES, clients=CLIENTS, assumptions=known),
        secret=GradientSecret(batch=private, client=owner),
        null=null,
        training=training,
        baselines={"public_text": Texts(tuple((public.texts[2 * c], public.texts[2 * c + 1]) for c in range(CLIENTS)))},
        seed=seed,
    )


def played_on(
    attack: TextGradientAttack, net: TextNet, update: Update, batch: int | None, seed: int = 0
) -> tuple[str, ...]:
    """The texts that an attack guesses from one update, by an adversary who is told the batch (or is not)."""
    told = Assumptions(mode=Rung.known("eval"))
    if batch is not None:
        told = Assumptions(batch=Rung.known(batch), mode=Rung.known("eval"))
    knowledge = TextGradientKnowledge(net=net, classes=net.classes, clients=1, assumptions=told)
    return attack.run(Target(Updates((update,)), attack.needs), knowledge, stream(seed, "testing", "played")).values[0]
