"""Small cases whose truth is known, fast enough to play an attack on many times.

inversion_case      six private templates of 1x12x12, public pictures of ten others, a twin, a recipe
record_inversion_case   the same, answers to single records captured
text_inversion_case     sentences of a small language, captured through an encoder (`seepage.testing.texts`)
gradient_case       three clients with two pictures of 1x8x8 each, who send gradients of a small ReLU network
text_gradient_case  three clients with two texts each, who train a small decoder (`seepage.testing.text_clients`)
gradient_canaries_case  a network whose gradient canaries moved by their coins and noise
membership_case     members and others told apart by a known shift, a twin without members, a recipe
property_case       models that move with the share of a group they were trained on (`seepage.testing.property`)
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float

from seepage.audit.halves import Public
from seepage.audit.references import Shelf
from seepage.core.assumptions import Assumptions, Rung
from seepage.core.attack import Attack
from seepage.core.case import Case, Training
from seepage.core.errors import ConfigError
from seepage.core.guess import Posterior, Reconstruction, Scores
from seepage.core.knowledge import GradientKnowledge, InversionKnowledge, MembershipKnowledge
from seepage.core.recipe import Recipe
from seepage.core.records import Records
from seepage.core.secrets import CanarySecret, GradientSecret, InversionSecret, MembershipSecret
from seepage.core.seeds import stream
from seepage.core.spec import InputSpec
from seepage.core.vocabulary import Access, Leak, Modality
from seepage.models.client_nets import client_net
from seepage.models.federated import ClientNet, LocalTraining, round_recipe
from seepage.models.gradient_canaries import WithCanaries
from seepage.models.nets import softmax_regression
from seepage.targets.torch import TorchModel
from seepage.testing.judges import TemplateJudge
from seepage.testing.property import property_case
from seepage.testing.text_clients import text_gradient_case
from seepage.testing.texts import text_inversion_case
from seepage.testing.victims import GaussianMembershipVictim, TemplateVictim

Array = np.ndarray
CaseFactory = Callable[[int], Case]

CLASSES = 6
OTHERS = 10
REFERENCES = 6
SIDE = 12


def smooth_pictures(n: int, rng: np.random.Generator, side: int = SIDE) -> Float[Array, " n 1 h w"]:
    """Pictures in [0, 1] made of low frequencies, as pictures of things are: (n, 1, side, side) float32."""
    grid = (np.arange(side) + 0.5) / side
    waves = np.cos(np.pi * np.arange(4)[:, None] * grid[None])
    drawn = np.einsum("nij,ih,jw->nhw", rng.normal(size=(n, 4, 4)), waves, waves)
    drawn /= np.abs(drawn).max(axis=(1, 2), keepdims=True)
    return (0.5 + 0.45 * drawn)[:, None].astype(np.float32)


def _snapshots(pictures: Float[Array, " k ..."], each: int, rng: np.random.Generator, name: str) -> Records:
    """`each` noisy pictures of every thing."""
    y = np.repeat(np.arange(len(pictures)), each)
    x = np.clip(pictures[y] + rng.normal(scale=0.03, size=(len(y), *pictures.shape[1:])), 0, 1)
    return Records(x.astype(np.float32), y, tuple(f"{name} {c}" for c in range(len(pictures))))


def class_means(records: Records, seed: int, width: float | None = None) -> TemplateVictim:
    """A trainer: a victim with the mean record of every class as its template, `width` wide. Draws nothing."""
    count = len(records.class_names)
    return TemplateVictim(np.stack([records.of_class(c).x.mean(axis=0) for c in range(count)]), width=width)


def inversion_case(seed: int) -> Case:
    """Class inversion of a `TemplateVictim`: a perfect reconstruction of class c is its c-th template."""
    rng = stream(seed, "testing", "inversion")
    private = smooth_pictures(CLASSES, rng)
    members = _snapshots(private, 5, rng, "private")
    others = _snapshots(smooth_pictures(CLASSES, rng), 5, rng, "other")
    public = _snapshots(smooth_pictures(OTHERS, rng), 4, rng, "public")
    training = Training(
        recipe=Recipe(class_means, members, "class means"),
        members=np.arange(len(members)),
        seed=seed,
        null_recipe=Recipe(class_means, others, "class means"),
        null_members=np.arange(len(others)),
    )
    victim, null = training.fit()
    spec = InputSpec((1, SIDE, SIDE))
    classes = np.arange(CLASSES)
    someone = Reconstruction(public.x[rng.permutation(len(public))[:CLASSES]], classes)
    return Case(
        leak=Leak.INVERSION,
        name="templates",
        victim=victim,
        knowledge=InversionKnowledge(
            public=public, recipe=Recipe(class_means, public, "class means"), spec=spec, classes=classes
        ),
        secret=InversionSecret(records=members, judge=TemplateJudge(private)),
        null=null,
        baselines={"public record": someone},
        training=training,
        seed=seed,
    )


def record_inversion_case(seed: int) -> Case:
    """The same, the adversary holding the answers to one member of every class and going for that record."""
    case = inversion_case(seed)
    secret = case.secret
    if not isinstance(secret, InversionSecret) or not isinstance(case.knowledge, InversionKnowledge):
        raise TypeError("an inversion case was wanted")
    captured = secret.records[np.arange(CLASSES) * 5 + 2]
    knowledge = replace(case.knowledge, captured=len(captured))
    public = knowledge.public
    mean = np.zeros_like(captured.x[:1]) if public is None else public.x.mean(axis=0, keepdims=True)
    return replace(
        case,
        name="records behind answers",
        knowledge=knowledge,
        secret=replace(secret, captured=captured),
        null=case.victim,
        null_knowledge=knowledge,
        baselines={"public_mean": Reconstruction(np.repeat(mean, len(captured), axis=0).astype(np.float32))},
        training=None,
        captured=captured.x,
        null_captured=np.roll(captured.x, 1, axis=0),
    )


def gradient_case(seed: int, form: str = "", local: LocalTraining | None = None) -> Case:
    """Gradient inversion of a ReLU network with a fully connected first layer; the control has other pictures."""
    rng = stream(seed, "testing", "gradient")
    spec, side, classes, clients, each = InputSpec((1, 8, 8)), 8, 4, 3, 2
    local = local or LocalTraining()
    net = ClientNet(client_net("relu-mlp", spec.shape, classes, seed, hidden=40), spec, classes)
    names = tuple("abcd")

    def drawn(n: int) -> Records:
        return Records(smooth_pictures(n, rng, side), rng.integers(classes, size=n), names)

    private, other, public = drawn(clients * each), drawn(clients * each), drawn(40)
    owner = np.repeat(np.arange(clients), each)

    training = Training(
        recipe=round_recipe(net, local, private, each),
        members=np.arange(len(private)),
        seed=seed,
        null_recipe=round_recipe(net, local, other, each, "other clients"),
        null_members=np.arange(len(other)),
    )
    victim, null = training.fit()
    known = Assumptions(
        batch=Rung.known(each),
        rate=Rung.known(local.rate),
        local_batch=Rung.known(local.batch or each),
        steps=Rung.known(local.steps(each)),
        epochs=Rung.known(local.epochs),
        mode=Rung.known(local.mode),
        prior=Rung.known("public records"),
    )
    mean = np.repeat(public.x.mean(axis=0, keepdims=True), len(private), axis=0)
    even = Posterior(np.full((clients, classes), 1 / classes))
    return Case(
        leak=Leak.GRADIENT,
        name="small network",
        victim=victim,
        knowledge=GradientKnowledge(
            public=public, spec=spec, net=net, classes=classes, clients=clients, assumptions=known
        ),
        secret=GradientSecret(batch=private, client=owner, others=drawn(40)),
        null=null,
        baselines={"even": even} if form == "labels" else {"public_mean": Reconstruction(mean, client=owner)},
        training=training,
        seed=seed,
    )


def membership_case(
    seed: int,
    mu: float = 1.0,
    members: int = 60,
    others: int = 60,
    modality: Modality = Modality.TABLE,
    weights: bool = False,
) -> Case:
    """Membership of a `GaussianMembershipVictim`: the loss attack's AUC is Phi(mu / sqrt 2).

    That victim has no weights. With `weights` it is a `TemplateVictim` instead, whose templates are its members.
    """
    rng = stream(seed, "testing", "membership")
    shape = (1, 3, 3) if modality is Modality.IMAGE else (9,)
    total = members + others
    x = rng.random((2 * total, *shape)).astype(np.float32)
    spec = InputSpec(shape, modality=modality)
    y = GaussianMembershipVictim(Records(x[:0], modality=modality), mu, spec=spec).rule(x)
    pool = Records(x[:total], y[:total], ("a", "b"), modality=modality)
    public = Records(x[total:], y[total:], ("a", "b"), modality=modality)

    def train(records: Records, seed: int) -> GaussianMembershipVictim | TemplateVictim:
        if weights:
            return TemplateVictim(records.x, records.labels(), spec, width=0.05)
        return GaussianMembershipVictim(records, mu, seed=seed, spec=spec)

    training = Training(
        recipe=Recipe(train, pool, "gaussian"),
        members=np.arange(members),
        seed=seed,
        null_recipe=Recipe(train, public, "gaussian"),
        null_members=np.arange(members),
    )
    victim, null = training.fit()
    order = rng.permutation(total)
    candidates = pool[order]
    recipe = Recipe(train, public, "gaussian")
    # The population is of no training, the twin's and the references' included.
    people = public[np.arange(members, total)]
    shelf = Shelf(
        recipe, candidates, Public(None, people), spec, total // 2, REFERENCES, 2, seed, folder=None, identity=None
    )
    # Trained now: an attack that finds them untrained changes what it was given, as far as anyone can see.
    shelf.get()
    return Case(
        leak=Leak.MEMBERSHIP,
        name="templates" if weights else "gaussian",
        victim=victim,
        knowledge=MembershipKnowledge(public=public, recipe=recipe, candidates=candidates, references=shelf),
        secret=MembershipSecret(is_member=order < members, candidates=candidates),
        null=null,
        baselines={"coin": Scores(rng.random(total))},
        training=training,
        seed=seed,
    )


def gradient_canaries_case(seed: int, count: int = 60) -> Case:
    """A network with gradient canaries, each moved by its coin and as much noise: a Gaussian mechanism of mu 1."""
    rng = stream(seed, "testing", "gradient canaries")
    coins = rng.random(count) < 0.5
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = WithCanaries(softmax_regression((9,), 2), count)
    moved = torch.from_numpy(coins + rng.normal(size=count)).float()
    net.gradient_canaries.weight.data[0] = moved
    spec = InputSpec((9,), modality=Modality.TABLE)
    blank = Records(np.zeros((count, 9), np.float32), np.zeros(count, np.int64), ("a", "b"), modality=Modality.TABLE)
    return Case(
        leak=Leak.MEMBERSHIP,
        name="canaries",
        victim=TorchModel(net.eval(), spec),
        knowledge=MembershipKnowledge(candidates=blank),
        secret=CanarySecret(is_member=coins, candidates=blank, seed=seed),
        seed=seed,
    )


def case_for(attack: type[Attack]) -> CaseFactory:
    """A factory of small cases that such an attack can be played on, from a seed.

    Raises:
        ConfigError: for a leak that has no small case here; the caller should give one.
    """
    if attack.leak is Leak.INVERSION and attack.form == "text":
        return text_inversion_case
    if attack.leak is Leak.INVERSION:
        return record_inversion_case if attack.form == "record" else inversion_case
    if attack.leak is Leak.GRADIENT and attack.form == "text":
        return text_gradient_case
    if attack.leak is Leak.GRADIENT:
        return lambda seed: gradient_case(seed, attack.form)
    if attack.leak is Leak.MEMBERSHIP and attack.form == "gradients":
        return gradient_canaries_case
    if attack.leak is Leak.MEMBERSHIP and attack.form == "property":
        return property_case
    if attack.leak is Leak.MEMBERSHIP:
        modality = Modality.TABLE if Modality.TABLE in attack.modalities else Modality.IMAGE
        return lambda seed: membership_case(seed, modality=modality, weights=Access.WEIGHTS in attack.needs)
    raise ConfigError(f"no small case of the leak '{attack.leak}' comes with seepage.testing: give one as `case`")
