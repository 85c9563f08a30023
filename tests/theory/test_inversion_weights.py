"""The white-box searches: optimisers, projections, losses and selection against closed forms; the attacks on known
victims."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from seepage.attacks.inversion.fredrikson2015 import MIFace
from seepage.attacks.inversion.latent import LatentGradient
from seepage.attacks.inversion.nguyen2023_lomma import LOMMA, FeaturePull
from seepage.attacks.inversion.optimisers import LBFGS, Adam, Gradient, Nesterov, Optimiser, box
from seepage.attacks.inversion.parts import margin, onto_l1_ball, poincare, views
from seepage.attacks.inversion.perceptual import PerceptualPrior, oriented_edges
from seepage.attacks.inversion.qiu2024 import IntermediateFeatures, around
from seepage.attacks.inversion.search import (
    Frames,
    Hunt,
    candidates,
    prior_named,
    realism,
    screened,
    steps_within,
    sureness,
    surest,
)
from seepage.attacks.inversion.struppek2022 import PlugAndPlay, sloped
from seepage.attacks.inversion.students import agreement, distilled, lesson
from seepage.attacks.inversion.zhang2020 import GMI
from seepage.core.attack import InversionAttack
from seepage.core.knowledge import InversionKnowledge
from seepage.core.records import Records
from seepage.core.spec import InputSpec
from seepage.core.target import Target, WhiteBox
from seepage.core.vocabulary import Access, Modality
from seepage.models.priors import PCAPrior, Shelf
from seepage.testing.cases import inversion_case, smooth_pictures
from seepage.testing.modules import ConstantModule, TemplateModule
from seepage.testing.victims import ConstantVictim, TemplateVictim

# --- losses


def test_the_poincare_loss_is_the_closed_form() -> None:
    logits = np.array([[3.0, -1.0, 1.0], [0.5, 2.0, 0.25]])
    classes = np.array([0, 2])
    u = logits / np.abs(logits).sum(axis=1, keepdims=True)
    v = np.eye(3)[classes] * 0.9999
    apart = ((u - v) ** 2).sum(1) / ((1 - (u**2).sum(1)) * (1 - (v**2).sum(1)))
    found = poincare(torch.from_numpy(logits), torch.from_numpy(classes))
    np.testing.assert_allclose(found.numpy(), np.arccosh(1 + 2 * apart), rtol=1e-10)
    # Scaling all logits moves nothing: only their proportions count.
    np.testing.assert_allclose(poincare(7 * torch.from_numpy(logits), torch.from_numpy(classes)).numpy(), found.numpy())


def test_the_slope_of_the_poincare_loss_is_right_and_lives_where_the_victim_is_sure() -> None:
    logits = torch.tensor([[9.0, -1.0, 0.5, 0.25], [0.3, -0.2, 1.0, 0.1]], dtype=torch.float64, requires_grad=True)
    classes = torch.tensor([0, 1])
    assert torch.autograd.gradcheck(lambda z: poincare(z, classes), logits)
    (slope,) = torch.autograd.grad(poincare(logits, classes).sum(), logits)
    sure = torch.tensor([[9.0, -1.0, 0.5, 0.25]], dtype=torch.float64, requires_grad=True)
    (flat,) = torch.autograd.grad(torch.nn.functional.cross_entropy(sure, classes[:1]), sure)
    assert slope[0].abs().max() > 100 * flat.abs().max()


def test_the_poincare_loss_stands_a_lone_logit_and_none_at_all() -> None:
    logits = torch.tensor([[0.0, 4.0], [0.0, 0.0]], requires_grad=True)
    loss = poincare(logits, torch.tensor([1, 0]))
    (slope,) = torch.autograd.grad(loss.sum(), logits)
    assert torch.isfinite(loss).all()
    assert torch.isfinite(slope).all()
    assert sloped("poincare", 2)[0] == "margin"
    assert sloped("poincare", 3)[0] == "poincare"


def test_the_max_margin_of_plg_mi_is_the_margin() -> None:
    z = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    c = torch.tensor([0, 1, 2, 3, 1])
    # As published: the greatest of the others by sorting, less the wanted one.
    first, second = z.argsort(dim=1)[:, -1], z.argsort(dim=1)[:, -2]
    other = torch.where(first == c, second, first)
    published = z.gather(1, other[:, None])[:, 0] - z.gather(1, c[:, None])[:, 0]
    torch.testing.assert_close(margin(z, c), published)


# --- the L1 ball


@given(seed=st.integers(0, 10_000), size=st.integers(1, 9), radius=st.floats(0.05, 4.0))
@settings(max_examples=60, deadline=None)
def test_the_projection_onto_the_l1_ball_is_the_nearest_point(seed: int, size: int, radius: float) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(3, size)) * np.array([[0.02], [1.0], [3.0]])
    found = onto_l1_ball(torch.from_numpy(x), torch.full((3,), radius, dtype=torch.float64)).numpy()
    assert (np.abs(found).sum(axis=1) <= radius * (1 + 1e-9)).all()
    # A convex set: y is the projection of x exactly when (x - y) . (q - y) <= 0 for all its corners q.
    for corner in np.concatenate([np.eye(size), -np.eye(size)]) * radius:
        assert (((x - found) * (corner - found)).sum(axis=1) <= 1e-9).all()
    again = onto_l1_ball(torch.from_numpy(found), torch.full((3,), radius, dtype=torch.float64)).numpy()
    np.testing.assert_allclose(again, found, atol=1e-12)


def test_the_projection_agrees_with_a_quadratic_programme() -> None:
    x = np.array([1.5, -0.7, 0.2, 0.0])
    # x = p - m with p, m >= 0 and sum(p + m) <= 1.
    solved = minimize(
        lambda h: ((h[:4] - h[4:] - x) ** 2).sum(),
        np.full(8, 0.01),
        bounds=[(0, None)] * 8,
        constraints=[{"type": "ineq", "fun": lambda h: 1 - h.sum()}],
        tol=1e-12,
    )
    found = onto_l1_ball(torch.from_numpy(x)[None], torch.ones(1, dtype=torch.float64))[0].numpy()
    np.testing.assert_allclose(found, solved.x[:4] - solved.x[4:], atol=1e-5)
    np.testing.assert_array_equal(onto_l1_ball(torch.ones(1, 3), torch.zeros(1)).numpy(), np.zeros((1, 3)))
    with pytest.raises(ValueError, match="zero or more"):
        onto_l1_ball(torch.ones(1, 3), -torch.ones(1))


def test_a_ball_around_each_row_holds_it_there() -> None:
    centre = torch.tensor([[1.0, 1.0], [-5.0, 0.0], [0.0, 0.0]])
    rows = torch.tensor([2, 0])
    x = torch.tensor([[4.0, 0.0], [1.1, 1.0]])
    torch.testing.assert_close(around(centre, 0.5)(x, rows), torch.tensor([[0.5, 0.0], [1.1, 1.0]]))


# --- optimisers

CURVES = torch.tensor([[1.0, 10.0, 100.0], [3.0, 0.5, 40.0]])
PLACES = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]])


def bowl(x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """A quadratic of its own for every row."""
    return (CURVES[rows] * (x - PLACES[rows]) ** 2).sum(dim=1) / 2


def _descended(optimiser: Optimiser, steps: int, rows: torch.Tensor) -> torch.Tensor:
    x = torch.zeros(len(rows), 3)
    for _ in range(steps):
        x = optimiser.step(x, rows, bowl)
    return x


def test_lbfgs_solves_a_quadratic_where_plain_descent_cannot() -> None:
    rows = torch.tensor([0, 1])
    found = _descended(LBFGS(torch.zeros(2, 3), 0.1), 15, rows)
    torch.testing.assert_close(found, PLACES, atol=1e-3, rtol=0)
    # The greatest rate at which plain descent holds is 2 / 100; after as many steps it is nowhere near.
    plain = _descended(Gradient(0.019), 15, rows)
    assert (plain - PLACES).abs().max() > 0.3


OPTIMISERS: dict[str, Callable[[torch.Tensor], Optimiser]] = {
    "gradient": lambda like: Gradient(0.01),
    "nesterov": lambda like: Nesterov(like, 0.005),
    "adam": lambda like: Adam(like, 0.05),
    "lbfgs": lambda like: LBFGS(like, 0.1),
}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_no_row_moves_another(name: str) -> None:
    both = _descended(OPTIMISERS[name](torch.zeros(2, 3)), 12, torch.tensor([0, 1]))
    for row in (0, 1):
        alone = OPTIMISERS[name](torch.zeros(2, 3))
        torch.testing.assert_close(_descended(alone, 12, torch.tensor([row]))[0], both[row], atol=1e-6, rtol=1e-5)


def test_adam_is_that_of_torch_and_nesterov_the_published_update() -> None:
    ours = _descended(Adam(torch.zeros(2, 3), 0.05, betas=(0.1, 0.1)), 9, torch.tensor([0, 1]))
    x = torch.zeros(2, 3, requires_grad=True)
    theirs = torch.optim.Adam([x], 0.05, betas=(0.1, 0.1))
    for _ in range(9):
        (x.grad,) = torch.autograd.grad(bowl(x, torch.tensor([0, 1])).sum(), x)
        theirs.step()
    torch.testing.assert_close(ours, x.detach(), atol=1e-6, rtol=1e-5)
    z, v = np.zeros((2, 3)), np.zeros((2, 3))
    for _ in range(7):
        before, v = v, 0.9 * v - 0.005 * CURVES.numpy() * (z - PLACES.numpy())
        z = z - 0.9 * before + 1.9 * v
    ours = _descended(Nesterov(torch.zeros(2, 3), 0.005), 7, torch.tensor([0, 1]))
    np.testing.assert_allclose(ours.numpy(), z, atol=1e-4)


def test_lbfgs_stops_at_the_limits_of_a_box_and_never_climbs() -> None:
    rows = torch.tensor([0, 1])
    optimiser = LBFGS(torch.zeros(2, 3), 0.1, box(-0.75, 0.75))
    x, last = torch.zeros(2, 3), bowl(torch.zeros(2, 3), rows)
    for _ in range(25):
        x = optimiser.step(x, rows, bowl)
        assert (bowl(x, rows) <= last + 1e-5).all()
        last = bowl(x, rows)
    # A separable quadratic in a box: each value ends at its place, or at the limit nearest to it.
    torch.testing.assert_close(x, PLACES.clamp(-0.75, 0.75), atol=1e-3, rtol=0)


def test_lbfgs_bounds_what_it_asks_and_stays_where_nothing_falls() -> None:
    asked: list[int] = []

    def flat(x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        asked.append(len(x))
        return 0.0 * x.sum(dim=1)

    optimiser = LBFGS(torch.zeros(2, 3), 0.1)
    x = optimiser.step(torch.ones(2, 3), torch.tensor([0, 1]), flat)
    torch.testing.assert_close(x, torch.ones(2, 3))
    assert max(asked) == 2
    assert len(asked) <= optimiser.evaluations


# --- the search and its frames


def _hunt(**changes: Any) -> Hunt:
    parts: dict[str, Any] = {
        "decode": lambda z: z,
        "identity": lambda x, c: ((x - c[:, None]) ** 2).sum(dim=1),
        "penalty": None,
        "optimiser": lambda like: Adam(like, 0.1),
        "steps": 60,
        "draws": torch.Generator().manual_seed(0),
    }
    return Hunt(**{**parts, **changes})


def test_a_search_comes_to_its_classes_and_its_frames_cover_the_way() -> None:
    classes = torch.tensor([2, 0, 1])
    frames = Frames(120)
    hunt = _hunt(cosine=True, steps=120)
    found = hunt.run(torch.zeros(3, 2, 4), classes, frames, 4)
    torch.testing.assert_close(found, classes[:, None, None].expand(3, 2, 4).float(), atol=0.05, rtol=0)
    final = found[:, 0].numpy()
    shown, at = frames.arrays(final, np.argsort(classes.numpy()))
    assert shown.shape == (8, 3, 4)
    assert at[0] == 0
    assert at[-1] == 120
    assert (np.diff(at) > 0).all()
    np.testing.assert_array_equal(shown[0], np.zeros((3, 4)))
    # The classes rise, and each comes nearer to its place from frame to frame.
    np.testing.assert_allclose(shown[-1], np.arange(3)[:, None].repeat(4, axis=1), atol=0.05)
    far = np.abs(shown - np.arange(3)[None, :, None]).max(axis=(1, 2))
    assert (np.diff(far) <= 1e-3).all()


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    classes = torch.arange(5)
    starts = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(1))
    whole_frames, cut_frames = Frames(60), Frames(60)
    whole = _hunt().run(starts, classes, whole_frames, 4)
    monkeypatch.setattr("seepage.attacks.inversion.search.BLOCK", 2 * 3 * 4)
    cut = _hunt().run(starts, classes, cut_frames, 4)
    torch.testing.assert_close(whole, cut)
    for one, other in zip(
        whole_frames.arrays(whole[:, 0].numpy(), np.arange(5)),
        cut_frames.arrays(cut[:, 0].numpy(), np.arange(5)),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_rows_that_stand_still_leave_early_with_their_best() -> None:
    asked: list[int] = []

    def identity(x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        asked.append(len(x))
        # Class 0 is at its place from the start; class 1 has far to go.
        return ((x - 3.0 * c[:, None]) ** 2).sum(dim=1)

    frames = Frames(200)
    hunt = _hunt(identity=identity, steps=200, patience=5)
    found = hunt.run(torch.zeros(2, 1, 1), torch.tensor([0, 1]), frames, 1)
    assert float(found[0]) == 0
    assert float(found[1]) == pytest.approx(3, abs=0.02)
    assert asked[0] == 2
    assert asked[10] == 1
    assert len(asked) < 200
    _, at = frames.arrays(found[:, 0].numpy(), np.arange(2))
    assert at[-1] == len(asked)
    assert (np.diff(at) > 0).all()


def test_random_moves_are_the_same_within_a_step_and_differ_between_steps() -> None:
    pictures = torch.rand(2, 1, 1, 9, 9, generator=torch.Generator().manual_seed(2))
    seen: list[torch.Tensor] = []

    def identity(x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        seen.append(x.detach())
        return 0.0 * x.sum(dim=(1, 2, 3))

    class Twice(Optimiser):
        def step(self, x: torch.Tensor, rows: torch.Tensor, ask: Any, scale: float = 1.0) -> torch.Tensor:
            ask(x, rows)
            ask(x, rows)
            return x

    hunt = _hunt(identity=identity, optimiser=lambda like: Twice(0.1), amount=0.1, steps=2)
    hunt.run(pictures, torch.tensor([0, 1]), Frames(2), 81)
    torch.testing.assert_close(seen[0], seen[1])
    torch.testing.assert_close(seen[2], seen[3])
    assert (seen[0] - seen[2]).abs().max() > 0.01


@pytest.mark.parametrize(("budget", "steps"), [(None, 50), (1000, 50), (120, 10), (20, 0), (5, 0)])
def test_steps_shrink_with_the_budget(budget: int | None, steps: int) -> None:
    assert steps_within(50, budget, 20, 10) == steps


# --- selection


def _box(module: torch.nn.Module) -> tuple[WhiteBox, list[int]]:
    spent: list[int] = []
    return WhiteBox(module, spent.append), spent


def test_the_planted_best_is_chosen_first_and_the_robust_selection_keeps_it() -> None:
    rng = np.random.default_rng(0)
    templates = smooth_pictures(3, rng)
    victim = TemplateVictim(templates)
    net, spent = _box(victim.differentiable())
    others = smooth_pictures(20, rng)
    prior = PCAPrior.fit(np.concatenate([others, templates]), InputSpec((1, 12, 12)), components=22, mirror=False)
    pool = torch.from_numpy(prior.encode(np.concatenate([others, templates])))
    starts = screened(net, prior.decoder(), pool, torch.tensor([2, 0, 1]), 2, seen=2)
    assert starts.shape == (3, 2, prior.size)
    torch.testing.assert_close(starts[:, 0], pool[[22, 20, 21]])
    assert sum(spent) == 2 * len(pool)
    x = torch.from_numpy(np.concatenate([others[:2], templates[:1], templates[1:2], others[2:4]]))
    sure = sureness(net, x, torch.tensor([0, 0, 0, 1, 1, 1]), 4, torch.Generator().manual_seed(0), 0.02)
    assert surest(sure, 3).tolist() == [[2], [3]]


def test_the_surest_draws_come_in_order() -> None:
    assert surest(np.array([0.1, 0.9, 0.2, 0.8, 0.7, 0.1]), 3, 2).tolist() == [[1, 2], [3, 4]]


def test_a_short_pool_is_filled_up_with_the_mean_record() -> None:
    net, _ = _box(ConstantModule(np.log([0.5, 0.5])))
    prior = PCAPrior.fit(smooth_pictures(8, np.random.default_rng(0)), InputSpec((1, 12, 12)), components=3)
    pool = candidates(prior, None, 2, 1.0, torch.Generator().manual_seed(0))
    assert pool.abs().max() <= 1
    starts = screened(net, prior.decoder(), pool, torch.tensor([0, 1]), 4)
    np.testing.assert_array_equal(starts[:, 2:].numpy(), 0)
    assert (starts[:, :2] != 0).all()


def test_views_are_flips_and_crops_of_pictures_alone() -> None:
    x = torch.rand(2, 1, 10, 10, generator=torch.Generator().manual_seed(0))
    shown = views(x)
    torch.testing.assert_close(shown[1], x.flip(-1))
    torch.testing.assert_close(shown[3], shown[2].flip(-1))
    plain = torch.full((1, 3, 8, 8), 0.3)
    torch.testing.assert_close(views(plain)[2], plain)
    assert len(views(torch.rand(2, 5))) == 1


# --- priors by name


class _Own:
    """A user's generator without a critic."""

    kind = "own"

    def __init__(self, prior: PCAPrior):
        self._prior = prior

    def __getattr__(self, name: str) -> Any:
        return getattr(self._prior, name)


