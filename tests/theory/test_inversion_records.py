"""Inverses learned from answers: closed forms, the truncation of Yang et al. 2019, and attacks on known victims."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seepage.attacks.inversion.embeddings import EmbeddingInversion, EmbeddingSearch
from seepage.attacks.inversion.inverse_parts import floor_of, levelled, log_scores, questions
from seepage.attacks.inversion.yang2019 import InverseSurrogate, InversionNetwork, natural_profiles
from seepage.cases.inversion import captured_rows
from seepage.cases.world import World
from seepage.core.attack import InversionAttack
from seepage.core.case import Case
from seepage.core.errors import DataError
from seepage.core.guess import Reconstruction
from seepage.core.knowledge import InversionKnowledge
from seepage.core.records import Records
from seepage.core.scorer import Controls
from seepage.core.secrets import InversionSecret
from seepage.core.seeds import stream
from seepage.core.spec import Bounds, InputSpec
from seepage.core.target import Target
from seepage.core.vocabulary import Modality
from seepage.defenses.outputs.rounding import Round
from seepage.models.inverters import RidgeInverse, Training, fit_inverse, picture_decoder
from seepage.models.priors import PCAPrior
from seepage.scoring.inversion_records import score
from seepage.testing.cases import inversion_case, record_inversion_case, smooth_pictures
from seepage.testing.victims import ConstantVictim, TemplateVictim

NETWORK = InversionNetwork(queries=400, components=20, steps=120)
RIDGE = InversionNetwork(queries=400, components=20, decoder="ridge")
FEATURES = EmbeddingInversion(queries=400, components=20)


def _run(attack: InversionAttack, case: Case, budget: int | None = None) -> tuple[Reconstruction, Target]:
    target = Target(case.victim, attack.needs, budget, captured=case.captured)
    return attack.run(target, _knowledge(case), stream(0, "records")), target


def _knowledge(case: Case) -> InversionKnowledge:
    assert isinstance(case.knowledge, InversionKnowledge)
    return case.knowledge


def _soft(seed: int = 0) -> Case:
    """The record case with a victim whose answers are not saturated, as those of real ones."""
    case = record_inversion_case(seed)
    victim = _widened(case)
    return replace(case, victim=victim, null=victim)


def _widened(case: Case) -> TemplateVictim:
    assert isinstance(case.victim, TemplateVictim)
    return TemplateVictim(case.victim.templates, width=3.0)


# --- how scores are read


@given(seed=st.integers(0, 999), classes=st.integers(2, 9), keep=st.integers(1, 9), offset=st.sampled_from([3.0, 50.0]))
@settings(max_examples=40, deadline=None)
def test_truncated_scores_are_those_of_the_paper(seed: int, classes: int, keep: int, offset: float) -> None:
    """The published steps, one by one: top k, logarithm, clamp, + c, lift to zero, scatter."""
    rng = np.random.default_rng(seed)
    scores = rng.dirichlet(np.full(classes, 0.2), size=5)
    expected = np.zeros_like(scores)
    for row in range(5):
        kept = sorted(range(classes), key=lambda i: -scores[row, i])[:keep]
        values = [max(float(np.log(max(scores[row, i], 1e-300))), float(np.log(1e-6))) + offset for i in kept]
        lift = max(0.0, -min(values))
        for i, value in zip(kept, values, strict=True):
            expected[row, i] = value + lift
    np.testing.assert_allclose(log_scores(scores, keep, 1e-6, offset), expected, atol=1e-9)


def test_by_default_a_score_at_the_floor_reads_like_one_cut_off() -> None:
    scores = np.array([[0.9, 0.1, 0.0, 0.0]])
    np.testing.assert_allclose(log_scores(scores, keep=2), log_scores(scores))
    assert log_scores(scores, floor=0.05)[0].tolist() == pytest.approx([np.log(18), np.log(2), 0, 0])


def test_levelled_answers_do_not_say_how_sure_the_victim_was() -> None:
    rows = np.random.default_rng(0).normal(size=(4, 7))
    np.testing.assert_allclose(levelled(5 * rows + 2), levelled(rows))
    np.testing.assert_allclose((levelled(rows) ** 2).mean(axis=1), 1)
    assert not levelled(np.full((2, 3), 4.0)).any()


def test_profiles_are_means_over_the_surest_answers() -> None:
    scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9]])
    logs = np.arange(6.0).reshape(3, 2)
    np.testing.assert_allclose(natural_profiles(logs, scores, np.array([1, 0]), count=2), [[3, 4], [1, 2]])


# --- the inverses


@pytest.mark.parametrize("pairs", [30, 6])
def test_the_ridge_solves_its_normal_equations(pairs: int) -> None:
    """More pairs than numbers, and fewer: the gradient of the penalised loss vanishes at the solution."""
    rng = np.random.default_rng(1)
    a, t, weight = rng.normal(2, 3, (pairs, 12)), rng.normal(size=(pairs, 4)), 0.1
    found = RidgeInverse.fit(a, t, weight)
    scaled, centred = (a - a.mean(0)) / a.std(0), t - t.mean(0)
    slope = scaled.T @ (scaled @ found.matrix - centred) + weight * pairs * found.matrix
    np.testing.assert_allclose(slope, 0, atol=1e-9)


@pytest.mark.parametrize("colour", [1, 3])
def test_the_ridge_inverts_a_linear_embedding_exactly(colour: int) -> None:
    """Records in the span of the prior, embedded by an injective linear map, come back as they were."""
    rng = np.random.default_rng(2)
    spec = InputSpec((colour, 8, 10), Bounds.of(-2.0, 3.0))
    basis = rng.normal(size=(5, spec.size))
    public, hidden = (
        spec.bounds.from_unit((0.5 + 0.02 * rng.normal(size=(n, 5)) @ basis).reshape(n, *spec.shape)) for n in (60, 7)
    )
    prior = PCAPrior.fit(public, spec, components=20, mirror=False)
    embed = rng.normal(size=(spec.size, 9))
    answers = public.reshape(60, -1) @ embed
    inverse = fit_inverse("ridge", answers, public, prior, torch.Generator(), Training(weight=1e-10))
    np.testing.assert_allclose(inverse(hidden.reshape(7, -1) @ embed), hidden, atol=2e-3)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 12, 17), (1, 28, 28), (3, 32, 32), (1, 64, 64)])
def test_the_picture_decoder_makes_pictures_of_any_size(shape: tuple[int, ...]) -> None:
    made = picture_decoder(5, shape, width=4)(torch.randn(2, 5))
    assert made.shape == (2, *shape)
    assert 0 < float(made.detach().min()) < float(made.detach().max()) < 1


@pytest.mark.parametrize("kind", ["network", "pixels"])
@pytest.mark.parametrize("modality", [Modality.IMAGE, Modality.TABLE])
def test_networks_learn_an_inverse(kind: str, modality: Modality) -> None:
    """A one-to-one answer is inverted better than by the mean record, which no answer at all would give."""
    rng = np.random.default_rng(3)
    shape = (1, 8, 8) if modality is Modality.IMAGE else (12,)
    spec = InputSpec(shape, Bounds.of(0.0, 4.0), modality=modality)
    hidden = rng.normal(size=(240, 3))
    x = spec.bounds.from_unit((0.5 + 0.12 * np.tanh(hidden) @ rng.normal(size=(3, spec.size))).clip(0, 1))
    x = x.reshape(240, *shape)
    prior = PCAPrior.fit(x[:200], spec, components=3, mirror=False)
    how = Training(steps=150, rate=5e-3, batch=64, width=8)
    inverse = fit_inverse(kind, hidden[:200], x[:200], prior, torch.Generator().manual_seed(0), how)  # type: ignore[arg-type]
    made = inverse(hidden[200:])
    assert made.dtype == np.float32
    assert spec.bounds.contain(made)
    missed = ((made - x[200:]) ** 2).mean()
    assert missed < 0.35 * ((x[:200].mean(axis=0) - x[200:]) ** 2).mean()


def test_an_inverse_needs_pairs() -> None:
    with pytest.raises(DataError, match="two pairs"):
        RidgeInverse.fit(np.zeros((1, 2)), np.zeros((1, 2)), 0.1)
    with pytest.raises(DataError, match="finite"):
        RidgeInverse.fit(np.full((3, 2), np.nan), np.zeros((3, 2)), 0.1)


@pytest.mark.parametrize("count", [5, 40, 41, 97])
def test_as_many_questions_are_asked_as_were_allowed_and_all_within_the_bounds(count: int) -> None:
    spec = InputSpec((1, 12, 12), Bounds.of(-1.0, 1.0))
    public = spec.bounds.from_unit(smooth_pictures(40, np.random.default_rng(0)))
    prior = PCAPrior.fit(public, spec, components=8)
    x = questions(public, prior, spec, count, np.random.default_rng(1))
    assert x.shape == (count, 1, 12, 12)
    assert spec.bounds.contain(x, tolerance=0)
    assert count < 40 or (x[:40] == public).all()


# --- the attacks


@pytest.mark.parametrize("attack", [RIDGE, FEATURES], ids=lambda a: a.name)
def test_reconstructions_come_in_the_order_of_the_answers(attack: InversionAttack) -> None:
    case = _soft()
    assert case.captured is not None
    order = np.array([3, 0, 5, 1, 4, 2])
    plain, _ = _run(attack, case)
    turned, _ = _run(attack, replace(case, captured=case.captured[order]))
    np.testing.assert_allclose(turned.x, plain.x[order], atol=1e-5)
    assert np.abs(plain.x - plain.x[order]).max() > 0.05


@pytest.mark.parametrize("attack", [NETWORK, RIDGE, FEATURES], ids=["network", "ridge", "embeddings"])
def test_records_come_back_from_their_own_answers_and_from_no_others(attack: InversionAttack) -> None:
    case = _soft()
    assert isinstance(case.secret, InversionSecret)
    guess, _ = _run(attack, case)
    shuffled, _ = _run(attack, replace(case, captured=case.null_captured))
    found = score(guess, case.secret, Controls(no_model=case.baselines, null_model=shuffled)).scores
    for name in ("judge_accuracy_1", "record_identified"):
        assert found[name].value == pytest.approx(1.0)
        leakage = found[name].leakage
        assert leakage is not None
        assert leakage.low > 0
    null = score(shuffled, case.secret, Controls()).scores["record_identified"]
    assert null.low is not None
    assert null.low <= 1 / 6


def test_a_search_with_the_weights_ends_nearer_to_the_captured_features() -> None:
    case = _soft()
    few, _ = _run(EmbeddingSearch(learned=40, starts=2, steps=1, components=20), case)
    many, _ = _run(EmbeddingSearch(learned=40, starts=2, steps=60, components=20), case)
    assert few.confidence is not None
    assert many.confidence is not None
    assert (many.confidence > few.confidence).all()
    assert case.captured is not None
    # Six distances leave a picture of 144 values open; the rest is the prior's.
    assert ((many.x - case.captured) ** 2).mean() < 0.5 * case.captured.var()


@pytest.mark.parametrize("attack", [NETWORK, RIDGE, FEATURES], ids=["network", "ridge", "embeddings"])
def test_a_constant_victim_gives_every_record_the_same_picture(attack: InversionAttack) -> None:
    case = record_inversion_case(0)
    assert isinstance(case.secret, InversionSecret)
    constant = ConstantVictim(np.arange(1, 7) / 21, InputSpec((1, 12, 12)))
    guess, _ = _run(attack, replace(case, victim=constant))
    np.testing.assert_allclose(guess.x, np.repeat(guess.x[:1], 6, axis=0), atol=1e-5)
    found = score(guess, case.secret, Controls()).scores
    assert found["judge_accuracy_1"].value == pytest.approx(1 / 6)
    assert found["record_identified"].value == pytest.approx(1 / 6)


def test_ideal_answers_give_back_the_classes() -> None:
    case = inversion_case(0)
    victim = _widened(case)
    guess, target = _run(InverseSurrogate(queries=400, components=20), replace(case, victim=victim))
    assert guess.labels is not None
    assert guess.frames is not None
    assert (victim.predict(guess.x).argmax(axis=1) == guess.labels).mean() >= 5 / 6
    np.testing.assert_array_equal(guess.frames[-1], guess.x[np.argsort(guess.labels)])
    assert guess.frame_at is not None
    assert guess.frame_at.tolist() == [406, 412, 418, 424]
    assert target.queries == 424


@pytest.mark.parametrize(
    "attack", [NETWORK, InverseSurrogate(queries=400, components=20), FEATURES], ids=lambda a: a.name
)
@pytest.mark.parametrize("budget", [32, 100, 5000])
def test_budgets_are_kept(attack: InversionAttack, budget: int) -> None:
    case = record_inversion_case(0)
    assert attack.obstacle(case.knowledge, budget) is None
    _, target = _run(attack, case, budget)
    assert target.queries == attack.cost(_knowledge(case), budget) <= budget
    assert attack.obstacle(case.knowledge, 7) is not None


def test_a_known_grid_sets_the_floor_of_the_logarithms() -> None:
    """Behind rounded scores an aware adversary reads a zero as half a step; one who is not, as next to nothing."""
    case = _soft()
    assert floor_of(_knowledge(case.defended(Round(digits=1)))) == pytest.approx(0.05)
    assert floor_of(_knowledge(case.defended(Round(digits=1), aware=False))) == pytest.approx(1e-6)
    guess, _ = _run(RIDGE, case.defended(Round(digits=1)))
    assert np.isfinite(guess.x).all()


# --- which answers are captured


def _world(counts: list[int]) -> World:
    y = np.repeat(np.arange(len(counts)), counts)
    x = np.random.default_rng(0).random((len(y), 1, 8, 8)).astype(np.float32)
    members = Records(x, y)
    return World(open_victim=lambda: inversion_case(0).victim, spec=InputSpec((1, 8, 8)), members=members)  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [([30, 30], 20), ([50] * 5, 20), ([5] * 20, 20), ([4] * 30, 30), ([3] * 60, 40), ([3, 9], 6)],
)
def test_captured_records_are_spread_over_the_classes(counts: list[int], expected: int) -> None:
    world = _world(counts)
    rows = captured_rows(world)
    labels = world.members.labels()[rows]
    assert len(rows) == len(set(rows.tolist())) == expected
    assert np.bincount(labels).max() - np.bincount(labels)[np.unique(labels)].min() <= 0
    assert (labels != np.roll(labels, 1)).all()
