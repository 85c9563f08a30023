"""The parts of the inversion attacks against closed forms, and the attacks against known victims."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from seepage.attacks.inversion.fredrikson2015 import MIFace, _denoise_sharpen, _nl_means
from seepage.attacks.inversion.latent import LatentGradient
from seepage.attacks.inversion.nes import ScoreNES, _margin
from seepage.attacks.inversion.parts import best_of, cross_entropy, margin, total_variation
from seepage.core.errors import BudgetExceeded, ConfigError, DataError
from seepage.core.knowledge import InversionKnowledge
from seepage.core.records import Records
from seepage.core.spec import Bounds, InputSpec
from seepage.core.target import Target
from seepage.core.vocabulary import Access, Modality
from seepage.defenses.outputs.rounding import Round
from seepage.models.judges import fit_judge
from seepage.models.nets import autoencoder, cnn
from seepage.models.priors import PCAPrior
from seepage.models.training import moved
from seepage.targets import wrap

SPEC = InputSpec((1, 12, 12))


def _public(n: int = 40, seed: int = 0) -> np.ndarray:
    """Smooth random pictures in [0, 1]."""
    rng = np.random.default_rng(seed)
    basis = rng.standard_normal((8, 144))
    pictures = 0.5 + 0.06 * rng.standard_normal((n, 8)) @ basis
    return pictures.clip(0, 1).reshape(n, 1, 12, 12).astype(np.float32)


# --- the prior


def test_latents_of_the_public_records_are_white() -> None:
    x = _public(60)
    prior = PCAPrior.fit(x, SPEC, components=8, mirror=False)
    z = prior.encode(x)
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(np.cov(z.T), np.eye(prior.size), atol=0.02)


def test_decoding_undoes_encoding_inside_the_span() -> None:
    prior = PCAPrior.fit(_public(60), SPEC, components=8, mirror=False)
    z = np.random.default_rng(1).uniform(-0.5, 0.5, (5, prior.size)).astype(np.float32)
    np.testing.assert_allclose(prior.encode(prior.decode(z)), z, atol=2e-3)


def test_the_torch_decoder_is_the_same_map() -> None:
    spec = InputSpec((1, 12, 12), Bounds.of(-3.0, 5.0))
    prior = PCAPrior.fit(spec.bounds.from_unit(_public()), spec)
    z = np.random.default_rng(2).standard_normal((4, prior.size)).astype(np.float32)
    np.testing.assert_allclose(prior.decoder()(torch.from_numpy(z)).numpy(), prior.decode(z), atol=1e-5)
    assert spec.bounds.contain(prior.decode(10 * z))


def test_the_order_of_public_records_does_not_matter() -> None:
    x = _public()
    a, b = PCAPrior.fit(x, SPEC), PCAPrior.fit(x[::-1].copy(), SPEC)
    np.testing.assert_allclose(a.basis[:5], b.basis[:5], atol=1e-5)


def test_a_mirrored_prior_is_symmetric() -> None:
    mean = PCAPrior.fit(_public(), SPEC, mirror=True).mean.reshape(12, 12)
    np.testing.assert_allclose(mean, mean[:, ::-1], atol=1e-6)


def test_a_prior_needs_records_that_differ() -> None:
    with pytest.raises(DataError, match="at least 2"):
        PCAPrior.fit(_public(1), SPEC)
    with pytest.raises(DataError, match="all the same"):
        PCAPrior.fit(np.repeat(_public(1), 5, axis=0), SPEC, mirror=False)


# --- the parts


@given(seed=st.integers(0, 1000), classes=st.integers(2, 6))
@settings(max_examples=30, deadline=None)
def test_objectives_rank_like_the_definition(seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    z = torch.from_numpy(rng.standard_normal((4, classes)))
    c = torch.from_numpy(rng.integers(classes, size=4))
    expected = [max(float(z[i, j]) for j in range(classes) if j != c[i]) - float(z[i, c[i]]) for i in range(4)]
    np.testing.assert_allclose(margin(z, c).numpy(), expected)
    np.testing.assert_allclose(cross_entropy(z, c).numpy(), -z.log_softmax(1)[torch.arange(4), c].numpy())


def test_the_margin_keeps_its_gradient_where_cross_entropy_has_none() -> None:
    z = torch.tensor([[60.0, 0.0]], requires_grad=True)
    (steep,) = torch.autograd.grad(margin(z, torch.tensor([0])).sum(), z)
    (flat,) = torch.autograd.grad(cross_entropy(z, torch.tensor([0])).sum(), z)
    assert steep.abs().max() == 1
    assert flat.abs().max() < 1e-12


def test_total_variation_of_a_step_is_its_length() -> None:
    x = torch.zeros(1, 1, 6, 6)
    x[..., 3:] = 0.5
    assert float(total_variation(x)) == pytest.approx(6 * 0.5)


def test_denoising_leaves_a_plain_picture_alone_calms_noise_and_keeps_edges() -> None:
    plain = torch.full((1, 1, 16, 16), 0.4)
    torch.testing.assert_close(_denoise_sharpen(plain), plain)
    noise = 0.04 * torch.randn(plain.shape, generator=torch.Generator().manual_seed(0))
    assert _nl_means(plain + noise).std() < 0.5 * noise.std()
    edge = plain.clone()
    edge[..., 8:] = 0.9
    # Means over alike surroundings do not mix the two sides of an edge.
    torch.testing.assert_close(_nl_means(edge), edge, atol=0.02, rtol=0)
    assert _denoise_sharpen(edge).std() >= edge.std() - 1e-6


def test_moving_by_nothing_changes_nothing() -> None:
    x = torch.rand(3, 1, 9, 9)
    same = moved(x, torch.Generator().manual_seed(0), shift=0, zoom=0, turn=0, mirror=False)
    torch.testing.assert_close(same, x, atol=1e-5, rtol=0)


def test_the_surest_start_of_each_class_is_kept() -> None:
    sure = np.array([0.1, 0.9, 0.2, 0.8, 0.7, 0.1])
    assert list(best_of(sure, 3)) == [1, 3]


def test_the_score_margin_is_floored_and_leaves_the_scores_alone() -> None:
    scores = np.array([[0.0, 1.0], [0.5, 0.5]])
    before = scores.copy()
    np.testing.assert_allclose(_margin(scores, np.array([0, 1]), 0.05), [np.log(0.05), 0.0])
    np.testing.assert_array_equal(scores, before)


# --- MI-Face


class Line(nn.Module):
    """Two classes told apart by the mean pixel: the class-1 logit is `gain * (mean - middle)`."""

    def __init__(self, gain: float, middle: float):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))
        self.middle = middle

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.gain * (x.flatten(1).mean(dim=1) - self.middle)
        return torch.stack([torch.zeros_like(z), z], dim=1)


def _knowledge(classes: int, public: np.ndarray | None = None) -> InversionKnowledge:
    owned = None if public is None else Records(public, None)
    return InversionKnowledge(public=owned, spec=SPEC, classes=np.arange(classes))


def _steps(note: str) -> list[int]:
    low, high = note.split("steps taken: ")[1].split(",")[0].split(" to ")
    return [int(low), int(high)]


def test_mi_face_stops_when_the_class_is_sure() -> None:
    target = Target(wrap(Line(40.0, 0.2), SPEC), [Access.WEIGHTS])
    guess = MIFace(steps=4000, rate=0.5, confidence=0.9).run(target, _knowledge(2), np.random.default_rng(0))
    assert guess.confidence is not None
    # Class 0 is sure of the blank picture at once; class 1 takes some steps, and no more than it must.
    assert guess.confidence[0] > 0.99
    assert 0.9 <= guess.confidence[1] < 0.97
    low, high = _steps(guess.notes[0])
    assert low == 1
    assert 1 < high < 4000


def test_mi_face_stops_when_the_cost_has_stood_still() -> None:
    target = Target(wrap(Line(0.0, 0.0), SPEC), [Access.WEIGHTS])
    guess = MIFace(steps=4000, patience=25).run(target, _knowledge(2), np.random.default_rng(0))
    assert _steps(guess.notes[0]) == [26, 26]


def test_mi_face_does_not_stop_at_one_percent_of_confidence() -> None:
    """The rule "cost <= .99", read literally, would stop a victim of many classes after one step."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(144, 200))
    guess = MIFace(steps=60, rate=300.0).run(
        Target(wrap(net, SPEC), [Access.WEIGHTS]), _knowledge(200), np.random.default_rng(0)
    )
    assert guess.confidence is not None
    assert guess.confidence.mean() > 2 / 200
    assert _steps(guess.notes[0])[1] > 1


