"""The diffusion prior against closed forms (Gaussian records have a known denoiser), and the attack that it guides."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from seepage.attacks.inversion.li2024 import DiffMI, top_k_margin
from seepage.attacks.inversion.parts import margin
from seepage.core.errors import ConfigError, DataError
from seepage.core.knowledge import InversionKnowledge
from seepage.core.records import Records
from seepage.core.spec import Bounds, InputSpec
from seepage.core.target import Target
from seepage.core.vocabulary import Access, Modality
from seepage.models.priors import Shelf
from seepage.models.priors.diffusion import DiffusionPrior, reopened, train_diffusion
from seepage.models.priors.diffusion_nets import (
    TIMES,
    Denoiser,
    UNet,
    cosine_schedule,
    ddim_step,
    ddim_undone,
    denoising_loss,
    even_times,
    few_times,
    on_the_line,
)
from seepage.models.priors.work import Work
from seepage.targets import wrap

SPEC = InputSpec((1, 12, 12))
FLOOR = 0.01


def _pictures(n: int = 60, seed: int = 0, shape: tuple[int, ...] = (1, 12, 12)) -> np.ndarray:
    """Smooth random pictures in [0, 1]."""
    rng = np.random.default_rng(seed)
    basis = np.random.default_rng(99).standard_normal((6, *shape))
    for axis in (2, 3):
        basis = (basis + np.roll(basis, 1, axis) + np.roll(basis, -1, axis)) / 3
    drawn = 0.5 + 0.1 * np.tensordot(rng.standard_normal((n, 6)), basis, axes=1)
    return drawn.clip(0, 1).astype(np.float32)


def _gaussian(size: int = 16, seed: int = 0) -> tuple[Denoiser, torch.Tensor]:
    """A denoiser of a known Gaussian without a net, and its covariance."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.standard_normal((size, size)))[0][:3]
    model = Denoiser((1, 4, size // 4), 3, width=0).double()
    model.basis.copy_(torch.from_numpy(basis))
    model.variances.copy_(torch.tensor([4.0, 1.0, 0.3]))
    model.floor.fill_(FLOOR)
    along = model.basis.T @ torch.diag(model.variances - FLOOR) @ model.basis
    return model, (along + FLOOR * torch.eye(size, dtype=torch.float64))


def _trained(spec: InputSpec = SPEC, x: np.ndarray | None = None, **options: object) -> DiffusionPrior:
    fast = {"steps": 4, "width": 4, "batch": 8, "mirror": True} | options
    public = Records(_pictures(shape=spec.shape) if x is None else x, None)
    return train_diffusion(public, spec, 0, Work(), **fast)


def _noisy(prior: DiffusionPrior) -> DiffusionPrior:
    """The same prior with a net that says something: its last layer no longer at zero."""
    assert prior.denoiser.net is not None
    rng = torch.Generator().manual_seed(5)
    for weight in prior.denoiser.net.leave.parameters():
        weight.data.copy_(0.05 * torch.randn(weight.shape, generator=rng))
    return prior


# --- the schedule


def test_the_schedule_falls_from_one_to_almost_nothing() -> None:
    kept = cosine_schedule()
    assert kept[0] == 1
    assert kept[-1] < 1e-6
    assert (np.diff(kept) < 0).all()
    # Nichol and Dhariwal 2021: half way, alpha_bar is cos² of half way, up to the offset.
    assert kept[TIMES // 2] == pytest.approx(0.5, abs=0.02)
    assert (1 - kept[1:] / kept[:-1]).max() <= 0.999 + 1e-12


@pytest.mark.parametrize("steps", [1, 3, 12, 50])
def test_chains_run_from_pure_noise_to_none(steps: int) -> None:
    for times in (few_times(steps), even_times(steps)):
        assert times[0] == TIMES
        assert times[-1] == 0
        assert len(times) == steps + 1
        assert all(a > b for a, b in pairwise(times))


def test_a_step_keeps_what_the_noise_and_the_clean_record_are() -> None:
    rng = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 5, 7, generator=rng, dtype=torch.float64)
    y = math.sqrt(0.3) * clean + math.sqrt(0.7) * noise
    torch.testing.assert_close(
        on_the_line(y, clean, 0.3, 0.8), math.sqrt(0.8) * clean + math.sqrt(0.2) * noise, atol=1e-12, rtol=0
    )


# --- the linear denoiser


@pytest.mark.parametrize("t", [5, 300, 700, 990])
def test_the_linear_denoiser_is_the_posterior_mean_of_a_gaussian(t: int) -> None:
    model, covariance = _gaussian()
    a = float(model.alpha_bar[t])
    y = torch.randn(4, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    seen = a * covariance + (1 - a) * torch.eye(16)
    expected = y @ torch.linalg.solve(seen, math.sqrt(a) * covariance)
    times = torch.full((4,), t)
    torch.testing.assert_close(model(y, times), expected, atol=1e-9, rtol=1e-6)
    left = covariance - math.sqrt(a) * covariance @ torch.linalg.solve(seen, math.sqrt(a) * covariance)
    assert float(model.unsure(times)[0]) == pytest.approx(math.sqrt(float(left.diagonal().mean())), rel=1e-6)


def test_the_chain_maps_noise_to_the_gaussian() -> None:
    """With the exact denoiser DDIM solves a linear equation: noise N(0, I) comes out with the records' covariance."""
    model, covariance = _gaussian()
    y = torch.eye(16, dtype=torch.float64)
    for now, then in pairwise(even_times(500)):
        y = ddim_step(model, y, now, then)
    # Rows are the images of unit vectors: the map's matrix, so that its square is the covariance of what comes out.
    torch.testing.assert_close(y.T @ y, covariance, atol=0.02, rtol=0.02)
    rough = torch.eye(16, dtype=torch.float64)
    for now, then in pairwise(few_times(3)):
        rough = ddim_step(model, rough, now, then)
    assert (rough.T @ rough - covariance).abs().max() > (y.T @ y - covariance).abs().max()


def test_steps_are_undone_exactly_without_a_net() -> None:
    model, _ = _gaussian()
    y = torch.randn(3, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for then, now in ((0, 40), (200, 500), (900, 1000)):
        torch.testing.assert_close(ddim_undone(model, ddim_step(model, y, now, then), now, then, rounds=0), y)


def test_the_loss_of_the_linear_denoiser_on_its_own_gaussian_is_one() -> None:
    model, covariance = _gaussian()
    rng = torch.Generator().manual_seed(3)
    n = 20_000
    y = torch.randn(n, 16, generator=rng, dtype=torch.float64) @ torch.linalg.cholesky(covariance).T
    for t in (50, 500, 950):
        noise = torch.randn(n, 16, generator=rng, dtype=torch.float64)
        loss = float(denoising_loss(model, y, torch.full((n,), t), noise).mean())
        assert loss == pytest.approx(1, abs=0.05)


def test_the_gaussian_is_that_of_the_records() -> None:
    rng = np.random.default_rng(0)
    flat = 0.5 + 0.1 * rng.standard_normal((4000, 3)) @ rng.standard_normal((3, 64))
    model = Denoiser((1, 8, 8), 3, width=0)
    model.fit_linear(flat)
    scale = float(model.scale)
    fitted = (model.basis.T * model.variances) @ model.basis * scale**2
    torch.testing.assert_close(fitted.numpy(), np.cov(flat.T).astype(np.float32), atol=2e-3, rtol=0.02)
    assert float(model.variances.sum()) == pytest.approx(64, rel=0.01)


def test_coordinates_are_drawn_in_at_the_limit_and_no_others() -> None:
    model, _ = _gaussian()
    t = torch.tensor([600])
    a = float(model.alpha_bar[600])
    deviation = (a * model.variances + 1 - a).sqrt()
    y = (torch.tensor([3.0, -1.0, 2.0], dtype=torch.float64) * deviation) @ model.basis
    inside = model.shrunk(y[None], t, limit=2.0)[0] @ model.basis.T / deviation
    torch.testing.assert_close(inside, torch.tensor([2.0, -1.0, 2.0], dtype=torch.float64))


# --- the net


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 17), (1, 28, 28), (3, 64, 50)])
def test_the_net_takes_pictures_of_any_size_and_colour_and_says_nothing_at_first(shape: tuple[int, ...]) -> None:
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        out = UNet(shape, 4)(x, x, torch.tensor([0.1, 0.9]))
    assert out.shape == x.shape
    assert (out == 0).all()


def test_training_beats_the_linear_denoiser_where_records_are_no_gaussian() -> None:
    """Pictures of one bar, lit or dark: the posterior mean is a tanh, which no linear filter is."""
    rng = np.random.default_rng(0)
    x = np.full((200, 1, 8, 8), 0.5, dtype=np.float32)
    x[:, :, 2:6] += 0.4 * rng.choice([-1, 1], (200, 1, 1, 1)).astype(np.float32)
    spec = InputSpec((1, 8, 8))
    options = {"width": 8, "batch": 32, "rate": 5e-3, "move": 0.0, "mirror": False, "components": 3, "keep": 0.9}
    prior = _trained(spec, x, steps=150, **options)
    y = prior.standard(x)
    draws = torch.Generator().manual_seed(1)
    times = torch.full((200,), 800)
    noise = torch.randn(y.shape, generator=draws)
    linear = _trained(spec, x, steps=0, **options).denoiser
    with torch.no_grad():
        learned = float(denoising_loss(prior.denoiser, y, times, noise).mean())
        before = float(denoising_loss(linear, y, times, noise).mean())
    assert learned < 0.8 * before


# --- the prior


@pytest.mark.parametrize("shape", [(1, 12, 12), (3, 10, 14)])
def test_decoding_undoes_encoding(shape: tuple[int, ...]) -> None:
    spec = InputSpec(shape, Bounds.of(-1.0, 3.0))
    x = spec.bounds.from_unit(_pictures(20, shape=shape))
    prior = _noisy(_trained(spec, x))
    z = prior.encode(x)
    assert z.shape == (20, prior.size)
    # Of 4 units of width, after four rounds a step.
    assert np.abs(prior.decode(z) - x).max() < 0.05
    assert np.abs(prior.decode(prior.encode(x, rounds=0)) - x).max() > np.abs(prior.decode(z) - x).max()


def test_the_stages_make_up_the_decoder_and_carry_gradients() -> None:
    prior = _noisy(_trained())
    z = torch.randn(3, prior.size, generator=torch.Generator().manual_seed(0)).mul(0.3).requires_grad_(True)
    decoder = prior.decoder()
    out = decoder(z)
    stepwise = z
    for stage in decoder.stages:
        stepwise = stage(stepwise)
    torch.testing.assert_close(stepwise, out)
    np.testing.assert_allclose(out.detach().numpy(), prior.decode(z.detach().numpy()), atol=1e-6)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    (slope,) = torch.autograd.grad((out * weights).sum(), z)
    step = torch.zeros_like(z)
    step[0, 7] = 1e-2
    with torch.no_grad():
        rise = float(((decoder(z + step) - decoder(z - step)) * weights).sum()) / 2e-2
    assert float(slope[0, 7]) == pytest.approx(rise, rel=0.05, abs=1e-3)


def test_samples_look_like_the_records_and_stay_in_bounds() -> None:
    spec = InputSpec((1, 12, 12), Bounds.of(-2.0, 2.0))
    x = spec.bounds.from_unit(_pictures(200))
    prior = _trained(spec, x, steps=0, move=0.0, mirror=False, chain=40)
    drawn = prior.sample(400, np.random.default_rng(0), limit=6.0)
    assert spec.bounds.contain(drawn)
    assert drawn.dtype == np.float32
    np.testing.assert_allclose(drawn.mean(axis=0), x.mean(axis=0), atol=0.15)
    assert drawn.std(axis=0).mean() == pytest.approx(x.std(axis=0).mean(), rel=0.15)
    assert prior.sample(0, np.random.default_rng(0)).shape == (0, 1, 12, 12)


def test_training_depends_on_its_seed_alone() -> None:
    torch.manual_seed(1)
    one = _trained()
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    two = _trained()
    torch.testing.assert_close(torch.random.get_rng_state(), before)
    for a, b in zip(one.denoiser.state_dict().values(), two.denoiser.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, atol=0, rtol=0)
    other = train_diffusion(Records(_pictures(), None), SPEC, 1, Work(), steps=4, width=4, batch=8, mirror=True)
    z = np.random.default_rng(0).standard_normal((2, 144))
    assert not np.array_equal(one.decode(z), other.decode(z))


def test_an_interrupted_training_ends_where_a_whole_one_does(tmp_path) -> None:
    class Stop(Exception):
        pass

    def stopping(progress) -> None:
        if progress.state == "moving" and progress.done >= 0.5:
            raise Stop

    options = {"steps": 6, "width": 4, "batch": 8, "mirror": True}
    public = Records(_pictures(), None)
    with pytest.raises(Stop):
        train_diffusion(public, SPEC, 0, Work(tmp_path / "state", "f", stopping), **options)
    resumed = train_diffusion(public, SPEC, 0, Work(tmp_path / "state", "f"), **options)
    whole = train_diffusion(public, SPEC, 0, Work(), **options)
    for name, value in whole.denoiser.state_dict().items():
        torch.testing.assert_close(resumed.denoiser.state_dict()[name], value, atol=0, rtol=0)


@pytest.mark.parametrize("steps", [0, 4])
def test_what_is_kept_is_all_of_it(steps: int) -> None:
    prior = _trained(steps=steps)
    options, tensors = prior.kept()
    again = reopened(SPEC, options, tensors, prior.learned)
    z = np.random.default_rng(0).standard_normal((3, prior.size))
    np.testing.assert_array_equal(again.decode(z), prior.decode(z))
    assert again.facts == prior.facts


def test_bad_input_is_refused_with_what_to_do() -> None:
    with pytest.raises(DataError, match="at least 4 public records, got 3"):
        _trained(x=_pictures(3))
    with pytest.raises(DataError, match="all the same"):
        _trained(x=np.full((9, 1, 12, 12), 0.5, dtype=np.float32))
    with pytest.raises(DataError, match="at least 8 x 8"):
        _trained(InputSpec((1, 6, 20)), _pictures(shape=(1, 6, 20)))
    table = InputSpec((9,), modality=Modality.TABLE)
    with pytest.raises(DataError, match="use the prior 'pca'"):
        _trained(table, np.random.default_rng(0).random((20, 9)).astype(np.float32))
    with pytest.raises(ConfigError, match="did you mean 'steps'"):
        _trained(step=3)
    with pytest.raises(ConfigError, match="whole number from 0, got -1"):
        _trained(steps=-1)
    with pytest.raises(ConfigError, match="move in"):
        _trained(move=0.7)


# --- the attack


class Templates(nn.Module):
    """Logits are minus the squared distances to known pictures."""

    def __init__(self, pictures: np.ndarray):
        super().__init__()
        self.pictures = nn.Parameter(torch.from_numpy(pictures))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -((x[:, None] - self.pictures) ** 2).flatten(2).sum(2)


def _symmetric(n: int, seed: int) -> np.ndarray:
    """Pictures that are their own mirror images, so that mirroring them does not make others of them."""
    x = _pictures(n, seed)
    return (x + x[..., ::-1]) / 2


def _case(seed: int = 0) -> tuple[np.ndarray, Templates, InversionKnowledge]:
    private = _symmetric(4, 100 + seed)
    public = Records(_symmetric(60, seed), None)
    know = InversionKnowledge(public=public, spec=SPEC, classes=np.arange(4), priors=Shelf())
    return private, Templates(private), know


def _play(net: nn.Module, know: InversionKnowledge, seed: int = 0, **fields: object):
    attack = DiffMI(**({"train_steps": 0, "steps": 20, "starts": 2} | fields))
    target = Target(wrap(net, SPEC), [Access.WEIGHTS])
    return attack, target, attack.run(target, know, np.random.default_rng(seed))


def _nearest(x: np.ndarray, templates: np.ndarray) -> np.ndarray:
    return ((x[:, None] - templates) ** 2).sum(axis=(2, 3, 4)).argmin(axis=1)


def test_the_top_k_loss_is_the_margin_for_one_and_the_mean_for_all() -> None:
    logits = torch.tensor([[1.0, 4.0, 2.0, -3.0], [0.5, 0.0, 9.0, 1.0]])
    classes = torch.tensor([2, 0])
    torch.testing.assert_close(top_k_margin(logits, classes, 1), margin(logits, classes))
    torch.testing.assert_close(top_k_margin(logits, classes, 2), torch.tensor([(4 + 1) / 2 - 2.0, (9 + 1) / 2 - 0.5]))
    torch.testing.assert_close(top_k_margin(logits, classes, 99), torch.tensor([2 / 3 - 2.0, 10 / 3 - 0.5]))


def test_guidance_finds_the_classes_and_the_prior_alone_does_not() -> None:
    private, net, know = _case()
    found = [_play(net, know, guidance=strength)[2].x for strength in (0.0, 0.1, 0.3, 1.0)]
    sure = [float(net(torch.from_numpy(x)).detach().softmax(1).diagonal().mean()) for x in found]
    assert all(more > less + 0.03 for less, more in pairwise(sure))
    assert (_nearest(found[0], private) == np.arange(4)).mean() <= 0.5
    assert list(_nearest(_play(net, know)[2].x, private)) == [0, 1, 2, 3]


def test_the_guess_is_deterministic_and_its_frames_lead_to_it() -> None:
    _, net, know = _case()
    torch.manual_seed(1)
    attack, target, one = _play(net, know)
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    _, _, two = _play(net, know)
    torch.testing.assert_close(torch.random.get_rng_state(), before)
    np.testing.assert_array_equal(one.x, two.x)
    assert target.queries == attack.cost(know, None) == 4 * 2 * (20 + 8)
    assert one.frames is not None
    assert one.frame_at is not None
    assert one.frames.shape == (8, 4, 1, 12, 12)
    assert list(one.frame_at) == sorted(one.frame_at)
    assert one.frame_at[-1] == 20
    np.testing.assert_allclose(one.frames[-1], one.x, atol=0.15)
    assert one.trace["margin"][-1] < one.trace["margin"][0]


def test_as_many_draws_come_back_as_asked_the_surest_first() -> None:
    private, net, know = _case()
    guess = _play(net, know, draws=3)[2]
    assert guess.labels is not None
    assert guess.confidence is not None
    assert list(guess.labels) == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert (np.diff(guess.confidence.reshape(4, 3), axis=1) <= 0).all()
    assert (_nearest(guess.x, private) == guess.labels).mean() >= 0.75
    assert len(np.unique(guess.x.reshape(12, -1), axis=0)) == 12


def test_classes_may_come_in_any_order_and_frames_rise() -> None:
    private, net, know = _case()
    turned = InversionKnowledge(public=know.public, spec=SPEC, classes=np.array([3, 1]), priors=know.priors)
    guess = _play(net, turned)[2]
    assert guess.frames is not None
    assert list(_nearest(guess.x, private)) == [3, 1]
    assert list(_nearest(guess.frames[-1], private)) == [1, 3]


@pytest.mark.parametrize("budget", [72, 100, 10_000])
def test_the_attack_lives_within_its_budget(budget: int) -> None:
    _, net, know = _case()
    attack = DiffMI(train_steps=0, steps=20, starts=2)
    target = Target(wrap(net, SPEC), [Access.WEIGHTS], budget)
    assert attack.obstacle(know, budget) is None
    attack.run(target, know, np.random.default_rng(0))
    assert 0 < target.queries <= attack.cost(know, budget) <= budget
    assert "71" in (attack.obstacle(know, 71) or "")


def test_it_says_what_it_cannot_work_on() -> None:
    _, _, know = _case()
    small = InversionKnowledge(public=know.public, spec=InputSpec((1, 4, 20)), classes=np.arange(2))
    assert "8 x 8" in (DiffMI().obstacle(small, None) or "")
    few = InversionKnowledge(public=Records(_pictures(3), None), spec=SPEC, classes=np.arange(2))
    assert "at least 4" in (DiffMI().obstacle(few, None) or "")
    assert "public" in (DiffMI().obstacle(InversionKnowledge(spec=SPEC, classes=np.arange(2)), None) or "")