def test_auto_is_the_users_own_prior_or_what_can_draw_such_records() -> None:
    public = smooth_pictures(8, np.random.default_rng(0))
    spec = InputSpec((1, 12, 12))
    own = _Own(PCAPrior.fit(public, spec, components=3))
    know = InversionKnowledge(
        public=Records(public, None),
        spec=spec,
        classes=np.arange(2),
        priors=Shelf(own=own),  # pyright: ignore
    )
    assert prior_named(know, "auto", "gan", 5) is own
    table = InputSpec((6,), modality=Modality.TABLE)
    rows = Records(np.random.default_rng(0).random((9, 6)).astype(np.float32), None, modality=Modality.TABLE)
    plain = InversionKnowledge(public=rows, spec=table, classes=np.arange(2), priors=Shelf())
    assert prior_named(plain, "auto", "gan", 4).kind == "pca"
    assert prior_named(plain, "pca", "gan", 4).size == 4


def test_without_a_critic_the_latents_density_stands_in() -> None:
    prior = PCAPrior.fit(smooth_pictures(8, np.random.default_rng(0)), InputSpec((1, 12, 12)), components=3)
    against, has = realism(prior, prior.decoder())
    z = torch.tensor([[1.0, 2.0, 0.0]])
    assert not has
    assert float(against(z, z)) == pytest.approx(2.5)

    class Seen:
        stages: tuple[Any, ...] = ()

        def __call__(self, z: torch.Tensor, classes: torch.Tensor | None = None) -> torch.Tensor:
            return z

        def critic(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * x[:, 0]

    against, has = realism(prior, Seen())
    assert has
    assert float(against(z, z)) == pytest.approx(-2)


# --- the perceptual prior


def test_edges_are_those_of_a_ramp_and_turn_with_it() -> None:
    ramp = torch.linspace(0, 1, 32).expand(1, 1, 32, 32)
    across = oriented_edges(ramp).reshape(2, 4, 8, 8)[:, :, 3, 3]
    # Slope 1/31 a pixel, times the spread of the filter (a side of 32): 0.7 and 1.4.
    torch.testing.assert_close(across[:, 0], torch.tensor([0.7, 1.4]) / 31, rtol=0.02, atol=1e-4)
    assert (across[:, 1] < 0.002).all()
    down = oriented_edges(ramp.transpose(2, 3)).reshape(2, 4, 8, 8)[:, :, 3, 3]
    torch.testing.assert_close(down[:, 1], across[:, 0], rtol=1e-4, atol=1e-6)


def test_public_pictures_are_near_and_noise_is_far() -> None:
    rng = np.random.default_rng(0)
    seen = torch.from_numpy(smooth_pictures(60, rng, side=16))
    prior = PerceptualPrior(seen[:40])
    noise = torch.from_numpy(rng.random((10, 1, 16, 16)).astype(np.float32))
    assert 0.5 < float(prior(seen[:40]).mean()) < 1.5
    assert float(prior(noise).min()) > 3 * float(prior(seen[40:]).max())
    x = noise.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(prior(x).sum(), x)
    # Downhill is nearer.
    with torch.no_grad():
        assert (prior(x - 0.02 * slope.sign()) < prior(x)).all()


# --- LOMMA's parts


def _templates(count: int = 4) -> tuple[TemplateVictim, np.ndarray]:
    rng = np.random.default_rng(3)
    return TemplateVictim(smooth_pictures(count, rng), width=1.0), smooth_pictures(12, rng)


def test_the_regulariser_is_the_distance_to_the_public_mean_feature() -> None:
    victim, public = _templates()
    net, spent = _box(victim.differentiable())
    pull = FeaturePull(net, torch.from_numpy(public), weight=2.0)
    features = victim.embeddings(public)
    assert pull.mean is not None
    np.testing.assert_allclose(pull.mean.numpy(), features.mean(axis=0), rtol=1e-4)
    own, apart = pull.parts(torch.from_numpy(public[:3]), torch.tensor([0, 1, 2]))
    scale = features.var(axis=0, ddof=1).mean()
    np.testing.assert_allclose(
        apart.numpy(force=True), 2 * ((features[:3] - features.mean(axis=0)) ** 2).mean(axis=1) / scale, rtol=1e-3
    )
    np.testing.assert_allclose(own.numpy(force=True), -victim.logits(public[:3])[np.arange(3), np.arange(3)], rtol=1e-3)
    assert sum(spent) == len(public) + 3


def test_the_regulariser_pulls_features_to_the_public_mean() -> None:
    victim, public = _templates()
    far = []
    for weight in (0.0, 50.0):
        net, _ = _box(victim.differentiable())
        pull = FeaturePull(net, torch.from_numpy(public), weight)
        hunt = _hunt(identity=lambda x, c, pull=pull: sum(pull.parts(x, c)), optimiser=lambda like: Adam(like, 0.02))
        found = hunt.run(torch.full((4, 1, 1, 12, 12), 0.5), torch.arange(4), Frames(60), 144)
        at = victim.embeddings(found[:, 0].numpy())
        far.append(np.square(at - victim.embeddings(public).mean(axis=0)).mean())
    assert far[1] < 0.5 * far[0]


def test_a_victim_that_shows_no_features_is_asked_for_the_logit_alone() -> None:
    class Bare(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1)[:, :3]

    net, _ = _box(Bare())
    x = torch.rand(2, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    pull = FeaturePull(net, x, 1.0)
    own, apart = pull.parts(x, torch.tensor([0, 2]))
    assert "no penultimate features" in pull.missing
    np.testing.assert_array_equal(apart.numpy(), 0)
    torch.testing.assert_close(own, -torch.stack([x[0, 0, 0, 0], x[1, 0, 0, 2]]))


def test_copies_come_to_answer_as_the_victim_does() -> None:
    rng = np.random.default_rng(0)
    victim = TemplateVictim(smooth_pictures(4, rng), width=1.0)
    x = torch.from_numpy(smooth_pictures(300, rng))
    logits = torch.from_numpy(victim.logits(x.numpy()).astype(np.float32))
    before = torch.get_rng_state()
    taught = distilled(x[:240], logits[:240], 0, seed=1, steps=120, heat=2.0)
    assert torch.equal(before, torch.get_rng_state())
    untaught = distilled(x[:240], logits[:240], 0, seed=1, steps=1, heat=2.0)
    assert agreement(taught, x[240:], logits[240:]) > 0.75
    assert agreement(taught, x[240:], logits[240:]) > agreement(untaught, x[240:], logits[240:]) + 0.2
    assert not any(p.requires_grad for p in taught.parameters())


@pytest.mark.parametrize("asked", [5, 12, 20, 50])
def test_the_lesson_is_as_long_as_asked_and_begins_with_public_records(asked: int) -> None:
    known, drawn = torch.zeros(8, 1, 4, 4), torch.ones(12, 1, 4, 4)
    x = lesson(known, drawn, asked, torch.Generator().manual_seed(0))
    assert len(x) == asked
    public = int((x[: min(asked, 20)].flatten(1).mean(dim=1) == 0).sum())
    assert public == min(8, max(asked - 12, asked // 2))


# --- the attacks on victims whose secret is known

ATTACKS: dict[str, InversionAttack] = {
    "latent": LatentGradient(components=30, steps=60, screened=100),
    "gmi": GMI(prior="pca", components=30, limit=2.5, steps=150, rate=0.0005),
    "plug-and-play": PlugAndPlay(prior="pca", components=30, screened=200, limit=2.5, checks=8),
    "if-gmi": IntermediateFeatures(prior="pca", components=30, screened=200, limit=2.5, checks=8),
    # The logits of this victim span little more than 1, so that features weigh less than by default.
    "lomma": LOMMA(
        prior="pca",
        components=30,
        search="latent",
        steps=60,
        screened=200,
        copies=0,
        feature_weight=0.1,
    ),
    "mi-face": MIFace(steps=60, objective="cross-entropy", optimiser="lbfgs", start="public-mean", confidence=0.9999),
}


def _correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a = a.reshape(len(a), -1) - a.reshape(len(a), -1).mean(axis=1, keepdims=True)
    b = b.reshape(len(b), -1) - b.reshape(len(b), -1).mean(axis=1, keepdims=True)
    return (a @ b.T) / np.linalg.norm(a, axis=1)[:, None] / np.linalg.norm(b, axis=1)[None]


@pytest.mark.parametrize("name", ATTACKS)
def test_templates_are_found_and_frames_end_in_the_guess(name: str) -> None:
    case = inversion_case(1)
    assert isinstance(case.knowledge, InversionKnowledge)
    assert isinstance(case.victim, TemplateVictim)
    wide = TemplateVictim(case.victim.templates, width=2.0)
    guess = ATTACKS[name].run(Target(wide, [Access.WEIGHTS]), case.knowledge, np.random.default_rng(0))
    alike = _correlation(guess.x, wide.templates)
    assert (alike.argmax(axis=1) == np.arange(6)).mean() >= 5 / 6, np.round(alike, 2)
    assert guess.frames is not None
    assert guess.frame_at is not None
    assert 2 <= len(guess.frames) == len(guess.frame_at) <= 12
    assert guess.frame_at[0] == 0
    assert (np.diff(guess.frame_at) > 0).all()
    np.testing.assert_allclose(guess.frames[-1], guess.x, atol=1e-6)
    # The way leads somewhere: the end is more alike than the beginning.
    first = _correlation(guess.frames[0], wide.templates).diagonal().mean()
    assert alike.diagonal().mean() > first


@pytest.mark.parametrize("name", ATTACKS)
def test_a_constant_victim_gives_nothing(name: str) -> None:
    case = inversion_case(1)
    assert isinstance(case.knowledge, InversionKnowledge)
    assert isinstance(case.victim, TemplateVictim)
    constant = ConstantVictim(np.full(6, 1 / 6), case.knowledge.spec)
    guess = ATTACKS[name].run(Target(constant, [Access.WEIGHTS]), case.knowledge, np.random.default_rng(0))
    alike = _correlation(guess.x, case.victim.templates.astype(np.float32))
    assert (alike.argmax(axis=1) == np.arange(6)).mean() <= 0.5
    assert guess.confidence is not None
    np.testing.assert_allclose(guess.confidence, 1 / 6, atol=1e-5)


def test_several_draws_of_a_class_come_back_surest_first() -> None:
    case = inversion_case(1)
    assert isinstance(case.knowledge, InversionKnowledge)
    attack = PlugAndPlay(prior="pca", components=8, screened=40, steps=10, candidates=4, draws=3, checks=2)
    guess = attack.run(Target(case.victim, [Access.WEIGHTS]), case.knowledge, np.random.default_rng(0))
    assert guess.labels is not None
    assert guess.confidence is not None
    assert guess.labels.tolist() == np.repeat(np.arange(6), 3).tolist()
    assert (np.diff(guess.confidence.reshape(6, 3), axis=1) <= 0).all()
    refused = PlugAndPlay(candidates=2, draws=3).obstacle(case.knowledge, None)
    assert refused is not None
    assert "out of 2 candidates" in refused


@pytest.mark.parametrize("name", [n for n in ATTACKS if n != "mi-face"])
def test_the_steps_fit_the_budget_or_it_is_refused(name: str) -> None:
    case = inversion_case(1)
    assert isinstance(case.knowledge, InversionKnowledge)
    attack = ATTACKS[name]
    whole = attack.cost(case.knowledge, None)
    for budget in (whole - 1, 2 * whole // 3):
        if attack.obstacle(case.knowledge, budget) is None:
            target = Target(case.victim, [Access.WEIGHTS], budget)
            attack.run(target, case.knowledge, np.random.default_rng(0))
            assert target.queries <= attack.cost(case.knowledge, budget) <= budget
    refused = attack.obstacle(case.knowledge, 10)
    assert refused is not None
    assert "at the least" in refused


def test_features_of_the_known_victims_are_counted_once_and_are_their_embeddings() -> None:
    victim, public = _templates()
    module = victim.differentiable()
    assert isinstance(module, TemplateModule)
    net, spent = _box(module)
    features, logits = net.features(torch.from_numpy(public))
    assert spent == [len(public)]
    np.testing.assert_allclose(features.numpy(force=True), victim.embeddings(public), rtol=1e-4)
    np.testing.assert_allclose(logits.numpy(force=True), victim.logits(public), rtol=1e-3)
