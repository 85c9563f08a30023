"""The threshold attack on victims whose losses have a known law."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.stats import norm

from seepage.attacks.membership.yeom2018 import Threshold, membership_statistic
from seepage.core.errors import BudgetExceeded, DataError
from seepage.core.knowledge import InversionKnowledge, Knowledge, MembershipKnowledge
from seepage.core.records import Records
from seepage.core.scorer import Controls
from seepage.core.secrets import MembershipSecret
from seepage.core.spec import Bounds, InputSpec
from seepage.core.target import Target
from seepage.core.vocabulary import Access, Modality
from seepage.defenses.outputs.rounding import Round
from seepage.scoring.membership import score

STATISTICS = ("loss", "confidence", "entropy", "modified-entropy")


@dataclass(frozen=True)
class Known:
    """A classifier that answers record i with row i of a table: the record is its own number.

    So the law of its answers is whatever the test draws.
    """

    table: np.ndarray
    family: str = "table"
    offers: frozenset[Access] = frozenset({Access.SCORES})

    @property
    def spec(self) -> InputSpec:
        return InputSpec((1,), Bounds.of(0.0, float(len(self.table))), Modality.TABLE)

    @property
    def classes(self) -> int:
        return self.table.shape[1]

    def predict(self, x):
        return self.table[x[:, 0].astype(int)]


def _answers(log_p: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Rows with probability exp(log_p) at the record's class and the rest spread evenly."""
    own = np.exp(log_p)
    table = np.repeat(((1 - own) / (classes - 1))[:, None], classes, axis=1)
    table[np.arange(len(labels)), labels] = own
    return table


def _candidates(labels: np.ndarray | None, n: int, classes: int = 10) -> Records:
    x = np.arange(n, dtype=np.float32)[:, None]
    return Records(x, labels, tuple(map(str, range(classes))), modality=Modality.TABLE)


def _game(table, labels, is_member, attack=None, budget=None):
    attack = attack or Threshold()
    candidates = _candidates(labels, len(is_member), table.shape[1])
    target = Target(Known(table), attack.needs, budget)
    guess = attack.run(target, MembershipKnowledge(candidates=candidates), np.random.default_rng(0))
    secret = MembershipSecret(is_member=is_member, candidates=candidates)
    return guess, score(guess, secret, Controls()), target


def _normal_losses(mu: float, n: int = 2000, seed: int = 71):
    """Members lose less: log p is a monotone map of N(mu, 1) for members and N(0, 1) for others."""
    rng = np.random.default_rng(seed)
    is_member = rng.permutation(np.arange(2 * n) < n)
    labels = rng.integers(10, size=2 * n)
    raw = rng.normal(mu * is_member, 1.0)
    return _answers(np.log(norm.cdf(raw / 4)), labels, 10), labels, is_member


@pytest.mark.parametrize("mu", [0.0, 0.5, 1.0, 2.0])
def test_the_auc_is_the_closed_form_of_the_two_laws(mu):
    _, scored, target = _game(*_normal_losses(mu))
    truth = norm.cdf(mu / math.sqrt(2))
    found = scored.scores["auc"]
    assert found.value == pytest.approx(truth, abs=0.025)
    assert found.low <= truth <= found.high
    assert target.queries == 4000
    at = scored.scores["tpr_at_fpr_1"]
    assert at.low <= norm.sf(norm.isf(0.01) - mu) <= at.high


@pytest.mark.parametrize("statistic", STATISTICS)
def test_a_victim_that_memorises_gives_one_not_zero(statistic):
    labels = np.random.default_rng(72).integers(10, size=400)
    is_member = np.arange(400) < 200
    table = _answers(np.log(np.where(is_member, 0.999, 0.3)), labels, 10)
    _, scored, _ = _game(table, labels, is_member, Threshold(statistic=statistic))
    assert scored.scores["auc"].value == 1.0


@pytest.mark.parametrize("statistic", STATISTICS)
def test_a_victim_that_answers_everyone_alike_gives_a_half(statistic):
    labels = np.random.default_rng(73).integers(10, size=400)
    table = np.full((400, 10), 0.1)
    _, scored, _ = _game(table, labels, np.arange(400) < 200, Threshold(statistic=statistic))
    assert scored.scores["auc"].value == 0.5
    assert scored.scores["auc"].p_value == 1.0


def test_the_statistics_are_their_definitions():
    p, y = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3]]), np.array([0, 2])
    assert membership_statistic(p, y, "loss") == pytest.approx(np.log([0.7, 0.3]))
    assert membership_statistic(p, None, "confidence") == pytest.approx([0.7, 0.6])
    assert membership_statistic(p, None, "entropy") == pytest.approx((p * np.log(p)).sum(axis=1))
    wanted = [
        0.3 * np.log(0.7) + 0.2 * np.log(0.8) + 0.1 * np.log(0.9),
        0.7 * np.log(0.3) + 0.1 * np.log(0.9) + 0.6 * np.log(0.4),
    ]
    assert membership_statistic(p, y, "modified-entropy") == pytest.approx(wanted)


