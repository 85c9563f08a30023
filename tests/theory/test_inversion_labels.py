"""The attacks that see labels alone, against boundaries that are known."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from seepage.attacks.inversion.kahla2022 import BoundaryRepulsion, Centres, directions, repulsion
from seepage.attacks.inversion.labelled import Ledger, Questions, blends_of, screen, unnamed
from seepage.attacks.inversion.nguyen2023_lokt import KnowledgeTransfer, blended
from seepage.attacks.inversion.surrogates import Answers, Copies
from seepage.core.spec import Bounds, InputSpec
from seepage.core.target import Target
from seepage.core.vocabulary import Access, Modality
from seepage.defenses.outputs.labels import LabelsOnly
from seepage.models.priors import PCAPrior
from seepage.models.training import seeded
from seepage.testing.cases import inversion_case
from seepage.testing.victims import ConstantVictim, TemplateVictim

ATTACKS = (
    BoundaryRepulsion(points=8, components=12),
    KnowledgeTransfer(components=12, surrogates=1, width=2, training=6, steps=4, starts=2),
)
TABLE = InputSpec((8,), Bounds.of(-4.0, 4.0), Modality.TABLE)


@dataclass(frozen=True)
class Planes:
    """A linear victim of latents: the class is the row of `normals` with the greatest n.x + b."""

    normals: np.ndarray
    offsets: np.ndarray
    spec: InputSpec = TABLE
    family: str = "linear"
    offers: frozenset[Access] = frozenset({Access.LABELS})

    @property
    def classes(self):
        return len(self.normals)

    def predict(self, x):
        z = x @ self.normals.T + self.offsets
        return (z == z.max(axis=1, keepdims=True)).astype(np.float32)


@dataclass(frozen=True)
class Ball:
    """Class 1 is a ball."""

    middle: np.ndarray
    radius: float
    spec: InputSpec = TABLE
    family: str = "ball"
    offers: frozenset[Access] = frozenset({Access.LABELS})

    @property
    def classes(self):
        return 2

    def predict(self, x):
        inside = np.linalg.norm(x - self.middle, axis=1) < self.radius
        return np.stack([~inside, inside], axis=1).astype(np.float32)


class Identity:
    """A prior whose records are its latents."""

    kind, spec, size, facts = "own", TABLE, 8, {}

    def decode(self, z):
        return np.clip(z, -4, 4).astype(np.float32)

    def encode(self, x):
        return x

    def sample(self, n, rng, limit=2.0):
        return self.decode(rng.standard_normal((n, 8)).clip(-limit, limit))

    def decoder(self):
        raise NotImplementedError


def _plane(offset=0.0):
    """Two classes on either side of a plane at distance `offset` from the origin; class 1 lies along the normal."""
    normal = np.random.default_rng(1).standard_normal(8)
    normal /= np.linalg.norm(normal)
    return normal, Planes(np.stack([np.zeros(8), normal]), np.array([0.0, -offset]))


def _questions(victim, prior=None, budget=None, seed=0):
    target = Target(victim, {Access.LABELS}, budget)
    return Questions(target, prior or Identity(), torch.Generator().manual_seed(seed))


def _cosine(a, b):
    return float((a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b)))


def _play(attack, case, budget=None, seed=0):
    target = Target(case.victim, attack.needs, budget)
    return attack.run(target, case.knowledge, np.random.default_rng(seed)), target.queries


# --- boundary repulsion


def test_the_repulsion_points_along_the_boundary_s_normal_more_exactly_with_more_points():
    normal, victim = _plane()
    rng = np.random.default_rng(2)
    agree = []
    for points in (8, 64, 4000):
        around = directions(20, points, 8, rng)
        inside = victim.predict(around.reshape(-1, 8)).argmax(axis=1).reshape(20, points) == 1
        moves = repulsion(around, inside)
        agree.append(float(np.mean([_cosine(m, normal) for m in moves])))
    assert agree == sorted(agree)
    assert agree[0] > 0.4
    assert agree[-1] > 0.99
    # In the middle of a sphere halved by the plane, half the mean of |cos|: E|u.n| / 2 in eight dimensions.
    expected = 0.5 * 0.2910
    assert np.linalg.norm(moves.mean(axis=0)) == pytest.approx(expected, rel=0.03)


def test_nothing_repels_a_sphere_that_is_all_inside():
    around = directions(3, 16, 8, np.random.default_rng(3))
    np.testing.assert_array_equal(repulsion(around, np.ones((3, 16), dtype=bool)), 0)
    # And one that is all outside is pushed nowhere in particular.
    pushed = repulsion(directions(1, 20000, 8, np.random.default_rng(3)), np.zeros((1, 20000), dtype=bool))
    assert np.linalg.norm(pushed) < 0.02


def test_directions_are_unit_vectors_in_no_preferred_direction():
    around = directions(2, 5000, 6, np.random.default_rng(4))
    np.testing.assert_allclose(np.linalg.norm(around, axis=2), 1)
    np.testing.assert_allclose(np.einsum("cpi,cpj->ij", around, around) / 10000, np.eye(6) / 6, atol=0.01)


@pytest.mark.parametrize(("depth", "grows"), [(3.0, True), (0.05, False)])
def test_the_radius_grows_when_the_sphere_is_inside_and_only_then(depth, grows):
    normal, victim = _plane()
    questions = _questions(victim)
    start = Centres((depth * normal)[None].astype(np.float32), np.array([2.0]), np.ones(1, dtype=bool))
    before = start.z.copy()
    attack = BoundaryRepulsion(limit=4.0, points=64)
    attack._repel(questions, np.array([1]), start, np.random.default_rng(5))
    assert questions.target.queries == 65
    assert start.inside[0] == 1.0 if grows else 0.4 < start.inside[0] < 0.6
    assert start.radius[0] == pytest.approx(2.0 * 1.3 if grows else 2.0)
    assert start.idle[0] == (0 if grows else 1)
    moved = float((start.z - before)[0] @ normal)
    assert moved == 0 if grows else moved > 0.03


def test_a_step_never_leaves_the_class_and_a_class_without_growth_is_done():
    normal, victim = _plane()
    questions = _questions(victim)
    start = Centres((0.01 * normal)[None].astype(np.float32), np.array([3.0]), np.ones(1, dtype=bool))
    attack = BoundaryRepulsion(limit=4.0, points=4, inside=1.0, patience=15)
    rng = np.random.default_rng(6)
    for _ in range(15):
        assert start.active[0]
        attack._repel(questions, np.array([1]), start, rng)
        assert float(start.z[0] @ normal) > 0
    assert not start.active[0]


def _settled(outside):
    """How far from the middle of a ball of radius 3 the search stays on its last 60 of 150 steps, and its radii."""
    middle = np.array([1.0, -1.0, 0.5, 0, 0, 0, 1.0, 0])
    questions = _questions(Ball(middle, 3.0))
    off = np.random.default_rng(7).standard_normal(8)
    start = (middle + 2.2 * off / np.linalg.norm(off)).astype(np.float32)
    centres = Centres(start[None], np.array([1.0]), np.ones(1, dtype=bool))
    attack = BoundaryRepulsion(limit=6.0, points=32, outside=outside, step=1 / 3)
    rng = np.random.default_rng(8)
    away = []
    for _ in range(150):
        attack._repel(questions, np.array([1]), centres, rng)
        away.append(float(np.linalg.norm(centres.z[0] - middle)))
    return np.mean(away[-60:]), np.array(centres.radii)


def test_the_sphere_settles_in_the_middle_of_a_class_that_is_a_ball():
    away, radii = _settled(0.1)
    assert away < 0.5
    # It is as large as the ball, give or take the factor it grows by.
    assert (radii[-60:] > 3.0 / 1.3).all()
    assert (radii[-60:] < 3.0 * 1.3).all()


def test_a_sphere_that_never_shrinks_lets_its_centre_wander():
    """The published rule: once larger than the class it learns nothing more."""
    away, radii = _settled(0.0)
    assert (np.diff(radii) >= 0).all()
    assert away > 2 * _settled(0.1)[0]


def test_repulsion_goes_deeper_into_every_class_than_it_began():
    case = inversion_case(2)
    attack = BoundaryRepulsion(queries_per_class=800, components=20, moves=0.0)
    guess, _ = _play(attack, case)
    assert isinstance(case.victim, TemplateVictim)
    assert guess.frames is not None
    assert case.victim.predict(guess.x).argmax(axis=1).tolist() == guess.labels.tolist()
    prior = PCAPrior.fit(case.knowledge.public.x, case.knowledge.spec, components=20)
    ask = Questions(Target(case.victim, {Access.LABELS}), prior, torch.Generator().manual_seed(0), moves=0.0)

    def kept(x):
        noisy = np.repeat(prior.encode(x), 200, axis=0)
        noisy = noisy + 1.2 * np.random.default_rng(0).standard_normal(noisy.shape)
        return (ask.labels(noisy.astype(np.float32)).reshape(6, 200) == guess.labels[:, None]).mean(axis=1)

    assert kept(guess.x).mean() > kept(guess.frames[0]).mean() + 0.05


# --- what both share


def test_the_mean_of_what_is_labelled_as_a_class_points_into_it():
    normal, victim = _plane(offset=0.8)
    questions = _questions(victim)
    rng = np.random.default_rng(7)
    agree = []
    for count in (40, 400, 8000):
        z = rng.standard_normal((count, 8)).astype(np.float32)
        ledger = Ledger(z, questions.labels(z))
        agree.append(_cosine(ledger.centres(np.array([1]))[0], normal))
    assert agree == sorted(agree)
    assert agree[-1] > 0.99


def test_a_class_that_is_never_named_is_looked_for_further_out():
    """A far plane: draws of the prior hardly reach behind it, wider ones do."""
    _, near = _plane(offset=0.5)
    _, far = _plane(offset=4.2)
    known = np.random.default_rng(8).standard_normal((30, 8)).astype(np.float32) * 0.5
    sizes = []
    for victim in (near, far):
        ledger = screen(_questions(victim), known, np.array([0, 1]), 4000, 4.0, np.random.default_rng(9))
        assert len(ledger.y) == 4000
        sizes.append(float(np.linalg.norm(ledger.z, axis=1).max()))
    assert sizes[1] > 1.15 * sizes[0]


def test_blends_lie_between_what_they_blend():
    known = np.random.default_rng(10).standard_normal((5, 8)).astype(np.float32)
    blends = blends_of(known, 300, np.random.default_rng(11))
    assert (blends <= known.max(axis=0) + 1e-6).all()
    assert (blends >= known.min(axis=0) - 1e-6).all()
    # One blend of two is at a distance from neither greater than theirs from each other.
    gaps = np.linalg.norm(known[:, None] - known[None], axis=2)
    near = np.linalg.norm(blends[:, None] - known[None], axis=2)
    assert (np.sort(near, axis=1)[:, 1] <= gaps.max()).all()


def test_random_moves_turn_labels_into_frequencies():
    """A picture on the boundary of a victim that sees shifts is labelled now one way, now the other."""
    case = inversion_case(0)
    victim, spec = case.victim, case.knowledge.spec
    assert isinstance(victim, TemplateVictim)
    prior = PCAPrior.fit(case.knowledge.public.x, spec, components=20)
    middle = prior.encode(((victim.templates[0] + victim.templates[1]) / 2)[None].astype(np.float32))
    still = Questions(Target(victim, {Access.LABELS}), prior, torch.Generator().manual_seed(0), moves=0.0)
    moved = Questions(Target(victim, {Access.LABELS}), prior, torch.Generator().manual_seed(0), moves=0.1)
    names = still.labels(np.repeat(middle, 60, axis=0))
    assert len(np.unique(names)) == 1
    shares = [moved.frequency(middle, np.array([c]), 200)[0] for c in range(6)]
    assert max(shares) < 1
    assert still.frequency(middle, names[:1], 0)[0] == 0
    assert moved.target.queries == 1200


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: a.name)
@pytest.mark.parametrize("budget", [6, 7, 13, 60, 191, 600, 2500])
def test_no_budget_is_exceeded_and_none_is_left_lying(attack, budget):
    case = inversion_case(1)
    guess, asked = _play(attack, case, budget)
    assert asked <= attack.cost(case.knowledge, budget) <= budget
    assert asked > budget - 6 * 9 - 1
    assert guess.labels.tolist() == case.knowledge.classes.tolist()
    assert guess.frames is not None
    assert (np.diff(guess.frame_at) >= 0).all()
    assert guess.frame_at[-1] == asked
    np.testing.assert_array_equal(guess.frames[-1], guess.x)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: a.name)
def test_a_budget_below_one_query_a_class_is_refused(attack):
    knowledge = inversion_case(1).knowledge
    assert "at the least: 6" in attack.obstacle(knowledge, 5)
    assert attack.obstacle(knowledge, 6) is None
    assert attack.model_copy(update={"queries_per_class": 10}).cost(knowledge, 1000) == 60


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: a.name)
def test_a_constant_victim_gives_nothing_and_the_guess_says_so(attack):
    case = inversion_case(1)
    constant = ConstantVictim(np.array([1, 1, 1, 9, 1, 1]) / 14, case.knowledge.spec)
    guess, _ = _play(attack, replace(case, victim=constant), 600)
    assert any("named: 0, 1, 2, 4, 5;" in note for note in guess.notes)
    # What was never named is the mean record for all, and nobody believes it.
    others = [0, 1, 2, 4, 5]
    np.testing.assert_array_equal(guess.x[others], guess.x[[0] * 5])
    assert guess.confidence[others].max() == 0
    assert guess.confidence[3] == 1


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: a.name)
def test_classes_come_back_in_the_order_they_were_asked_for(attack):
    case = inversion_case(1)
    knowledge = replace(case.knowledge, classes=np.array([4, 1, 5]))
    guess, _ = _play(attack, replace(case, knowledge=knowledge), 900)
    straight, _ = _play(attack, replace(case, knowledge=replace(knowledge, classes=np.array([1, 4, 5]))), 900)
    assert guess.labels.tolist() == [4, 1, 5]
    np.testing.assert_array_equal(guess.x, straight.x[[1, 0, 2]])
    np.testing.assert_array_equal(guess.frames[-1], straight.x)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: a.name)
def test_labels_alone_are_all_they_use(attack):
    """Behind a defense that leaves labels and nothing else the guess is the same, bit for bit."""
    case = inversion_case(1)
    behind = LabelsOnly().wrap(case.victim, np.random.default_rng(0))
    bare, _ = _play(attack, case, 600)
    defended, _ = _play(attack, replace(case, victim=behind), 600)
    np.testing.assert_array_equal(bare.x, defended.x)


def test_the_note_names_the_classes_never_named():
    assert unnamed(np.array([2, 5]), np.array([True, True])) == ()
    assert "5;" in unnamed(np.array([2, 5]), np.array([True, False]))[0]


# --- surrogates


def _knowledge_of(spec):
    low, width = float(spec.bounds.low.min()), float((spec.bounds.high - spec.bounds.low).max())
    return lambda x: (x - low) / width


def test_surrogates_agree_with_the_victim_the_more_the_more_they_are_told():
    rng = np.random.default_rng(12)
    victim = Planes(rng.standard_normal((5, 8)), np.zeros(5))
    unit = _knowledge_of(TABLE)
    fresh = rng.standard_normal((2000, 8)).astype(np.float32)
    truth = victim.predict(fresh).argmax(axis=1)
    agree = []
    for count in (20, 200, 4000):
        answers = Answers(unit, np.random.default_rng(0))
        z = rng.standard_normal((count, 8)).astype(np.float32)
        answers.add(z, victim.predict(z).argmax(axis=1))
        with seeded(0) as draws:
            copies = Copies(TABLE, 5, 2, 8, unit)
            copies.learn(answers, 300, draws)
        agree.append(float((copies.logs(fresh).argmax(axis=1) == truth).mean()))
    assert agree == sorted(agree)
    assert agree[-1] > agree[0] + 0.2
    assert agree[-1] > 0.9


def test_rare_labels_are_learned_from_more_often_than_they_come():
    answers = Answers(lambda x: x, np.random.default_rng(0))
    answers.add(np.zeros((100, 2), dtype=np.float32), np.repeat([0, 1], [64, 36]))
    weights = answers.weights()
    # n / sqrt(n): a label drawn in proportion to the square root of its number.
    assert float(weights[:64].sum() / weights[64:].sum()) == pytest.approx(8 / 6)


def test_answers_beyond_the_memory_are_forgotten_at_random_and_pictures_keep_a_255th():
    answers = Answers(lambda x: x, np.random.default_rng(0), memory=50)
    x = np.random.default_rng(1).random((200, 1, 3, 3)).astype(np.float32)
    for at in range(0, 200, 20):
        answers.add(x[at : at + 20], np.full(20, at // 20))
    assert 50 <= len(answers) <= 60
    kept, y = answers.rows(torch.arange(len(answers)))
    assert len(np.unique(y)) > 5
    whole = x[np.abs(x[:, None] - kept.numpy()[None]).max(axis=(2, 3, 4)).argmin(axis=0)]
    assert np.abs(whole - kept.numpy()).max() <= 0.5 / 255 + 1e-6


def test_the_blend_follows_the_surest_start():
    found = np.array([[[0.0], [1.0]], [[2.0], [4.0]]], dtype=np.float32)
    np.testing.assert_allclose(blended(found, np.array([0.0, 0.0, -500.0, 0.0])), [[0.5], [4.0]])
    np.testing.assert_allclose(blended(found, np.log([0.75, 0.25, 0.5, 0.5])), [[0.25], [3.0]], rtol=1e-6)


def test_transfer_finds_the_templates_from_labels():
    case = inversion_case(2)
    attack = KnowledgeTransfer(queries_per_class=600, components=20, width=4, training=240, steps=40, moves=0.0)
    guess, _ = _play(attack, case)
    assert isinstance(case.victim, TemplateVictim)
    said = case.secret.judge.predict(guess.x).argmax(axis=1)
    assert (said == guess.labels).mean() >= 0.8
    assert guess.trace["agreement"].shape == (1,)