def test_mi_face_never_returns_worse_than_it_met() -> None:
    torch.manual_seed(1)
    victim = wrap(nn.Sequential(nn.Flatten(), nn.Linear(144, 5)), SPEC)
    few, many = (
        MIFace(steps=steps).run(Target(victim, [Access.WEIGHTS]), _knowledge(5), np.random.default_rng(0))
        for steps in (5, 60)
    )
    assert few.confidence is not None
    assert many.confidence is not None
    assert (many.confidence >= few.confidence - 1e-6).all()
    probability = victim.predict(many.x)[np.arange(5), np.arange(5)]
    np.testing.assert_allclose(probability, many.confidence, atol=1e-4)


def test_mi_face_searches_codes_when_the_victim_carries_its_autoencoder() -> None:
    torch.manual_seed(0)
    net = autoencoder((1, 12, 12), 3)
    victim = wrap(net, SPEC)
    attack = MIFace(steps=3, process="denoise-sharpen")
    guess = attack.run(Target(victim, [Access.WEIGHTS]), _knowledge(3), np.random.default_rng(0))
    # What is returned comes out of the decoder: an untrained one gives grey pictures near one half.
    assert np.abs(guess.x - 0.5).max() < 0.25
    plain = MIFace(steps=3).run(Target(victim, [Access.WEIGHTS]), _knowledge(3), np.random.default_rng(0))
    assert not np.allclose(plain.x, guess.x)


