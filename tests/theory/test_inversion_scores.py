"""The searches that see scores alone: their parts against closed forms, they themselves against known victims."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from seepage.attacks.inversion.an2022 import Mirror, offspring, selection_weights
from seepage.attacks.inversion.blackbox import ScoreAttack, linear_directions, score_margin
from seepage.attacks.inversion.cmaes import CMAES, strategy
from seepage.attacks.inversion.han2023 import RLBMI, Agents, Memory, Stack, published_reward
from seepage.attacks.inversion.mansourifar2020 import Composite, accepted, regions
from seepage.attacks.inversion.nes import ScoreNES
from seepage.core.case import Case
from seepage.core.guess import Reconstruction
from seepage.core.knowledge import InversionKnowledge
from seepage.core.records import Records
from seepage.core.spec import Bounds, InputSpec
from seepage.core.target import Target
from seepage.core.vocabulary import Modality
from seepage.defenses.outputs.rounding import Round
from seepage.models.priors import PCAPrior, Shelf
from seepage.testing.cases import inversion_case, smooth_pictures
from seepage.testing.victims import ConstantVictim, TemplateVictim

SMALL = {"components": 16, "screened": 120}
# The template victims are sure of their templates alone, not of moved ones: nothing is moved here.
ATTACKS: dict[str, ScoreAttack] = {
    "nes": ScoreNES(**SMALL, queries_per_class=600, augment=False),
    "mirror": Mirror(**SMALL, queries_per_class=600),
    "cma-es": CMAES(**SMALL, queries_per_class=600, augment=False),
    "composite": Composite(queries_per_class=600),
    "rlb-mi": RLBMI(**SMALL, queries_per_class=400, hidden=16, batch=32, updates=2),
}


def _case(seed: int = 0) -> Case:
    """Private templates inside the span of the public pictures, so that a search may come as near as it can."""
    case = inversion_case(seed)
    public = Records(smooth_pictures(80, np.random.default_rng(11)), None)
    return replace(case, knowledge=replace(case.knowledge, public=public))


def _run(attack: ScoreAttack, case: Case, budget: int | None = None, **knowledge: Any) -> tuple[Reconstruction, Target]:
    target = Target(case.victim, attack.needs, budget)
    known = case.knowledge
    assert isinstance(known, InversionKnowledge)
    return attack.run(target, replace(known, **knowledge), np.random.default_rng(3)), target


def _off(x: np.ndarray, case: Case) -> float:
    """The mean distance of row i from template i, per pixel."""
    victim = case.victim
    assert isinstance(victim, TemplateVictim)
    return float(np.sqrt(((x - victim.templates) ** 2).mean(axis=(1, 2, 3))).mean())


def _best_public(case: Case) -> np.ndarray:
    """For each class the public record that the victim takes for it most readily."""
    assert case.knowledge.public is not None
    public = case.knowledge.public.x
    return public[case.victim.predict(public).argmax(axis=0)]  # type: ignore[union-attr]


# --- shared parts


def test_the_margin_of_one_class_alone_is_its_log_score() -> None:
    np.testing.assert_allclose(score_margin(np.array([[0.25]]), np.array([0]), 1e-9), np.log([0.25]))


def test_the_slopes_of_a_linear_victim_are_its_centred_weights() -> None:
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((5, 4))
    z = rng.standard_normal((200, 5))
    logits = z @ weights + rng.standard_normal(4)
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = linear_directions(z, scores, 1e-30)
    np.testing.assert_allclose(found, weights - weights.mean(axis=1, keepdims=True), atol=1e-3)


def test_scores_that_say_nothing_have_slopes_near_zero() -> None:
    rng = np.random.default_rng(1)
    scores = rng.dirichlet(np.full(3, 50.0), size=400)
    found = linear_directions(rng.standard_normal((400, 6)), scores, 1e-9)
    assert np.abs(found).max() < 0.05


@pytest.mark.parametrize("name", ATTACKS)
def test_any_budget_is_kept_and_only_too_small_ones_refused(name: str) -> None:
    case = _case()
    attack = ATTACKS[name].model_copy(update={"queries_per_class": 60})
    classes = len(case.knowledge.classes)  # type: ignore[attr-defined]
    least = classes * (attack._least() + 1)
    assert attack.obstacle(case.knowledge, least - 1) is not None
    for budget in (least, least + 1, 37 + least, 101, 359):
        if budget < least:
            continue
        assert attack.obstacle(case.knowledge, budget) is None
        made, target = _run(attack, case, budget)
        assert target.queries <= attack.cost(case.knowledge, budget) <= budget  # type: ignore[arg-type]
        # What is allowed is used: no more is left over than a step of all classes would cost.
        assert target.queries > 0.6 * budget - classes * 10
        assert len(made.x) == classes


@pytest.mark.parametrize("name", ATTACKS)
def test_templates_come_back_far_nearer_than_the_best_candidate(name: str) -> None:
    case = _case()
    made, _ = _run(ATTACKS[name], case)
    # The agents have barely begun to learn at so few queries.
    share = {"nes": 0.25, "cma-es": 0.2, "mirror": 0.5, "composite": 0.5, "rlb-mi": 0.9}[name]
    assert _off(made.x, case) < share * _off(_best_public(case), case)


@pytest.mark.parametrize("name", ATTACKS)
def test_nothing_comes_back_from_a_constant_victim(name: str) -> None:
    case = _case()
    spec = case.knowledge.spec  # type: ignore[attr-defined]
    constant = replace(case, victim=ConstantVictim(np.full(6, 1 / 6), spec))
    made, _ = _run(ATTACKS[name], constant)
    assert _off(made.x, case) > 0.8 * _off(np.broadcast_to(case.knowledge.public.x.mean(axis=0), made.x.shape), case)  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["composite", "nes", "cma-es", "mirror"])
def test_scores_of_one_digit_still_lead_towards_the_template(name: str) -> None:
    case = _case().defended(Round(digits=1))
    made, _ = _run(ATTACKS[name], case)
    assert _off(made.x, _case()) < 0.65 * _off(_best_public(_case()), _case())


@pytest.mark.parametrize("name", ATTACKS)
def test_the_film_has_few_frames_at_rising_counts_and_its_classes_rise(name: str) -> None:
    case = _case()
    backwards = np.arange(6)[::-1].copy()
    made, target = _run(ATTACKS[name], case, classes=backwards)
    assert made.frames is not None
    assert made.frame_at is not None
    assert 2 <= len(made.frames) <= 8
    assert made.frames.shape[1:] == made.x.shape
    assert (np.diff(made.frame_at) > 0).all()
    assert made.frame_at[-1] <= target.queries
    # The last frame lies near what is returned, once both are in the same order.
    order = np.argsort(backwards)
    apart = ((made.frames[-1][:, None] - made.x[order][None]) ** 2).sum(axis=(2, 3, 4))
    assert (apart.argmin(axis=1) == np.arange(6)).mean() >= 5 / 6


@pytest.mark.parametrize("name", ["nes", "mirror", "cma-es", "rlb-mi"])
def test_the_prior_is_a_field(name: str) -> None:
    case = _case()
    own = PCAPrior.fit(case.knowledge.public.x, case.knowledge.spec, components=3)  # type: ignore[union-attr, attr-defined]
    attack = ATTACKS[name].model_copy(update={"prior": "own", "queries_per_class": 40})
    made, _ = _run(attack, case, priors=Shelf(own=own))
    # All that comes back lies in the space that was brought: decoding what it encodes to changes nothing.
    inside = (made.x > 1e-4) & (made.x < 1 - 1e-4)
    if inside.all():
        np.testing.assert_allclose(own.decode(own.encode(made.x)), made.x, atol=1e-3)
    assert own.size == 3
    with pytest.raises(ValidationError, match="prior"):
        type(attack)(prior="pcb")


# --- the genetic algorithm


@given(seed=st.integers(0, 200), scale=st.floats(0.1, 50.0), shift=st.floats(-20, 20))
@settings(max_examples=25, deadline=None)
def test_selection_weighs_the_fitter_more_whatever_the_scale(seed: int, scale: float, shift: float) -> None:
    fitness = np.random.default_rng(seed).standard_normal((2, 7))
    weights = selection_weights(fitness)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    np.testing.assert_array_equal(np.argsort(weights, axis=1), np.argsort(fitness, axis=1))
    np.testing.assert_allclose(selection_weights(scale * fitness + shift), weights, rtol=1e-4)


def test_children_take_each_coordinate_from_a_parent_and_more_from_the_better_one() -> None:
    population = np.stack([np.zeros((1, 500)), np.ones((1, 500))], axis=1)
    fitness = np.array([[0.0, 1.0]])
    children = offspring(population, fitness, 400, 0.0, 1.0, np.random.default_rng(0))
    assert set(np.unique(children)) == {0.0, 1.0}
    w = selection_weights(fitness)[0, 1]
    # Both parents good, one of each, or both bad; a mixed pair gives the better one's with probability w.
    assert children.mean() == pytest.approx(w**2 + 2 * w * (1 - w) * w, abs=0.02)


def test_mutation_touches_its_share_and_stays_within_its_size() -> None:
    moved = offspring(np.zeros((2, 3, 400)), np.zeros((2, 3)), 50, 0.2, 0.5, np.random.default_rng(0))
    assert (moved != 0).mean() == pytest.approx(0.2, abs=0.01)
    assert np.abs(moved).max() <= 0.5
    # Every child has noise of its own.
    assert len(np.unique(moved[0], axis=0)) == 50


@pytest.mark.parametrize("digits", [None, 1])
def test_the_elite_is_never_lost(digits: int | None) -> None:
    case = _case() if digits is None else _case().defended(Round(digits=digits))
    calm, _ = _run(ATTACKS["mirror"], case)
    # Mutations so wild that hardly a child is better than its parents: what is not kept would be missed.
    wild, _ = _run(ATTACKS["mirror"].model_copy(update={"mutation_share": 0.5, "mutation_size": 1.0}), case)
    for made in (calm, wild):
        curve = made.trace["elite_fitness"]
        assert (np.diff(curve) >= -1e-12).all()
        assert curve[-1] > curve[0]


# --- CMA-ES


@pytest.mark.parametrize("diagonal", [True, False])
def test_cma_es_reaches_the_middle_of_a_sphere_and_touches_no_global_generator(diagonal: bool) -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    search = strategy(np.full(10, 2.0), 0.5, 12, diagonal, np.random.default_rng(0))
    for _ in range(200):
        candidates = search.ask()
        search.tell(candidates, [float(((z - 1) ** 2).sum()) for z in candidates])
    np.testing.assert_allclose(search.mean, 1.0, atol=1e-4)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_cma_es_searches_one_latent_too(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    made, _ = _run(CMAES(components=1, queries_per_class=60, screened=20), _case())
    assert np.isfinite(made.x).all()
    # It writes no log and reads no commands from the working directory.
    assert list(tmp_path.iterdir()) == []


# --- reinforcement learning


def test_the_reward_is_the_published_one() -> None:
    state = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.5, 0.5, 0.0]])
    action = np.array([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6], [0.0, 1.0, 0.0]])
    found = published_reward(state, action, np.array([0, 0, 1]), 1e-9)
    expected = [
        2 * np.log(0.7) + 2 * np.log(0.5) + 8 * np.log(0.7 - 0.2),
        2 * np.log(0.1) + 2 * np.log(0.2) + 8 * np.log(1e-7),
        2 * np.log(0.5) + 2 * np.log(1.0) + 8 * np.log(1e-7),
    ]
    np.testing.assert_allclose(found, expected)
    assert np.isfinite(published_reward(np.zeros((1, 2)), np.zeros((1, 2)), np.array([0]), 1e-9)).all()


def test_stacked_networks_are_the_single_ones() -> None:
    rng = torch.Generator().manual_seed(0)
    stack = Stack(3, [4, 8, 2], rng)
    x = torch.randn(3, 5, 4, generator=rng)
    for i in range(3):
        w1, b1, w2, b2 = (layer[i] for layer in stack.layers)
        torch.testing.assert_close(stack(x)[i], torch.relu(x[i] @ w1 + b1) @ w2 + b2)


def test_the_density_of_an_action_is_that_of_a_squashed_gaussian() -> None:
    rng = torch.Generator().manual_seed(0)
    agents = Agents(2, 3, 8, 1e-3, rng)
    state = torch.randn(2, 6, 3, generator=rng)
    with torch.no_grad():
        action, density = agents.act(state)
        mean, log_std = agents.actor(state).split(3, dim=2)
    raw = torch.atanh(action.double())
    normal = torch.distributions.Normal(mean.double(), log_std.exp().double())
    expected = (normal.log_prob(raw) - torch.log(1 - action.double() ** 2)).sum(dim=2)
    torch.testing.assert_close(density.double(), expected, atol=1e-3, rtol=1e-3)


def test_agents_learn_each_its_own_best_action_from_what_others_did() -> None:
    rng = torch.Generator().manual_seed(0)
    best = torch.tensor([[0.5, -0.5], [-0.5, 0.5]])
    agents = Agents(2, 2, 32, 3e-3, rng)
    state = torch.randn(2, 400, 2, generator=rng)
    action = torch.rand(2, 400, 2, generator=rng) * 2 - 1
    reward = -8 * ((action - best[:, None]) ** 2).sum(dim=2)
    memory = Memory(state, action, reward, state, torch.ones_like(reward))
    for _ in range(500):
        agents.learn(memory.drawn(64, rng))
    assert (agents.surest(torch.randn(2, 20, 2, generator=rng)).mean(dim=1) - best).abs().max() < 0.15


def test_a_mixed_state_costs_two_questions_a_step() -> None:
    plain, mixed = (RLBMI(diversity=d, steps=3, components=4, queries_per_class=60, screened=10) for d in (0.0, 0.5))
    assert (plain.asked(), mixed.asked()) == (1, 2)
    made, target = _run(mixed, _case(), 300)
    assert target.queries <= 300
    assert np.isfinite(made.x).all()


# --- composites


@given(side=st.integers(3, 20), finest=st.integers(1, 8), feather=st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_the_parts_of_every_grid_sum_to_one(side: int, finest: int, feather: float) -> None:
    masks = regions(InputSpec((2, side, side + 1)), finest, feather)
    assert masks.min() >= -1e-6
    assert masks.max() <= 1 + 1e-6
    at, cells = 0, 1
    while at < len(masks):
        np.testing.assert_allclose(masks[at : at + cells**2].sum(axis=0), 1, atol=1e-5)
        at, cells = at + cells**2, 2 * cells
    assert at == len(masks)


def test_the_parts_of_a_table_are_runs_of_features() -> None:
    spec = InputSpec((8,), Bounds.of(0.0, 1.0), Modality.TABLE)
    masks = regions(spec, 4, 0.0)
    assert masks.shape == (1 + 2 + 4, 8)
    np.testing.assert_allclose(masks[1], [1, 1, 1, 1, 0, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(masks[3], [1, 1, 0, 0, 0, 0, 0, 0], atol=1e-6)


def test_a_proposal_is_taken_unless_it_is_worse() -> None:
    best, taken = accepted(np.array([1.0, 1.0, 1.0]), np.array([[0.5, 2.0], [1.0, 0.2], [0.9, 0.8]]))
    assert list(best) == [1, 0, 0]
    assert list(taken) == [True, True, False]


@pytest.mark.parametrize("digits", [None, 1, 2])
def test_a_composite_never_falls(digits: int | None) -> None:
    case = _case() if digits is None else _case().defended(Round(digits=digits))
    made, _ = _run(ATTACKS["composite"], case)
    curve = made.trace["fitness"]
    assert (np.diff(curve) >= -1e-9).all()
    assert curve[-1] > curve[0]


def test_whole_exchanges_without_seams_hold_public_pixels_alone() -> None:
    case = _case()
    public = case.knowledge.public.x  # type: ignore[union-attr]
    made, _ = _run(Composite(least_share=1.0, feather=0.0, averaged=0.0, queries_per_class=200), case)
    nearest = np.abs(made.x[:, None] - public[None]).min(axis=1)
    assert nearest.max() < 1e-5
    # And it is a composite: parts of several records.
    assert np.abs(made.x[:, None] - public[None]).max(axis=(2, 3, 4)).min(axis=1).min() > 0.01
