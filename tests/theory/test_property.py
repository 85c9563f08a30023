"""Property inference against closed forms: a planted share is found, one without a trace is not, intervals hold."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import binom

from seepage.attacks.membership import shares
from seepage.attacks.membership.ganju2018 import DeepSets, PropertyWeights, fully_connected, in_order
from seepage.attacks.membership.suri2022 import PropertyConfidence, confidence_by_kind
from seepage.attacks.membership.zhang2021 import PropertyAnswers, balanced
from seepage.core.attack import PropertyAttack
from seepage.core.errors import DataError, ModelError
from seepage.core.guess import Scores
from seepage.core.records import Records
from seepage.core.scorer import Controls, Scored
from seepage.core.shadows import Shadows
from seepage.core.spec import InputSpec
from seepage.core.target import Target
from seepage.core.vocabulary import Access, Modality
from seepage.models.shadows import drawn_at, most_records
from seepage.scoring.property import score
from seepage.targets.torch import TorchModel
from seepage.testing.modules import constant_network
from seepage.testing.property import property_case, share_auc
from seepage.testing.victims import ConstantVictim

ATTACKS = [PropertyAnswers(), PropertyConfidence(), PropertyWeights(), PropertyWeights(representation="sets", steps=60)]
NAMES = [type(attack).__name__ + getattr(attack, "representation", "") for attack in ATTACKS]


def played(attack: PropertyAttack, seed: int = 0, **options: float) -> tuple[Scored, Scores]:
    case = property_case(seed, **options)
    guess = attack.run(Target(case.victim, attack.needs), case.knowledge, np.random.default_rng(seed))
    null = attack.run(Target(case.null, attack.needs), case.knowledge, np.random.default_rng(seed))
    return score(guess, case.secret, Controls(no_model=case.baselines, null_model=null)), guess


# The attacks


@pytest.mark.parametrize("attack", ATTACKS, ids=NAMES)
def test_a_planted_share_is_found(attack: PropertyAttack) -> None:
    found, guess = played(attack, trials=40, shadows=40)
    auc = found.scores["property_auc"]
    assert auc.value is not None
    assert auc.leakage is not None
    assert auc.value > 0.97  # share_auc(8, 0.5, 0.3) is 0.9997
    assert auc.leakage.low > 0
    assert auc.p_value is not None
    assert auc.p_value < 0.001
    assert found.facts["estimated_low"] <= 0.6 <= found.facts["estimated_high"]
    assert abs(found.facts["estimated_share"] - 0.6) < 0.25
    assert guess.facts["smallest_difference"] < 0.5


@pytest.mark.parametrize("attack", ATTACKS[:3], ids=NAMES[:3])
def test_a_share_that_leaves_no_trace_is_not_found(attack: PropertyAttack) -> None:
    """Over seeds: no more leaks called than the level allows, and intervals that say that nothing is known."""
    leaks, unknown, estimated = 0, 0, []
    for seed in range(12):
        found, guess = played(attack, seed, gain=0.0, trials=20)
        auc = found.scores["property_auc"]
        assert auc.leakage is not None
        leaks += auc.leakage.low > 0
        estimated.append(auc.value)
        if guess.facts["smallest_difference"] is None:
            unknown += 1
            assert (guess.trace["shares"][:, 1:] == [0.0, 1.0]).all()
    assert leaks <= binom.ppf(0.99, 12, 0.025)
    assert unknown >= binom.ppf(0.01, 12, 0.975)
    assert abs(np.mean(estimated) - 0.5) < 4 * np.sqrt(21 / (12 * 10 * 10) / 12)


@pytest.mark.slow
@pytest.mark.parametrize("gain", [1.0, 2.0, 3.0])
def test_the_auc_is_that_of_the_law(gain: float) -> None:
    """No attack can do better than Phi(gain (s - r) / (noise sqrt 2)); with enough shadow models this one does so."""
    found = [played(PropertyConfidence(), seed, gain=gain, trials=60, shadows=80)[0] for seed in range(12)]
    values = [one.scores["property_auc"].value for one in found]
    assert np.mean(values) == pytest.approx(share_auc(gain, 0.5, 0.3), abs=0.03)


def test_a_smaller_share_than_the_public_s_is_found_too() -> None:
    found, _ = played(PropertyConfidence(), share=0.25, public=0.6, trials=40, shadows=40)
    auc = found.scores["property_auc"]
    assert auc.value is not None
    assert auc.value > 0.97
    assert found.scores["property_told"].value > 0.5


def test_a_model_that_answers_the_same_whatever_it_saw_ties_with_all_others() -> None:
    case = property_case(0)
    constant = ConstantVictim([0.5, 0.5], InputSpec((4,), modality=Modality.TABLE))
    shadows = Shadows((constant,) * 24, np.resize(np.linspace(0.1, 0.9, 9), 24), 0.2)
    guess = shares.told(shadows, np.zeros((24, 3)), np.zeros((13, 3)), shares.ridge, np.random.default_rng(0))
    assert len(set(guess.values)) == 1
    assert (guess.trace["shares"][:, 1:] == [0.0, 1.0]).all()
    assert guess.facts["smallest_difference"] is None
    assert "cannot be told apart" in guess.notes[0]
    assert score(guess, case.secret, Controls()).scores["property_auc"].value == 0.5


# The line, read backwards


def _line(rng: np.random.Generator, slope: float, scatter: float, k: int = 40) -> shares.Line:
    truth = np.resize(np.linspace(0.1, 0.9, 9), k)
    part = shares.parts(truth, rng)
    # Every regressor has a level of its own; those of parts 0 to 7 are .1 on average.
    return shares.Line.through(part / 35 + slope * truth + scatter * rng.normal(size=k), truth, part)


@pytest.mark.parametrize(("slope", "scatter"), [(1.0, 0.05), (0.5, 0.2), (0.2, 0.2), (0.0, 0.1)])
def test_intervals_hold_the_truth_as_often_as_they_say(slope: float, scatter: float) -> None:
    """At every share, not on average over shares: within sampling error of 95 %, or above."""
    rng = np.random.default_rng(3)
    for truth in (0.15, 0.5, 0.85):
        held, tried = 0, 1500
        for _ in range(tried):
            line = _line(rng, slope, scatter)
            found = line.share(0.1 + slope * truth + scatter * rng.normal(), 1.0)
            held += found is None or found[1] <= truth <= found[2]
        assert held >= binom.ppf(0.001, tried, 0.95), (truth, held / tried)
        if slope == 1.0:
            assert held <= binom.ppf(0.999, tried, 0.95), (truth, held / tried)


def test_without_scatter_the_line_gives_the_share_itself() -> None:
    line = _line(np.random.default_rng(0), 0.5, 0.0)
    found = line.share(0.1 + 0.5 * 0.37, 3.0)
    assert found is not None
    assert found == pytest.approx((0.37, 0.37, 0.37))


def test_a_slope_that_may_be_none_gives_no_share() -> None:
    rng = np.random.default_rng(1)
    assert _line(rng, -1.0, 0.01).share(0.3, 1.0) is None
    given = [_line(rng, 0.0, 0.1).share(0.1, 1.0) is not None for _ in range(400)]
    # Half of the slopes that are found significant at 5 % are positive.
    assert np.mean(given) < 0.05


def _sampled(rng: np.random.Generator, population: np.ndarray, records: int, share: float) -> float:
    """What a model shows that says nothing but the mean of its records: the group's mean is higher by 1."""
    half = len(population) // 2
    group, others = population[:half] + 1, population[half:]
    inside = round(share * records)
    drawn = [rng.permutation(group)[:inside], rng.permutation(others)[: records - inside]]
    return float(np.concatenate(drawn).mean())