def test_passes_through_layers_by_hand_are_counted_and_refused_like_any_other() -> None:
    torch.manual_seed(0)
    victim = wrap(nn.Sequential(nn.Flatten(), nn.Linear(144, 5), nn.ReLU(), nn.Linear(5, 3)), SPEC)
    target = Target(victim, [Access.WEIGHTS], 10)
    box = target.weights()
    box(torch.zeros(4, 1, 12, 12))
    assert target.queries == 4  # The layers inside a counted pass cost nothing more.
    (network,) = [layer for layer in box.layers.values() if isinstance(layer, nn.Sequential)]
    network(torch.zeros(3, 1, 12, 12))
    network[1](torch.zeros(2, 144))
    assert target.queries == 9
    with pytest.raises(BudgetExceeded):
        network(torch.zeros(2, 1, 12, 12))
    assert target.queries == 9
    box(torch.zeros(1, 1, 12, 12))
    assert target.remaining == 0


# --- the latent attacks


@pytest.fixture(scope="module")
def trained() -> tuple[np.ndarray, np.ndarray, np.ndarray, nn.Module]:
    """Pictures of four classes, each around a prototype inside the span of the public ones, and their net."""
    public = _public(60)
    prior = PCAPrior.fit(public, SPEC, components=8, mirror=False)
    rng = np.random.default_rng(5)
    prototypes = prior.decode(1.2 * rng.standard_normal((4, prior.size)))
    y = np.repeat(np.arange(4), 10)
    x = (prototypes[y] + 0.03 * rng.standard_normal((40, 1, 12, 12))).clip(0, 1).astype(np.float32)
    from seepage.models.recipes import fit_softmax

    return prototypes, public, x, fit_softmax(x, y, 0, epochs=20)


def _nearest(x: np.ndarray, prototypes: np.ndarray) -> np.ndarray:
    return ((x[:, None] - prototypes[None]) ** 2).sum(axis=(2, 3, 4)).argmin(axis=1)


def test_latent_and_score_searches_find_the_prototypes(trained) -> None:
    prototypes, public, _, net = trained
    victim = wrap(net, SPEC)
    know = _knowledge(4, public)
    white = LatentGradient(components=8, steps=60, augment=False).run(
        Target(victim, [Access.WEIGHTS]), know, np.random.default_rng(0)
    )
    black = ScoreNES(components=8, queries_per_class=800, screened=100).run(
        Target(victim, [Access.SCORES], 3200), know, np.random.default_rng(0)
    )
    assert list(_nearest(white.x, prototypes)) == [0, 1, 2, 3]
    assert list(_nearest(black.x, prototypes)) == [0, 1, 2, 3]
    assert black.trace["mean_score"][-1] > black.trace["mean_score"][0]


