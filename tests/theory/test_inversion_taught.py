"""The attacks that train a GAN under the target's eyes: their losses by hand, their choices by brute force."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from seepage.attacks.inversion import taught
from seepage.attacks.inversion.chen2021 import KEDMI, TaughtCritic, drawn
from seepage.attacks.inversion.parts import margin
from seepage.attacks.inversion.taught_nets import Sketch, begun
from seepage.attacks.inversion.yuan2023 import PLGMI
from seepage.core.case import Case
from seepage.core.errors import ConfigError, ModelError
from seepage.core.guess import Reconstruction
from seepage.core.knowledge import InversionKnowledge
from seepage.core.records import Records
from seepage.core.seeds import stream
from seepage.core.spec import Bounds, InputSpec
from seepage.core.target import Target
from seepage.core.vocabulary import Access
from seepage.models.priors import PCAPrior
from seepage.models.priors.gan import GANPrior
from seepage.models.priors.gan_nets import Critic, Generator
from seepage.models.priors.gan_training import Components
from seepage.targets import wrap
from seepage.testing.cases import inversion_case
from seepage.testing.victims import ConstantVictim

KED: dict[str, Any] = {"size": 12, "width": 8, "steps": 10, "batch": 8, "iterations": 60, "draws": 3}
PLG: dict[str, Any] = {"size": 12, "width": 8, "steps": 10, "batch": 8, "iterations": 60, "starts": 2}


def _known(case: Case) -> InversionKnowledge:
    assert isinstance(case.knowledge, InversionKnowledge)
    return case.knowledge


def _play(attack: KEDMI | PLGMI, case: Case, seed: int = 0) -> tuple[Reconstruction, Target]:
    target = Target(case.victim, attack.needs)
    return attack.run(target, _known(case), stream(seed, "taught")), target


SHORT: dict[str, Any] = {"steps": 4, "iterations": 8}


# --- the losses


def test_the_k_plus_1_loss_is_that_of_a_softmax_with_one_more_class_whose_logit_is_zero() -> None:
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(5, 3)) * 3, rng.normal(size=(4, 3)) * 3

    def probabilities(logits: np.ndarray) -> np.ndarray:
        e = np.exp(np.concatenate([logits, np.zeros((len(logits), 1))], axis=1))
        return e / e.sum(axis=1, keepdims=True)

    by_hand = -0.5 * np.log(1 - probabilities(real)[:, 3]).mean() - 0.5 * np.log(probabilities(fake)[:, 3]).mean()
    found = taught.real_or_fake(torch.from_numpy(real), torch.from_numpy(fake))
    assert float(found) == pytest.approx(by_hand, rel=1e-9)


def test_soft_labels_teach_the_cross_entropy_and_are_least_at_the_target_s_own_answer() -> None:
    rng = np.random.default_rng(1)
    p = rng.dirichlet(np.ones(4), size=6)
    logits = torch.from_numpy(rng.normal(size=(6, 4)))
    by_hand = -np.mean([(p[i] * np.log(np.exp(r) / np.exp(r).sum())).sum() for i, r in enumerate(logits.numpy())])
    assert float(taught.soft_cross_entropy(logits, torch.from_numpy(p))) == pytest.approx(by_hand, rel=1e-9)
    least = float(taught.soft_cross_entropy(torch.from_numpy(np.log(p) + 2.5), torch.from_numpy(p)))
    assert least == pytest.approx(-(p * np.log(p)).sum(axis=1).mean(), rel=1e-9)
    assert least < by_hand


def test_entropy_is_log_k_for_no_opinion_and_zero_for_a_sure_one() -> None:
    assert float(taught.entropy(torch.zeros(3, 7))) == pytest.approx(np.log(7), rel=1e-6)
    assert float(taught.entropy(torch.tensor([[60.0, 0.0, 0.0]]))) == pytest.approx(0, abs=1e-6)


def test_feature_matching_compares_means_not_records() -> None:
    real = torch.tensor([[0.0, 4.0], [2.0, 0.0]])
    assert float(taught.mean_feature_gap(real, real.flip(0))) == 0
    assert float(taught.mean_feature_gap(real, torch.tensor([[0.0, 0.0]]))) == pytest.approx((1 + 2) / 2)


def test_max_margin_is_the_best_other_logit_less_the_wanted_one() -> None:
    logits = torch.tensor([[1.0, 5.0, 3.0], [1.0, 5.0, 3.0], [2.0, 2.0, 2.0]])
    assert margin(logits, torch.tensor([1, 0, 2])).tolist() == [-2.0, 4.0, 0.0]


def test_the_reparameterised_gradient_is_that_of_the_closed_form_for_a_linear_victim() -> None:
    """With E (a.z - b)^2 over z ~ N(m, v): d/dm = 2 a (a.m - b) and d/d log v = a^2 v."""
    a, b = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64), 0.7
    mean = torch.tensor([[0.2, -0.3, 0.4]], dtype=torch.float64, requires_grad=True)
    log_variance = torch.tensor([[0.1, -0.5, -1.0]], dtype=torch.float64, requires_grad=True)
    rng, n = torch.Generator().manual_seed(0), 200_000
    z = drawn(mean.expand(n, 3), log_variance.expand(n, 3), rng)
    by_mean, by_spread = torch.autograd.grad(((z @ a - b) ** 2).mean(), [mean, log_variance])
    exact = 2 * a * (mean.detach()[0] @ a - b)
    torch.testing.assert_close(by_mean[0], exact, atol=0.03, rtol=0.02)
    torch.testing.assert_close(by_spread[0], a**2 * log_variance.detach()[0].exp(), atol=0.03, rtol=0.03)


# --- pseudo-labels


def test_top_n_is_the_n_largest_of_each_wanted_class_and_records_may_serve_twice() -> None:
    logs = np.log(np.random.default_rng(2).dirichlet(np.ones(5), size=40))
    rows, places = taught.top_n(logs, np.array([3, 0]), 6)
    assert places.tolist() == [0] * 6 + [1] * 6
    for place, c in enumerate((3, 0)):
        assert rows[places == place].tolist() == sorted(range(40), key=lambda i: -logs[i, c])[:6]
    assert len(taught.top_n(logs, np.arange(5), 100)[0]) == 5 * 40


def test_a_class_that_is_never_predicted_gets_its_likeliest_records_even_where_probabilities_vanish() -> None:
    logs = np.full((10, 3), -0.01)
    logs[:, 2] = -200.0 - np.arange(10)[::-1]  # exp of these is zero in single precision: they would tie.
    rows, places = taught.top_n(logs, np.arange(3), 2)
    assert rows[places == 2].tolist() == [9, 8]


@pytest.mark.parametrize(("public", "classes", "most", "wanted"), [
    (30_000, 1000, 30, 30), (400, 20, 30, 30), (400, 20, 60, 40), (200, 2, 300, 100), (6, 20, 30, 4), (3, 5, 30, 3),
])  # fmt: skip
def test_the_share_of_a_class_follows_how_many_public_records_there_are(
    public: int, classes: int, most: int, wanted: int
) -> None:
    assert taught.share(public, classes, most) == wanted


# --- what the generator begins as


def _prior(classes: int = 0) -> tuple[PCAPrior, Sketch]:
    case = inversion_case(0)
    assert case.knowledge.public is not None
    prior = PCAPrior.fit(case.knowledge.public.x, _known(case).spec, components=9)
    torch.manual_seed(0)
    return prior, Sketch(prior, 8, classes)


def test_a_sketch_begins_as_the_linear_prior() -> None:
    prior, sketch = _prior()
    z = np.random.default_rng(3).normal(size=(6, prior.size)).astype(np.float32)
    np.testing.assert_allclose(sketch(torch.from_numpy(z)).detach().numpy(), prior.decode(z), atol=1e-5)


def test_a_centred_sketch_draws_each_class_around_its_own_records() -> None:
    prior, sketch = _prior(classes=2)
    z = np.random.default_rng(4).normal(size=(2, prior.size)).astype(np.float32) * 0.4
    records = torch.from_numpy(np.repeat(prior.decode(z), 3, axis=0))
    sketch.centre(records, torch.arange(2).repeat_interleave(3))
    middle = sketch(torch.zeros(2, prior.size), torch.arange(2)).detach().numpy()
    np.testing.assert_allclose(middle, prior.decode(z), atol=0.02)


class _Shelf:
    """Gives one GAN prior, small and untrained."""

    def __init__(self, spec: InputSpec):
        torch.manual_seed(5)
        generator, critic = Generator(spec.shape, 10, 8), Critic(spec.shape, 8)
        generator(torch.randn(32, 10))  # Statistics for its normalisations.
        components = Components(torch.zeros(1, spec.size), torch.zeros(10, spec.size))
        self.prior = GANPrior(spec, generator.eval(), critic.eval(), components)

    def get(self, kind: str, public: Records, spec: InputSpec, **options: Any) -> Any:
        assert kind == "gan"
        return self.prior


@pytest.mark.parametrize("classes", [0, 3])
def test_a_warm_start_from_a_gan_draws_what_the_gan_draws_and_leaves_it_alone(classes: int) -> None:
    known = _known(inversion_case(0))
    shelf = _Shelf(known.spec)
    generator, critic = begun(replace(known, priors=shelf), "gan", 64, 32, False, classes)
    z, x = torch.randn(16, 10), torch.rand(4, *known.spec.shape)
    wanted = torch.zeros(16, dtype=torch.long) if classes else None
    torch.testing.assert_close(generator.eval()(z, wanted), shelf.prior.generator(z))
    assert float((critic.eval()(x) - shelf.prior.critic(x)).detach().abs().max()) < 0.2
    before = shelf.prior.generator(z).detach().clone()
    with torch.no_grad():
        for weight in generator.parameters():
            weight.add_(1.0)
    torch.testing.assert_close(shelf.prior.generator(z), before)


# --- training


def test_a_training_that_comes_apart_says_so_and_what_to_do() -> None:
    case = inversion_case(0)
    with pytest.raises(ConfigError, match=r"plg-mi.*diverged at step \d+.*lower `rate`"):
        _play(PLGMI(**{**PLG, "rate": 1e30, "warm": "none", "steps": 40}), case)


def test_a_victim_that_answers_nan_is_told_from_a_training_that_diverged() -> None:
    class Broken(nn.Module):
        broken = False

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1)[:, :6] * (torch.nan if Broken.broken else 1.0)

    net = Target(wrap(Broken(), InputSpec((1, 12, 12))), [Access.WEIGHTS]).weights()
    Broken.broken = True
    with pytest.raises(ModelError, match="finite logits"):
        taught.answers(net, torch.rand(3, 1, 12, 12), taught.Bounded(InputSpec((1, 12, 12))))


def test_the_critic_learns_what_the_target_says_of_public_records() -> None:
    """Taught, its own classes agree with the victim's on public records; untaught, there is one output."""
    case = inversion_case(1)
    known, target = _known(case), Target(case.victim, [Access.WEIGHTS])
    net, draws = target.weights(), torch.Generator().manual_seed(0)
    attack = KEDMI(**{**KED, "steps": 80, "rate": 4e-3})
    _, critic = attack._train(net, 6, known, False, draws)
    assert isinstance(critic, TaughtCritic)
    x = taught.in_unit(known, False)
    said = taught.answers(net, x, taught.Bounded(known.spec))
    agreed = (critic(x)[1].argmax(dim=1) == said.argmax(dim=1)).float().mean()
    assert float(agreed) > 0.8
    _, plain = KEDMI(**{**KED, "taught": False})._train(net, 6, known, False, draws)
    assert plain(x)[1].shape[1] == 1