def test_intervals_hold_where_all_scatter_is_due_to_the_records_drawn() -> None:
    """Shadow models share records, so that they scatter less than a stranger does: the spread makes up for it."""
    rng = np.random.default_rng(5)
    truth, held, plain, tried = 0.6, 0, 0, 400
    levels = np.resize(np.linspace(0.2, 0.8, 7), 42)
    for _ in range(tried):
        known = rng.normal(scale=4, size=400)
        seen = np.array([_sampled(rng, known, 100, level) for level in levels])
        line = shares.Line.through(seen, levels, shares.parts(levels, rng))
        stranger = _sampled(rng, rng.normal(scale=4, size=400), 100, truth)
        drawn = float(np.maximum(levels * 100 / 200, (1 - levels) * 100 / 200).mean())
        found, without = line.share(stranger, shares.spread_of(drawn)), line.share(stranger, 1.0)
        held += found is None or found[1] <= truth <= found[2]
        plain += without is None or without[1] <= truth <= without[2]
    assert held >= binom.ppf(0.005, tried, 0.95)
    assert plain < binom.ppf(0.005, tried, 0.95), "the spread would not be needed"


@pytest.mark.slow
def test_intervals_of_a_whole_attack_hold_the_truth() -> None:
    held = tried = 0
    for seed in range(40):
        _, guess = played(PropertyAnswers(queries=20), seed, gain=3.0, trials=12, shadows=32)
        truth = property_case(seed, gain=3.0, trials=12, shadows=32).secret.shares
        rows = guess.trace["shares"]
        held += int(((rows[:, 1] <= truth) & (truth <= rows[:, 2])).sum())
        tried += len(truth)
    assert held / tried >= 0.93