def test_an_adversary_who_knows_the_grid_still_climbs(trained) -> None:
    prototypes, public, _, net = trained
    defense = Round(digits=1)
    victim = defense.wrap(wrap(net, SPEC), np.random.default_rng(0))
    know = InversionKnowledge(public=Records(public, None), spec=SPEC, classes=np.arange(4), defenses=(defense,))
    attack = ScoreNES(components=8, queries_per_class=800, screened=100)
    guess = attack.run(Target(victim, [Access.SCORES], 3200), know, np.random.default_rng(0))
    assert (_nearest(guess.x, prototypes) == np.arange(4)).mean() >= 0.75


@pytest.mark.parametrize("budget", [164, 300, 1000])
def test_the_score_search_lives_within_any_budget(trained, budget: int) -> None:
    _, public, _, net = trained
    target = Target(wrap(net, SPEC), [Access.SCORES], budget)
    guess = ScoreNES(components=8).run(target, _knowledge(4, public), np.random.default_rng(0))
    assert 0 < target.queries <= budget
    assert len(guess.x) == 4


def test_one_at_a_time_asks_what_the_batch_asks(trained) -> None:
    _, public, _, net = trained
    asked = []
    for batched in (True, False):
        target = Target(wrap(net, SPEC), [Access.WEIGHTS])
        LatentGradient(components=8, steps=5, starts=3, batched=batched).run(
            target, _knowledge(4, public), np.random.default_rng(0)
        )
        asked.append(target.queries)
    assert asked[0] == asked[1] == LatentGradient(steps=5, starts=3).cost(_knowledge(4, public), None)


# --- the judge


def _people(seed: int, per_class: int, shuffled: bool = False) -> Records:
    rng = np.random.default_rng(7)
    templates = torch.nn.functional.interpolate(torch.from_numpy(rng.random((6, 1, 6, 6))), (24, 24), mode="bilinear")
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(6), per_class)
    x = templates.numpy()[y] + 0.05 * rng.standard_normal((len(y), 1, 24, 24))
    if shuffled:
        y = rng.permutation(y)
    return Records(x.clip(0, 1).astype(np.float32), y, tuple("abcdef"))


def test_the_judge_knows_the_people_and_is_calibrated() -> None:
    spec = InputSpec((1, 24, 24))
    judge = fit_judge(_people(1, 5), held_out=_people(2, 5), spec=spec, kind="auto", avoid="cnn", seed=0)
    said = judge.predict(_people(3, 5).x)
    np.testing.assert_allclose(said.sum(axis=1), 1, atol=1e-6)
    assert (said.argmax(axis=1) == _people(3, 5).y).mean() >= 0.9
    # It never claims more than its few pictures can show: six classes, one held out of each.
    assert said.max() < 0.9999


def test_a_judge_of_wrong_names_is_at_chance() -> None:
    spec = InputSpec((1, 24, 24))
    judge = fit_judge(_people(1, 8, shuffled=True), held_out=_people(2, 8), spec=spec, kind="auto", avoid="mlp", seed=0)
    accuracy = judge.facts["accuracy_held_out"]
    assert isinstance(accuracy, float)
    assert accuracy < 0.5


def test_a_judge_of_the_victims_own_family_is_refused() -> None:
    table = InputSpec((4,), Bounds.of(0.0, 1.0), Modality.TABLE)
    x = np.random.default_rng(0).random((20, 4)).astype(np.float32)
    records = Records(x, np.arange(20) % 2, ("a", "b"), modality=Modality.TABLE)
    options = {"held_out": records, "spec": table, "seed": 0}
    with pytest.raises(ConfigError, match="own family"):
        fit_judge(records, kind="trees", avoid="tree", **options)
    assert fit_judge(records, kind="auto", avoid="tree", **options).family != "tree"
    with pytest.raises(ConfigError, match="did you mean 'trees'"):
        fit_judge(records, kind="tres", avoid="cnn", **options)


def test_the_cnn_takes_pictures_of_any_size_and_colour() -> None:
    for shape in ((1, 8, 8), (3, 20, 28), (1, 112, 92)):
        assert cnn(shape, 5).eval()(torch.zeros(2, *shape)).shape == (2, 5)
