"""Membership of canaries: the secret is how the coins fell that put records into the training data or left them out.

Included and left-out canaries are alike but for their coins, drawn independently of all else: nothing but the model can
tell them apart, so that no other control is needed. They are no random members: what is found of them bounds how
private the training was, and says nothing of how exposed an ordinary member is.
"""

from dataclasses import replace

from seepage.cases.world import World
from seepage.core.canaries import GRADIENT, Canaries
from seepage.core.case import Case
from seepage.core.knowledge import MembershipKnowledge
from seepage.core.secrets import CanarySecret
from seepage.core.vocabulary import Leak

NAME = "canaries"


def obstacle(world: World) -> str | None:
    """Why no canaries can be told apart in this world, or None when they can."""
    if world.canaries is None or world.canaries.kind == GRADIENT:
        return "it needs canaries: records that fair coins put into the training data ([canaries])"
    return None


def obstacle_gradients(world: World) -> str | None:
    """Why no gradient canaries can be told apart in this world, or None when they can."""
    if world.canaries is None or world.canaries.kind != GRADIENT:
        return 'it needs gradient canaries, put into the steps of DP-SGD ([canaries] kind = "gradient")'
    return None


def _canaries(world: World) -> Canaries:
    if world.canaries is None:
        raise ValueError("this needs canaries")
    return world.canaries


def knowledge(world: World, form: str = NAME) -> MembershipKnowledge:
    """What the adversary holds before the first query: the canaries, not which were included."""
    records = _canaries(world).records
    return MembershipKnowledge(public=world.public, candidates=replace(records, ids=(), source=""))


def build(world: World, form: str = NAME) -> Case:
    """The canaries of a world. Ask `obstacle` first."""
    canaries = _canaries(world)
    training = world.training
    if training is not None:
        # Where the victim is retrained (behind a defense), no twin is: there is no use for one.
        training = replace(training, null_recipe=None, null_members=None)
    return Case(
        leak=Leak.MEMBERSHIP,
        name=NAME,
        victim=world.victim,
        knowledge=knowledge(world),
        secret=CanarySecret(
            is_member=canaries.included, candidates=canaries.records, claim=world.claim, seed=canaries.seed
        ),
        training=training,
        facts={"canaries": float(len(canaries)), "canaries_included": float(canaries.included.sum())},
        seed=world.seed,
    )