@pytest.mark.parametrize(("models", "count"), [(8, 2), (24, 6), (36, 8), (64, 8)])
def test_the_parts_have_like_shares(models: int, count: int) -> None:
    truth = np.resize(np.linspace(0.1, 0.9, 9), models)
    for seed in range(20):
        part = shares.parts(truth, np.random.default_rng(seed))
        assert set(part) == set(range(count))
        sizes = np.bincount(part)
        assert sizes.min() >= min(4, models // count)
        assert sizes.max() - sizes.min() <= 1
        means = [truth[part == p].mean() for p in range(count)]
        assert max(means) - min(means) < 0.2


def test_a_regressor_that_says_the_mean_gives_no_share() -> None:
    """Leaving one model out, the mean of the others moves against it in a line: parts with like shares do not."""
    truth = np.resize(np.linspace(0.1, 0.9, 8), 64)
    shadows = Shadows((property_case(0).victim.models[0],) * 64, truth, 0.2)
    mean = shares.told(
        shadows,
        np.zeros((64, 1)),
        np.zeros((3, 1)),
        lambda features, learned, rng: lambda seen: np.full(len(seen), learned.mean()),
        np.random.default_rng(0),
    )
    assert (mean.trace["shares"][:, 1:] == [0.0, 1.0]).all()


# What is looked at


def test_weights_are_the_same_whatever_the_order_of_neurons() -> None:
    rng = np.random.default_rng(0)
    layers = [rng.normal(size=(6, 4)), rng.normal(size=(5, 7)), rng.normal(size=(2, 6))]
    first, second = rng.permutation(6), rng.permutation(5)
    moved = [layers[0][first], layers[1][second], layers[2].copy()]
    moved[1][:, :-1] = moved[1][:, :-1][:, first]
    moved[2][:, :-1] = moved[2][:, :-1][:, second]
    for one, other in zip(in_order(layers), in_order(moved), strict=True):
        assert np.allclose(one, other)
    torch.manual_seed(0)
    net = DeepSets([3, 6, 5], 4)
    with torch.no_grad():
        told = [net([torch.from_numpy(layer[None]).float() for layer in some]) for some in (layers, moved)]
    assert torch.allclose(told[0], told[1], atol=1e-6)
    with torch.no_grad():
        other = net([torch.from_numpy(layer[None]).float() for layer in (3 * layers[0], *layers[1:])])
    assert not torch.allclose(told[0], other, atol=1e-3)


def test_a_network_in_order_computes_the_same() -> None:
    rng = np.random.default_rng(1)
    layers = [rng.normal(size=(6, 4)), rng.normal(size=(2, 7))]
    x = rng.normal(size=3)

    def answer(some: list[np.ndarray]) -> np.ndarray:
        hidden = np.maximum(some[0] @ np.append(x, 1), 0)
        return some[1] @ np.append(hidden, 1)

    assert np.allclose(answer(layers), answer(in_order(layers)))


def test_layers_are_read_in_the_order_they_run() -> None:
    class Odd(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = torch.nn.Linear(3, 2)
            self.first = torch.nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(torch.relu(self.first(x)))

    model = TorchModel(Odd(), InputSpec((4,), modality=Modality.TABLE))
    target = Target(model, {Access.WEIGHTS})
    layers = fully_connected(target.weights(), np.zeros((1, 4), dtype=np.float32))
    assert [layer.shape for layer in layers] == [(3, 5), (2, 4)]
    assert target.queries == 1


def test_batch_normalisation_is_a_part_of_the_layer_beside_it() -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.BatchNorm1d(4),
        torch.nn.Linear(4, 5, bias=False),
        torch.nn.BatchNorm1d(5),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.5),
        torch.nn.Linear(5, 2),
    )
    for _ in range(5):
        net(torch.randn(30, 4) * 3 + 1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    model = TorchModel(net.eval(), InputSpec((4,), modality=Modality.TABLE))
    layers = fully_connected(Target(model, {Access.WEIGHTS}).weights(), np.zeros((1, 4), dtype=np.float32))
    x = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    hidden = np.maximum(np.column_stack([x, np.ones(6)]) @ layers[0].T, 0)
    assert np.allclose(np.column_stack([hidden, np.ones(6)]) @ layers[1].T, model.logits(x), atol=1e-5)


def test_batch_normalisation_on_its_own_is_refused() -> None:
    layers = torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.BatchNorm1d(3), torch.nn.ReLU(), torch.nn.Linear(3, 2)
    box = Target(TorchModel(torch.nn.Sequential(*layers), InputSpec((4,), modality=Modality.TABLE)), {Access.WEIGHTS})
    with pytest.raises(ModelError, match="next to a fully connected layer"):
        fully_connected(box.weights(), np.zeros((1, 4), dtype=np.float32))


def test_other_networks_are_refused() -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.Flatten(), torch.nn.Linear(8, 2))
    box = Target(TorchModel(net, InputSpec((1, 4, 4))), {Access.WEIGHTS}).weights()
    with pytest.raises(ModelError, match="property-answers"):
        fully_connected(box, np.zeros((1, 1, 4, 4), dtype=np.float32))