# --- the attacks


@pytest.mark.parametrize(
    "attack",
    [KEDMI(**KED), PLGMI(**PLG), KEDMI(**{**KED, "iterations": 150}, recover="point"), PLGMI(**PLG, selection="all")],
)
def test_the_search_raises_the_target_s_confidence_well_above_the_prior_s(attack: KEDMI | PLGMI) -> None:
    case = inversion_case(2)
    found, target = _play(attack, case)
    assert found.labels is not None
    assert found.confidence is not None
    assert found.frames is not None
    assert target.queries <= attack.cost(_known(case), None)
    public = _known(case).public
    assert public is not None
    prior = PCAPrior.fit(public.x, _known(case).spec).sample(400, np.random.default_rng(0))
    probability = case.victim.predict(prior).mean(axis=0)  # pyright: ignore[reportAttributeAccessIssue]
    own = case.victim.predict(found.x)[np.arange(len(found.x)), found.labels]  # pyright: ignore[reportAttributeAccessIssue]
    for c in _known(case).classes:
        assert own[found.labels == c].mean() > 2 * probability[c]
    assert found.frames.shape[1:] == (6, 1, 12, 12)


@pytest.mark.parametrize(
    "attack",
    [
        KEDMI(**{**KED, **SHORT}),
        PLGMI(**{**PLG, **SHORT}),
        KEDMI(**{**KED, **SHORT}, taught=False),
        PLGMI(**{**PLG, **SHORT}, alpha=0.0),
    ],
)
def test_cost_is_what_is_asked(attack: KEDMI | PLGMI) -> None:
    case = inversion_case(3)
    known = _known(case)
    _, target = _play(attack, case)
    mirrored = taught.mirrors(known)
    spared = 0 if mirrored or not getattr(attack, "taught", True) else len(known.public or ())
    assert target.queries == attack.cost(known, None) - spared


