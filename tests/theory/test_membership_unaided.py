"""Membership attacks without reference models, on victims whose answers are known in closed form."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch import nn

from seepage.attacks.membership import outsiders
from seepage.attacks.membership.bertran2023 import QuantileRegression, level, pinball
from seepage.attacks.membership.choquette2021 import Augmentation, moved, two_valued
from seepage.attacks.membership.choquette2021_boundary import BoundaryDistance
from seepage.attacks.membership.nasr2019 import GradientNorm
from seepage.attacks.membership.song2021 import ClassThreshold, placed, ranked
from seepage.attacks.membership.yeom2018 import Threshold
from seepage.core.errors import BudgetExceeded, DataError
from seepage.core.knowledge import Knowledge, MembershipKnowledge
from seepage.core.records import Records
from seepage.core.scorer import Controls
from seepage.core.secrets import MembershipSecret
from seepage.core.spec import Bounds, InputSpec
from seepage.core.target import Target
from seepage.core.vocabulary import Access, Modality
from seepage.scoring.membership import score
from seepage.targets.torch import TorchModel


@dataclass(frozen=True)
class Linear:
    """Class 1 where w x + b > 0, in a box of values."""

    w: np.ndarray
    b: float
    bounds: Bounds
    modality: Modality = Modality.TABLE
    family: str = "linear"
    offers: frozenset[Access] = frozenset({Access.LABELS})
    classes: int = 2

    @property
    def spec(self) -> InputSpec:
        return InputSpec((len(self.w),), self.bounds, self.modality)

    def predict(self, x):
        z = x.astype(np.float64) @ self.w + self.b
        return softmax(np.column_stack([-z, z]), axis=1)


@dataclass(frozen=True)
class Confident:
    """Answers with log-odds that are the last column of a record; the first is its class."""

    classes: int
    width: int
    family: str = "table"
    offers: frozenset[Access] = frozenset({Access.SCORES})

    @property
    def spec(self) -> InputSpec:
        return InputSpec((self.width,), Bounds.of(-100.0, 100.0), Modality.TABLE)

    def predict(self, x):
        p = 1 / (1 + np.exp(-x[:, -1].astype(np.float64)))
        table = np.repeat(((1 - p) / (self.classes - 1))[:, None], self.classes, axis=1)
        table[np.arange(len(x)), x[:, 0].astype(int)] = p
        return table


def _records(x: np.ndarray, y: np.ndarray, classes: int) -> Records:
    return Records(x.astype(np.float32), y, tuple(map(str, range(classes))), modality=Modality.TABLE)


def _run(attack: Any, victim: Any, candidates: Records, public: Records | None = None, budget: int | None = None):
    target = Target(victim, attack.needs, budget)
    knowledge = MembershipKnowledge(public=public, candidates=candidates)
    return attack.run(target, knowledge, np.random.default_rng(3)), target


def _scored(guess, candidates: Records, is_member: np.ndarray):
    return score(guess, MembershipSecret(is_member=is_member, candidates=candidates), Controls()).scores


# One threshold a class


def _uneven(members: int, others: int, shift: float, seed: int, classes: int = 4):
    """Classes of very different confidence; members are `shift` more confident than others of their class."""
    rng = np.random.default_rng(seed)
    n = members + others
    y = rng.integers(classes, size=n)
    inside = rng.permutation(n) < members
    confidence = 6.0 * y - 6 + rng.normal(size=n) + shift * inside
    return _records(np.column_stack([y, np.zeros(n), confidence]), y, classes), inside


def test_thresholds_by_class_beat_one_threshold_where_classes_differ():
    candidates, inside = _uneven(400, 400, 1.0, 1)
    public, _ = _uneven(0, 800, 0.0, 2)
    victim = Confident(4, 3)
    guess, target = _run(ClassThreshold(), victim, candidates, public)
    single, _ = _run(Threshold(statistic="modified-entropy"), victim, candidates)
    by_class, overall = (_scored(g, candidates, inside)["auc"] for g in (guess, single))
    # Phi(1 / sqrt 2) = .760 is what is there to be had; one threshold mixes classes six deviations apart.
    assert by_class.value == pytest.approx(0.760, abs=0.03)
    assert overall.value < 0.60
    assert by_class.low > overall.high
    assert target.queries == 1600


def test_thresholds_by_class_accuse_as_many_as_they_say():
    rates = []
    for seed in range(20):
        candidates, inside = _uneven(10, 400, 1.0, 10 + seed)
        public, _ = _uneven(0, 1000, 0.0, 50 + seed)
        guess, _ = _run(ClassThreshold(false_alarms=0.1, shrinkage=1.0), Confident(4, 3), candidates, public)
        rates.append((guess.values[~inside] > guess.trace["threshold"][0]).mean())
    assert np.mean(rates) == pytest.approx(0.1, abs=0.015)


def test_a_class_without_public_records_is_read_like_all():
    theirs = np.linspace(-5, 0, 101)
    found = placed(np.array([-2.5]), np.array([1]), theirs, np.zeros(101, dtype=int), 20.0)
    assert found == pytest.approx(51 / 101)
    # With as many of its own as the shrinkage the place is half of each: none of 20 below, 51 of 121 below altogether.
    classes = np.repeat([0, 1], [101, 20])
    found = placed(np.array([-2.5]), np.array([1]), np.append(theirs, np.full(20, -1.0)), classes, 20.0)
    assert found == pytest.approx(0.5 * 0 + 0.5 * 51 / 121)


def test_ties_of_places_are_ranked_by_the_statistic_and_places_keep_their_order():
    places, mine = np.array([1.0, 1.0, 0.5, 0.5, 0.2]), np.array([-1.0, -0.5, -3.0, -3.0, 0.0])
    found = ranked(places, mine)
    assert found[1] > found[0] > found[2] == found[3] > found[4]
    assert (np.abs(found - places) <= 0.15 + 1e-12).all()


@pytest.mark.parametrize("attack", [ClassThreshold(), QuantileRegression(regressor="linear")])
def test_exchangeable_candidates_are_not_told_apart(attack):
    called = 0
    for seed in range(30):
        candidates, _ = _uneven(0, 160, 0.0, 100 + seed)
        public, _ = _uneven(0, 200, 0.0, 300 + seed)
        inside = np.random.default_rng(seed).permutation(160) < 80
        guess, _ = _run(attack, Confident(4, 3), candidates, public)
        found = _scored(guess, candidates, inside)["auc"]
        called += not found.low <= 0.5 <= found.high
    assert called <= 5


@pytest.mark.parametrize("attack", [ClassThreshold(), QuantileRegression(regressor="class")])
def test_outsiders_are_asked_within_the_budget_or_it_says_what_is_missing(attack):
    candidates, _ = _uneven(30, 30, 1.0, 5)
    public, _ = _uneven(0, 100, 0.0, 6)
    known = MembershipKnowledge(public=public, candidates=candidates)
    assert attack.cost(known, None) == 160
    assert attack.cost(known, 100) == 100
    _, target = _run(attack, Confident(4, 3), candidates, public, budget=100)
    assert target.queries == 100
    assert "80 are needed, the budget is 79" in str(attack.obstacle(known, 79))
    assert attack.obstacle(known, 80) is None
    assert "20 public records" in str(attack.obstacle(replace(known, public=public[:19]), None))
    assert "classes" in str(attack.obstacle(replace(known, public=replace(public, y=None)), None))
    other = replace(public, class_names=("a", "b", "c", "d"))
    assert "other classes" in str(attack.obstacle(replace(known, public=other), None))
    assert "candidates" in str(attack.obstacle(Knowledge(public=public), None))
    small = attack.model_copy(update={"outsiders": 50})
    assert small.cost(known, None) == 110


def test_no_records_are_refused():
    candidates, _ = _uneven(5, 5, 0.0, 1)
    with pytest.raises(DataError, match="at least one"):
        outsiders.answers(Target(Confident(4, 3), {Access.SCORES}), candidates[:0], 10)


# Quantile regression


def _conditional(n: int, seed: int, shift: float = 0.0, inside: np.ndarray | None = None):
    """Confidence 4 u + (.2 + |v|) noise: mean and spread depend on the record."""
    rng = np.random.default_rng(seed)
    y = rng.integers(2, size=n)
    u, v = rng.uniform(-2, 2, size=(2, n))
    spread = 0.2 + np.abs(v)
    inside = np.zeros(n, dtype=bool) if inside is None else inside
    s = 4 * u + spread * (rng.normal(size=n) + shift * inside)
    # The last column is seen by the victim alone: regressors are given constants there.
    return np.column_stack([y, u, v, s]), y, spread


@dataclass(frozen=True)
class Hidden:
    """A victim that knows the confidence of every record by its first three values."""

    table: dict[bytes, float]
    family: str = "table"
    offers: frozenset[Access] = frozenset({Access.SCORES})
    classes: int = 2

    @property
    def spec(self) -> InputSpec:
        return InputSpec((3,), Bounds.of(-100.0, 100.0), Modality.TABLE)

    def predict(self, x):
        s = np.array([self.table[row.astype(np.float32).tobytes()] for row in x])
        p = 1 / (1 + np.exp(-s))
        own = x[:, 0].astype(int)
        return np.where(np.eye(2, dtype=bool)[own], p[:, None], 1 - p[:, None])


def _hidden(*parts: np.ndarray) -> tuple[Hidden, list[np.ndarray]]:
    seen = [part[:, :3].astype(np.float32) for part in parts]
    pairs = zip(np.concatenate(seen), np.concatenate(parts)[:, 3], strict=True)
    return Hidden({row.tobytes(): float(s) for row, s in pairs}), seen


@pytest.mark.parametrize("regressor", ["auto", "linear", "trees", "class", "none"])
def test_the_false_alarms_are_those_asked_for_on_exchangeable_non_members(regressor):
    rates, stated = [], []
    for seed in range(6):
        public, y, _ = _conditional(400, 2 * seed)
        mine, mine_y, _ = _conditional(500, 2 * seed + 1)
        victim, (x, z) = _hidden(public, mine)
        attack = QuantileRegression(regressor=regressor, false_alarms=0.1)
        guess, _ = _run(attack, victim, _records(z, mine_y, 2), _records(x, y, 2))
        rates.append((guess.values > guess.trace["threshold"][0]).mean())
        stated.append(guess.facts["false_alarms_left_out"])
    assert np.mean(rates) == pytest.approx(0.1, abs=0.025)
    assert np.mean(stated) == pytest.approx(0.1, abs=0.025)


def test_what_can_be_foreseen_of_a_record_is_taken_off():
    inside = np.random.default_rng(9).permutation(800) < 400
    public, y, _ = _conditional(1500, 7)
    mine, mine_y, spread = _conditional(800, 8, 1.0, inside)
    victim, (x, z) = _hidden(public, mine)
    candidates = _records(z, mine_y, 2)
    guess, _ = _run(QuantileRegression(), victim, candidates, _records(x, y, 2))
    plain, _ = _run(Threshold(), victim, candidates)
    found, loss = (_scored(g, candidates, inside)["auc"].value for g in (guess, plain))
    assert guess.facts["regressor"] == "trees"
    # With mean and spread known it is Phi(1 / sqrt 2) = .760.
    assert found > 0.70
    assert found > loss + 0.1
    perfect = (mine[:, 3] - 4 * mine[:, 1]) / spread
    assert np.corrcoef(guess.values, perfect)[0, 1] > 0.8


def test_the_pinball_loss_is_least_at_the_true_law():
    s = np.random.default_rng(10).normal(2.0, 3.0, size=4000)
    ones = np.ones(4000)
    truth = pinball(s, 2.0 * ones, 3.0 * ones)
    assert all(truth < pinball(s, m * ones, v * ones) for m, v in ((0.0, 3.0), (4.0, 3.0), (2.0, 1.5), (2.0, 6.0)))


def test_the_level_is_the_order_statistic_and_above_all_when_there_are_too_few():
    z = np.arange(1.0, 20.0)
    assert level(z, 0.05) == 19.0
    assert level(z, 0.1) == 18.0
    assert level(z, 0.01) > 19.0


# The gradient


class _Mixed(nn.Module):
    """Convolution, batch normalisation, changes in place, a linear layer."""

    def __init__(self, twice: bool = False):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, stride=2, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.inner = nn.Linear(16, 16)
        self.out = nn.Linear(16, 3)
        self.twice = twice

    def forward(self, x):
        x = torch.relu_(self.bn(self.conv(x))).flatten(1)
        x = torch.tanh(self.inner(x))
        return self.out(torch.tanh(self.inner(x)) if self.twice else x)


def _mixed(twice: bool = False):
    torch.manual_seed(0)
    net = _Mixed(twice).eval()
    net.bn.running_mean.uniform_(-0.2, 0.2)
    net.bn.running_var.uniform_(0.1, 0.5)
    with torch.no_grad():
        # Else the rectifier lets nothing through, and the gradients before it are all zero.
        net.bn.bias.fill_(0.5)
    rng = np.random.default_rng(0)
    x, y = rng.random((9, 1, 4, 4)).astype(np.float32), rng.integers(3, size=9)
    return net, TorchModel(net, InputSpec((1, 4, 4))), Records(x, y, ("a", "b", "c"))


def _by_hand(net: nn.Module, records: Records, norm: float, weights=None):
    found = []
    weights = list(net.parameters()) if weights is None else list(weights)
    for x, y in zip(records.x, records.labels(), strict=True):
        loss = nn.functional.cross_entropy(net(torch.from_numpy(x)[None]), torch.tensor([y]))
        grads = torch.autograd.grad(loss, weights)
        found.append(torch.linalg.vector_norm(torch.cat([g.flatten() for g in grads]), norm).item())
    return np.array(found)


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize(("norm", "order"), [("sum", 1.0), ("euclidean", 2.0), ("max", np.inf)])
def test_norms_are_those_of_a_backward_pass_for_each_record(norm, order, twice):
    net, victim, records = _mixed(twice)
    guess, target = _run(GradientNorm(norm=norm), victim, records)
    np.testing.assert_allclose(-guess.values, _by_hand(net, records, order), rtol=1e-4)
    assert guess.facts["gradients"] == ("record by record" if twice else "many at once")
    assert target.queries == 9
    last, _ = _run(GradientNorm(norm=norm, of="last"), victim, records)
    np.testing.assert_allclose(-last.values, _by_hand(net, records, order, net.out.parameters()), rtol=1e-4)


def test_chunks_do_not_change_norms():
    _, victim, records = _mixed()
    whole, _ = _run(GradientNorm(), victim, records)
    parts, _ = _run(GradientNorm(chunk=1000), victim, records)
    np.testing.assert_allclose(whole.values, parts.values, rtol=1e-5)


def test_the_norm_of_a_softmax_regression_is_its_closed_form():
    """|p - e_y| sqrt(|x|^2 + 1) at the weights, |W^T (p - e_y)| at the record."""
    torch.manual_seed(1)
    net = nn.Linear(5, 3)
    rng = np.random.default_rng(2)
    x, y = rng.random((40, 5)).astype(np.float32), rng.integers(3, size=40)
    victim = TorchModel(net, InputSpec((5,), modality=Modality.TABLE))
    residual = victim.predict(x) - np.eye(3)[y]
    wanted = np.linalg.norm(residual, axis=1) * np.sqrt((x.astype(np.float64) ** 2).sum(1) + 1)
    at_weights, _ = _run(GradientNorm(), victim, _records(x, y, 3))
    np.testing.assert_allclose(-at_weights.values, wanted, rtol=1e-4)
    at_records, _ = _run(GradientNorm(of="record"), victim, _records(x, y, 3))
    weight = net.weight.detach().double().numpy()
    np.testing.assert_allclose(-at_records.values, np.linalg.norm(residual @ weight, axis=1), rtol=1e-4)


def test_gradients_say_what_stands_in_their_way():
    _, victim, records = _mixed()
    known = MembershipKnowledge(candidates=records)
    assert "9 are needed, the budget is 8" in str(GradientNorm().obstacle(known, 8))
    assert GradientNorm().obstacle(known, 9) is None
    assert "not labelled" in str(GradientNorm().obstacle(replace(known, candidates=replace(records, y=None)), None))
    wrong = replace(records, y=records.labels() + 1, class_names=("a", "b", "c", "d"))
    with pytest.raises(DataError, match="the victim has 3 classes"):
        _run(GradientNorm(), victim, wrong)


# Labels alone


def _halfspace(d: int, seed: int, n: int = 60):
    rng = np.random.default_rng(seed)
    w = rng.normal(size=d)
    x = rng.uniform(0.2, 0.8, size=(n, d)).astype(np.float32)
    b = -float(np.median(x @ w))
    y = (x.astype(np.float64) @ w + b > 0).astype(np.int64)
    return Linear(w, b, Bounds.of(0.0, 1.0)), x, y


@pytest.mark.parametrize(("d", "over", "alike"), [(2, 1.01, 0.999), (10, 1.03, 0.999), (60, 1.25, 0.99)])
def test_the_distance_to_a_hyperplane_is_found(d, over, alike):
    victim, x, y = _halfspace(d, d)
    guess, target = _run(BoundaryDistance(queries_per_record=600), victim, _records(x, y, 2))
    truth = np.abs(x @ victim.w + victim.b) / np.linalg.norm(victim.w)
    assert target.queries <= 600 * len(x)
    # An upper bound by construction, up to single precision.
    assert (guess.values >= truth - 1e-5).all()
    assert np.median(guess.values / truth) < over
    assert np.corrcoef(guess.values, truth)[0, 1] > alike


def test_distances_are_in_units_of_the_bounds():
    victim, x, y = _halfspace(4, 1)
    plain, _ = _run(BoundaryDistance(queries_per_record=100), victim, _records(x, y, 2))
    low, high = np.array([-3.0, 0, 10, 5]), np.array([7.0, 200, 11, 6])
    wide = high - low
    stretched = Linear(victim.w / wide, victim.b - float(victim.w @ (low / wide)), Bounds.of(low, high))
    other, _ = _run(BoundaryDistance(queries_per_record=100), stretched, _records(x * wide + low, y, 2))
    assert np.corrcoef(plain.values, other.values)[0, 1] > 0.99


def test_more_queries_come_nearer_and_wrong_ones_are_at_zero():
    victim, x, y = _halfspace(20, 5)
    wrong = np.arange(len(y)) < 10
    candidates = _records(x, np.where(wrong, 1 - y, y), 2)
    few, _ = _run(BoundaryDistance(queries_per_record=40), victim, candidates)
    many, target = _run(BoundaryDistance(queries_per_record=400), victim, candidates)
    assert (few.values[wrong] == 0).all()
    assert (many.values[wrong] == 0).all()
    assert many.values.sum() < few.values.sum()
    assert target.queries <= 400 * len(x)


@pytest.mark.parametrize("attack", [BoundaryDistance(), Augmentation()])
def test_with_a_query_a_candidate_it_is_the_gap_attack(attack):
    victim, x, y = _halfspace(6, 8)
    wrong = np.arange(len(y)) % 3 == 0
    candidates = _records(x, np.where(wrong, 1 - y, y), 2)
    guess, target = _run(attack, victim, candidates, budget=60)
    np.testing.assert_array_equal(guess.values, (~wrong).astype(float))
    assert target.queries == 60
    assert any("right or wrong" in note for note in guess.notes)
    known = MembershipKnowledge(candidates=candidates)
    assert "60 are needed, the budget is 59" in str(attack.obstacle(known, 59))
    assert attack.obstacle(known, 60) is None
    assert "not labelled" in str(attack.obstacle(replace(known, candidates=replace(candidates, y=None)), None))
    with pytest.raises(BudgetExceeded):
        _run(attack, victim, candidates, budget=59)


@pytest.mark.parametrize("attack", [BoundaryDistance(), Augmentation()])
@pytest.mark.parametrize("budget", [61, 700, 1500, 5000])
def test_budgets_are_kept(attack, budget):
    victim, x, y = _halfspace(6, 9)
    _, target = _run(attack, victim, _records(x, y, 2), budget=budget)
    assert target.queries <= min(budget, attack.cost(MembershipKnowledge(candidates=_records(x, y, 2)), budget))


def test_noise_tells_how_far_the_boundary_is():
    victim, x, y = _halfspace(8, 10)
    guess, _ = _run(Augmentation(queries_per_record=200, noise=0.5), victim, _records(x, y, 2))
    truth = np.abs(x @ victim.w + victim.b)
    assert np.corrcoef(np.argsort(np.argsort(guess.values)), np.argsort(np.argsort(truth)))[0, 1] > 0.7
    assert len(np.unique(guess.values)) > 10


def test_columns_of_two_values_stay_on_them():
    rng = np.random.default_rng(11)
    x = np.column_stack([rng.integers(2, size=50), rng.random(50), np.ones(50)]).astype(np.float32)
    assert two_valued(x).tolist() == [True, False, False]
    asked = []

    @dataclass(frozen=True)
    class Watched(Linear):
        def predict(self, x):
            asked.append(x.copy())
            return super().predict(x)

    victim = Watched(np.ones(3), -1.0, Bounds.of(0.0, 1.0))
    _run(Augmentation(queries_per_record=12, flips=0.5), victim, _records(x, np.zeros(50, dtype=int), 2))
    together = np.concatenate(asked)
    assert set(np.unique(together[:, 0])) == {0.0, 1.0}
    assert set(np.unique(together[:, 2])) == {1.0}
    assert any(not np.array_equal(part[:, 0], x[:, 0]) for part in asked)


def test_moves_of_pictures_are_what_they_say():
    x = np.arange(2 * 1 * 4 * 4, dtype=np.float32).reshape(2, 1, 4, 4)
    np.testing.assert_array_equal(moved(x, (True, 0.0, 0, 0)), x[..., ::-1])
    shifted = moved(x, (False, 0.0, 1, 0))
    np.testing.assert_array_equal(shifted[:, :, 1:], x[:, :, :-1])
    np.testing.assert_array_equal(shifted[:, :, 0], x[:, :, 0])
    np.testing.assert_array_equal(moved(x, (False, 0.0, 0, -1))[..., :-1], x[..., 1:])
    np.testing.assert_allclose(moved(x, (False, 90.0, 0, 0)), np.rot90(x, axes=(2, 3)), atol=1e-4)
    moves = Augmentation(shift=2)._moves()
    # The mirror image, 4 shifts by one, two turns, 8 shifts by two.
    assert len(moves) == len(set(moves)) == 15