def test_the_network_of_the_share_victim_answers_as_it_does() -> None:
    victim = property_case(0).victim.models[0]
    x = np.random.default_rng(0).random((5, 4)).astype(np.float32)
    with torch.no_grad():
        told = victim.differentiable()(torch.from_numpy(x)).numpy()
    assert np.allclose(told, victim.logits(x), atol=1e-5)
    assert constant_network(4, 1.0)(torch.zeros(2, 4)).shape == (2, 2)


def test_confidence_is_taken_by_class_and_group() -> None:
    asked = Records(np.zeros((4, 1), dtype=np.float32), np.array([0, 0, 1, 1]), ("a", "b"), modality=Modality.TABLE)
    answers = np.array([[0.8, 0.2], [0.4, 0.6], [0.5, 0.5], [0.1, 0.9]])
    found = confidence_by_kind(answers, asked, np.array([True, False, True, False]))
    wanted = [np.log(4), 1, np.log(2 / 3), 0, 0, 0, np.log(9), 1]
    assert np.allclose(found, wanted)


@pytest.mark.parametrize("most", [2, 7, 20, 60, 500])
def test_what_is_asked_is_half_of_the_group_as_far_as_can_be(most: int) -> None:
    knowledge = property_case(0).knowledge
    rows = balanced(knowledge, most, np.random.default_rng(0))
    of_group = int(knowledge.asked_group[rows].sum())
    assert len(rows) == min(most, len(knowledge.asked))
    assert len(set(rows)) == len(rows)
    assert of_group == pytest.approx(len(rows) / 2, abs=1) or of_group == knowledge.asked_group.sum()


def test_too_few_shadow_models_are_refused() -> None:
    attack, case = PropertyAnswers(), property_case(0, shadows=6)
    assert "8 shadow models" in (attack.obstacle(case.knowledge, None) or "")
    with pytest.raises(DataError, match="8 shadow models"):
        attack.run(Target(case.victim, attack.needs), case.knowledge, np.random.default_rng(0))


# Training sets


def test_training_sets_have_the_share_and_no_record_twice() -> None:
    group = np.arange(200) < 60
    for share in (0.1, 0.33, 0.5):
        rows = drawn_at(group, share, 90, np.random.default_rng(0))
        assert len(set(rows)) == 90
        assert group[rows].sum() == round(share * 90)
    assert most_records(group, 0.5) == 120
    assert most_records(group, 0.3) == 200
    assert most_records(group, 0.0) == 140
    with pytest.raises(DataError, match="60 of the group"):
        drawn_at(group, 0.5, 130, np.random.default_rng(0))