def test_modified_entropy_knows_a_confident_error_from_a_confident_success():
    p = np.array([[0.98, 0.01, 0.01], [0.98, 0.01, 0.01]])
    right, wrong = membership_statistic(p, np.array([0, 1]), "modified-entropy")
    assert right > wrong
    right, wrong = membership_statistic(p, np.array([0, 1]), "entropy")
    assert right == wrong


@pytest.mark.parametrize("statistic", STATISTICS)
def test_rounded_answers_give_ties_not_infinities(statistic):
    """Behind rounding to whole numbers a row is a certain answer: right, wrong, or none at all."""
    rng = np.random.default_rng(74)
    table, labels, is_member = _normal_losses(1.0, 300)
    assert is_member.any()
    hard = Round(digits=0).wrap(Known(table), rng).predict(np.arange(600, dtype=np.float32)[:, None])
    assert set(np.unique(hard)) <= {0.0, 1.0}
    found = membership_statistic(hard, labels, statistic)
    assert np.isfinite(found).all()
    assert len(np.unique(found)) <= 3
    assert np.isfinite(membership_statistic(np.eye(10)[labels], (labels + 1) % 10, statistic)).all()


def test_rounding_hides_what_ranks_members():
    table, labels, is_member = _normal_losses(1.0)
    auc = {}
    for digits in (0, 1, 6):
        defended = Round(digits=digits).wrap(Known(table), np.random.default_rng(0))
        _, scored, _ = _game(defended.predict(np.arange(4000, dtype=np.float32)[:, None]), labels, is_member)
        auc[digits] = scored.scores["auc"].value
    _, scored, _ = _game(table, labels, is_member)
    assert auc[0] < auc[1] < scored.scores["auc"].value
    assert auc[6] == pytest.approx(scored.scores["auc"].value, abs=1e-3)


def test_the_threshold_is_what_the_adversary_was_told_and_nothing_else():
    table, labels, is_member = _normal_losses(1.0)
    guess, scored, _ = _game(table, labels, is_member)
    assert "threshold" not in guess.trace
    assert "advantage" not in scored.scores
    loss = -np.log(table[np.arange(len(labels)), labels])
    average = float(loss[is_member].mean())
    _, scored, _ = _game(table, labels, is_member, Threshold(average_training_loss=average))
    wanted = (loss[is_member] < average).mean() - (loss[~is_member] < average).mean()
    assert scored.scores["advantage"].value == pytest.approx(wanted)
    with pytest.raises(ValidationError, match="not on the entropy"):
        Threshold(statistic="entropy", average_training_loss=0.1)


def test_batches_and_the_stream_do_not_matter():
    table, labels, is_member = _normal_losses(1.0, 100)
    whole, _, _ = _game(table, labels, is_member, Threshold(batch=1000))
    parts, _, target = _game(table, labels, is_member, Threshold(batch=7))
    np.testing.assert_array_equal(whole.values, parts.values)
    assert target.meter.by_access == {Access.SCORES: 200}
    assert Threshold().cost(MembershipKnowledge(candidates=_candidates(labels, 200)), None) == 200


def test_it_says_what_stands_in_its_way():
    labels = np.zeros(5, dtype=int)
    known = MembershipKnowledge(candidates=_candidates(labels, 5))
    unlabelled = MembershipKnowledge(candidates=_candidates(None, 5))
    assert Threshold().obstacle(known, 5) is None
    assert Threshold().obstacle(known, None) is None
    assert "5 are needed, the budget is 4" in str(Threshold().obstacle(known, 4))
    assert "classes" in str(Threshold().obstacle(unlabelled, None))
    assert Threshold(statistic="confidence").obstacle(unlabelled, None) is None
    assert "candidates" in str(Threshold().obstacle(Knowledge(), None))
    inversion = InversionKnowledge(spec=InputSpec((1, 2, 2)), classes=np.arange(2))
    assert "candidates" in str(Threshold().obstacle(inversion, None))


def test_a_budget_too_small_is_kept():
    table, labels, is_member = _normal_losses(1.0, 50)
    with pytest.raises(BudgetExceeded):
        _game(table, labels, is_member, Threshold(batch=10), budget=95)


def test_candidates_of_classes_the_victim_lacks_are_refused():
    with pytest.raises(DataError, match="the victim has 3 classes"):
        membership_statistic(np.full((2, 3), 1 / 3), np.array([0, 3]), "loss")
    with pytest.raises(DataError, match="needs the class"):
        membership_statistic(np.full((2, 3), 1 / 3), None, "loss")


def test_noise_on_a_twin_and_a_victim_is_not_called_a_leak():
    """The whole way: victims that treat members and others alike, each with a twin."""
    called = 0
    for seed in range(60):
        table, labels, is_member = _normal_losses(0.0, 60, seed)
        twin, _, _ = _normal_losses(0.0, 60, 1000 + seed)
        candidates = _candidates(labels, 120)
        knowledge = MembershipKnowledge(candidates=candidates)
        secret = MembershipSecret(is_member=is_member, candidates=candidates)
        targets = [Target(Known(answers), {Access.SCORES}) for answers in (table, twin)]
        guesses = [Threshold().run(target, knowledge, np.random.default_rng(0)) for target in targets]
        headline = score(guesses[0], secret, Controls(null_model=guesses[1])).scores["auc"]
        assert headline.leakage is not None
        called += headline.leakage.low > 0
    assert called <= 5