@pytest.mark.parametrize("attack", [KEDMI(**{**KED, **SHORT}), PLGMI(**{**PLG, **SHORT})])
def test_the_same_seed_gives_the_same_and_another_another(attack: KEDMI | PLGMI) -> None:
    case = inversion_case(4)
    first = _play(attack, case)[0].x
    torch.manual_seed(99)
    before = torch.get_rng_state()
    np.testing.assert_array_equal(_play(attack, case)[0].x, first)
    assert torch.equal(torch.get_rng_state(), before)
    assert not np.allclose(_play(attack, case, seed=1)[0].x, first, atol=1e-3)


@pytest.mark.parametrize("attack", [KEDMI(**KED), PLGMI(**PLG)])
def test_a_constant_victim_gives_nothing_away(attack: KEDMI | PLGMI) -> None:
    case = inversion_case(5)
    truth = case.victim.templates  # pyright: ignore[reportAttributeAccessIssue]
    blind = replace(case, victim=ConstantVictim(np.full(6, 1 / 6), _known(case).spec))
    found, _ = _play(attack, blind)
    assert found.labels is not None
    apart = ((found.x[:, None] - truth[None]) ** 2).sum(axis=(2, 3, 4))
    own = apart[np.arange(len(apart)), found.labels].mean()
    assert own > 0.8 * apart.mean()


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 9, 13)])
def test_two_classes_colour_odd_sides_and_other_bounds_are_played(shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(6)
    spec = InputSpec(shape, Bounds.of(-2.0, 6.0))
    public = Records(spec.bounds.from_unit(rng.random((7, *shape)).astype(np.float32)), np.arange(7) % 2, ("a", "b"))
    torch.manual_seed(0)
    victim = wrap(nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), 2)), spec)
    known = InversionKnowledge(public=public, spec=spec, classes=np.arange(2))
    for attack in (KEDMI(**{**KED, "steps": 2, "iterations": 3}), PLGMI(**{**PLG, "steps": 2, "iterations": 3})):
        found = attack.run(Target(victim, attack.needs), known, stream(0, "taught"))
        assert found.x.shape[1:] == shape
        assert spec.bounds.contain(found.x)


def test_pictures_too_small_for_a_generator_are_refused_with_a_reason() -> None:
    spec = InputSpec((1, 5, 5))
    known = InversionKnowledge(public=Records(np.zeros((4, 1, 5, 5), np.float32)), spec=spec, classes=np.arange(2))
    for attack in (KEDMI(), PLGMI()):
        why = attack.obstacle(known, None)
        assert why is not None
        assert "at least 8 x 8" in why