def test_every_record_of_a_kind_is_as_likely_to_be_drawn() -> None:
    group = np.arange(40) < 10
    counts = np.zeros(40)
    for seed in range(2000):
        counts[drawn_at(group, 0.25, 20, np.random.default_rng(seed))] += 1
    assert counts[:10].std() < 60
    assert np.allclose(counts[:10].mean(), 1000)
    assert np.allclose(counts[10:].mean(), 1000)


# The scorer


def _with_shares(case: object, make: Callable[[np.ndarray], np.ndarray]) -> Scores:
    truth = case.secret.shares  # type: ignore[attr-defined]
    values = make(truth)
    return Scores(values, trace={"shares": np.column_stack([values, values - 0.05, values + 0.05]).clip(0, 1)})


def test_the_scorer_keeps_the_contracts() -> None:
    from seepage.testing.contracts import check_scorer

    case = property_case(0, trials=20)
    truth = case.secret.shares
    rng = np.random.default_rng(0)
    better = [Scores(truth + scale * rng.normal(size=len(truth))) for scale in (9.0, 0.2, 0.0)]
    check_scorer(score, case.secret, Scores(truth), Scores(np.zeros(len(truth))), worse_to_better=better)


def test_estimates_are_held_against_the_truth() -> None:
    case = property_case(0, trials=20)
    found = score(_with_shares(case, lambda truth: truth + 0.02), case.secret, Controls())
    assert found.facts["mean_error"] == pytest.approx(0.02)
    assert found.facts["coverage"] == 1
    assert found.facts["estimated_share"] == pytest.approx(0.62)
    assert found.scores["property_told"].value == 1
    wide = score(_with_shares(case, lambda truth: truth + 0.06), case.secret, Controls())
    assert wide.facts["coverage"] == 0
    # All of them are said to be above the public's share, those at the public's share too.
    assert wide.scores["property_told"].value == 0


def test_the_victim_itself_is_no_trial() -> None:
    case = property_case(0, trials=20)
    guess = _with_shares(case, lambda truth: truth.copy())
    own = int(np.nonzero(~case.secret.trial)[0][0])
    guess.values[own] = -9.0
    assert score(guess, case.secret, Controls()).scores["property_auc"].value == 1


def test_guesses_that_cannot_be_scored_are_refused() -> None:
    case = property_case(0)
    n = len(case.secret.shares)
    with pytest.raises(DataError, match="one score a model"):
        score(Scores(np.zeros(n - 1)), case.secret, Controls())
    with pytest.raises(DataError, match="low and high ends"):
        score(Scores(np.zeros(n), trace={"shares": np.tile([0.5, 0.6, 0.7], (n, 1))}), case.secret, Controls())


# The case


def test_the_case_gives_nothing_away_by_order() -> None:
    places = [int(np.nonzero(~property_case(seed).secret.trial)[0][0]) for seed in range(12)]
    assert len(set(places)) > 4


def test_models_have_the_shares_that_the_secret_says() -> None:
    case = property_case(0)
    assert [model.share for model in case.victim.models] == pytest.approx(list(case.secret.shares))
    assert {round(model.share, 6) for model in case.null.models} == {0.3}
    shadows = case.knowledge.trained()
    assert [model.share for model in shadows.models] == pytest.approx(list(shadows.shares))
    assert case.knowledge.trained().models is shadows.models, "shadow models are trained once"


def test_no_shadow_model_saw_what_is_asked() -> None:
    knowledge = property_case(0).knowledge
    asked = {row.tobytes() for row in knowledge.asked.x}
    assert not asked & {row.tobytes() for row in knowledge.public.x}


def test_a_defense_of_answers_stands_before_every_model() -> None:
    from seepage.defenses.outputs.rounding import Round

    case = property_case(0).defended(Round(digits=1))
    x = np.zeros((1, 4), dtype=np.float32)
    for model in (*case.victim.models, *case.null.models, *case.knowledge.trained().models):
        assert np.allclose(model.predict(x) * 10, np.round(model.predict(x) * 10))
    assert len({model.predict(x)[0, 1] for model in case.knowledge.trained().models}) > 3


def test_a_defense_of_training_trains_all_of_them_anew() -> None:
    case = property_case(0)
    again, null = case.training.fit()
    assert [model.share for model in again.models] == pytest.approx([model.share for model in case.victim.models])
    assert [model.logit for model in null.models] == pytest.approx([model.logit for model in case.null.models])
    assert [model.logit for model in again.models] == pytest.approx([model.logit for model in case.victim.models])
