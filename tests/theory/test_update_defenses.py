"""Update defenses: what each does to an update, what it leaves, and that the adversary is told."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seepage.attacks.gradient.fowl2022 import RobbingTheFed
from seepage.attacks.gradient.geiping2020 import InvertingGradients
from seepage.attacks.gradient.phong2017 import LinearLayer, averaged, divided
from seepage.attacks.gradient.wen2022 import Fishing
from seepage.cases import gradient
from seepage.cases.federation import Federation
from seepage.core.assumptions import Rung, Standing
from seepage.core.attack import GradientAttack
from seepage.core.case import Case
from seepage.core.defense import AggregateDefense, Defense
from seepage.core.errors import ConfigError, DataError
from seepage.core.guess import Posterior, Reconstruction
from seepage.core.knowledge import GradientKnowledge
from seepage.core.record import Score
from seepage.core.records import Records
from seepage.core.registry import DEFENSES, defense_class
from seepage.core.scorer import Controls
from seepage.core.secrets import GradientSecret
from seepage.core.seeds import stream
from seepage.core.spec import InputSpec
from seepage.core.target import Target
from seepage.core.victim import Update, Updates
from seepage.defenses.updates.clip import Clip, clipped
from seepage.defenses.updates.gaussian import GaussianNoise
from seepage.defenses.updates.laplace import LaplaceNoise
from seepage.defenses.updates.quantise import Quantise
from seepage.defenses.updates.secure_aggregation import SecureAggregation, cohorts
from seepage.defenses.updates.sign import Sign
from seepage.defenses.updates.topk import TopKUpdate
from seepage.models.accounting import gaussian_epsilon, gaussian_multiplier
from seepage.models.client_nets import client_net
from seepage.models.federated import ClientNet, LocalTraining
from seepage.scoring.gradient import score
from seepage.testing.cases import gradient_case, smooth_pictures

ON_UPDATES = [name for name in DEFENSES if ".defenses.updates." in DEFENSES[name]]
SINGLE = [name for name in ON_UPDATES if not issubclass(defense_class(name), AggregateDefense)]


def _update(seed: int = 0, scale: float = 1.0) -> Update:
    rng = np.random.default_rng(seed)
    return Update({"w": scale * rng.normal(size=(20, 30)), "b": scale * rng.normal(size=20).astype(np.float32)})


def _vector(update: Update) -> np.ndarray:
    return np.concatenate([t.reshape(-1).astype(float) for t in update.tensors.values()])


def _sent(defense: Defense, update: Update, seed: int = 1) -> np.ndarray:
    behind = defense.on_victim(update, np.random.default_rng(seed))
    assert isinstance(behind, Update)
    return _vector(behind)


def _played(case: Case, attack: GradientAttack | None = None) -> Score:
    attack = attack or LinearLayer()

    def run(victim, knowledge):
        return attack.run(Target(victim, attack.needs), knowledge, stream(0, "attack"))

    null = None if case.null is None else run(case.null, case.null_knowledge or case.knowledge)
    found = score(
        run(case.victim, case.knowledge), case.secret, Controls(no_model=case.baselines, null_model=null, missing={})
    )
    return found.scores[found.headline]


# One update


@given(st.floats(0.01, 100), st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_clipping_keeps_direction_and_bounds_the_length(norm, seed) -> None:
    before = _vector(_update(seed))
    after = _sent(Clip(norm=norm), _update(seed))
    assert np.linalg.norm(after) <= norm * (1 + 1e-6)
    assert before @ after == pytest.approx(np.linalg.norm(before) * np.linalg.norm(after), rel=1e-6)


def test_what_is_short_enough_is_left_alone() -> None:
    update = _update()
    np.testing.assert_array_equal(_sent(Clip(norm=1e3), update), _vector(update))
    assert np.abs(clipped(_vector(update), 0.5, order=1)).sum() == pytest.approx(0.5)


def test_clipping_stops_no_attack_on_ratios() -> None:
    bare = gradient_case(0)
    assert _played(bare.defended(Clip(norm=1e-3))).value == _played(bare).value == 1.0


@pytest.mark.parametrize(
    ("defense", "deviation", "kurtosis"),
    [
        (GaussianNoise(clip=0.5, multiplier=3.0), 1.5, 3.0),
        (LaplaceNoise(clip=0.5, multiplier=3.0), 1.5 * math.sqrt(2), 6.0),
    ],
)
def test_noise_is_as_declared(defense, deviation, kurtosis) -> None:
    drawn = _sent(defense, Update({"w": np.zeros((300, 300))}))
    assert defense.noise(drawn) == pytest.approx(deviation)
    assert drawn.std() == pytest.approx(deviation, rel=0.02)
    assert (drawn**4).mean() / (drawn**2).mean() ** 2 == pytest.approx(kurtosis, rel=0.1)


@pytest.mark.parametrize("defense", [GaussianNoise(clip=2.0, multiplier=1e-9), LaplaceNoise(clip=2.0, multiplier=1e-9)])
def test_noise_comes_after_clipping_in_the_norm_of_its_sensitivity(defense) -> None:
    order = 1 if isinstance(defense, LaplaceNoise) else 2
    assert np.linalg.norm(_sent(defense, _update(scale=50)), order) == pytest.approx(2.0, rel=1e-4)


def test_epsilon_is_that_of_any_two_clients_and_composed_over_rounds() -> None:
    gaussian = gradient_case(0).defended(GaussianNoise(multiplier=4.0, rounds=9, delta=1e-6)).facts
    assert gaussian["dp_epsilon"] == pytest.approx(gaussian_epsilon(4.0, 1e-6, 9, 2.0))
    assert (gaussian["dp_delta"], gaussian["dp_rounds"]) == (1e-6, 9.0)
    laplace = gradient_case(0).defended(LaplaceNoise(multiplier=4.0, rounds=9)).facts
    assert laplace["dp_epsilon"] == pytest.approx(9 * 2 / 4.0)
    assert laplace["dp_delta"] == 0.0


def test_the_gaussian_guarantee_holds_between_the_two_furthest_updates() -> None:
    """Clipped updates at opposite ends: the likeliest event that tells them apart, drawn 400,000 times."""
    defense = GaussianNoise(clip=1.0, multiplier=2.0, delta=0.05)
    epsilon, rng = defense.epsilon, np.random.default_rng(7)
    assert epsilon is not None
    ends = [_sent(Clip(norm=1.0), Update({"w": np.array([end])}))[0] for end in (-9.0, 9.0)]
    deviation = defense.multiplier * defense.clip
    low, high = (end + deviation * rng.normal(size=400_000) for end in ends)
    # The event {x > t} at the threshold where the ratio of densities is e^epsilon.
    t = epsilon * deviation**2 / 2
    assert (high > t).mean() == pytest.approx(math.exp(epsilon) * (low > t).mean() + 0.05, abs=0.004)


@pytest.mark.parametrize("kind", [GaussianNoise, LaplaceNoise])
def test_who_knows_of_the_noise_averages_it_away(kind) -> None:
    """One record a client: every row of the layer tells of it, and the error falls with their number."""
    rng, rows, size = np.random.default_rng(30), 400, 50
    x, slope = rng.random(size), rng.normal(size=rows)
    update = Update({"w": np.outer(slope, x), "b": slope})
    length = np.linalg.norm(_vector(update), 1 if kind is LaplaceNoise else 2)
    defense = kind(clip=length, multiplier=0.3 / length)
    behind = defense.on_victim(update, np.random.default_rng(31))
    assert isinstance(behind, Update)
    one = divided(behind.tensors["w"], behind.tensors["b"], 1)[0]
    noise = defense.noise(behind.tensors["w"])
    all_rows = averaged(behind.tensors["w"], behind.tensors["b"], 1, noise, noise)[0]
    # The standard error of least squares: s sqrt(1 + |x_j|^2) / |b|, at the most.
    expected = noise * math.sqrt(2) / np.linalg.norm(slope)
    assert np.sqrt(np.mean((all_rows - x) ** 2)) < 1.3 * expected
    assert np.sqrt(np.mean((one - x) ** 2)) > 3 * np.sqrt(np.mean((all_rows - x) ** 2))


def test_two_records_are_told_apart_within_the_noise() -> None:
    rng = np.random.default_rng(32)
    x, slope = rng.random((2, 50)), rng.normal(size=200) + np.sign(rng.normal(size=200))
    owner = rng.integers(2, size=200)
    weight = slope[:, None] * x[owner] + 0.01 * rng.normal(size=(200, 50))
    found = np.stack(averaged(weight, slope + 0.01 * rng.normal(size=200), 2, 0.01, 0.01))
    apart = np.sqrt(((found[:, None] - x[None]) ** 2).mean(axis=2))
    assert apart.min(axis=0).max() < 0.01


@pytest.mark.parametrize("defense", [GaussianNoise(), LaplaceNoise()])
def test_noise_refuses_statistics_that_it_would_not_cover(defense) -> None:
    with pytest.raises(ConfigError, match="GroupNorm"):
        defense.on_victim(replace(_update(), buffers={"running_mean": np.zeros(3)}), np.random.default_rng(0))


@pytest.mark.parametrize("keep", [0.01, 0.1, 0.5, 1.0])
def test_top_k_sends_the_largest_and_nothing_else(keep) -> None:
    before, after = _vector(_update()), _sent(TopKUpdate(keep=keep), _update())
    count = math.ceil(keep * len(before))
    assert (after != 0).sum() == count
    np.testing.assert_array_equal(after[after != 0], before[after != 0])
    if keep < 1:
        assert np.abs(before[after == 0]).max() <= np.abs(after[after != 0]).min()


@pytest.mark.parametrize(("form", "levels"), [("int8", 255), ("int4", 15)])
def test_integers_are_as_coarse_as_their_bits(form, levels) -> None:
    update = _update()
    behind = Quantise(format=form).on_victim(update, np.random.default_rng(0))
    assert isinstance(behind, Update)
    for name, tensor in update.tensors.items():
        found, step = behind.tensors[name], np.abs(tensor).max() / (levels // 2)
        assert len(np.unique(found)) <= levels
        assert np.abs(found - tensor).max() <= step / 2 * (1 + 1e-6)
        assert found.dtype == tensor.dtype


@pytest.mark.parametrize(("form", "relative"), [("fp16", 2.0**-11), ("bf16", 2.0**-8)])
def test_floats_are_as_coarse_as_their_digits(form, relative) -> None:
    before, after = _vector(_update()), _sent(Quantise(format=form), _update())
    assert (np.abs(after - before) / np.abs(before)).max() <= relative * (1 + 1e-6)
    assert np.isfinite(_sent(Quantise(format=form), _update(scale=1e6))).all()


@pytest.mark.parametrize("form", ["fp16", "bf16", "int8", "int4"])
@pytest.mark.parametrize("stochastic", [False, True])
def test_rounding_errors_are_as_large_as_the_adversary_is_told(form, stochastic) -> None:
    defense, update = (
        Quantise(format=form, stochastic=stochastic),
        Update({"w": np.random.default_rng(33).random(20_000)}),
    )
    found = _sent(defense, update)
    assert (found - _vector(update)).std() == pytest.approx(defense.noise(found), rel=0.25)


def test_stochastic_rounding_keeps_the_mean() -> None:
    update = Update({"w": np.concatenate([[7.0], np.full(40_000, 0.3)])})
    drawn = _sent(Quantise(format="int4", stochastic=True), update)[1:]
    assert set(np.unique(drawn)) == {0.0, 1.0}
    assert drawn.mean() == pytest.approx(0.3, abs=0.01)


def test_signs_are_sent_at_the_mean_magnitude_of_their_tensor() -> None:
    update = _update()
    behind = Sign().on_victim(update, np.random.default_rng(0))
    assert isinstance(behind, Update)
    for name, tensor in update.tensors.items():
        np.testing.assert_array_equal(np.sign(behind.tensors[name]), np.sign(tensor))
        np.testing.assert_allclose(np.abs(behind.tensors[name]), np.abs(tensor).mean(), rtol=1e-5)
    np.testing.assert_array_equal(
        np.unique(_sent(Sign(scaled=False), Update({"w": np.array([-3.0, 0.0, 2.0])}))), [-1, 0, 1]
    )


@pytest.mark.parametrize("name", SINGLE)
def test_zero_and_empty_and_broken_updates(name) -> None:
    defense = defense_class(name)()
    zeros = Update({"w": np.zeros((3, 4)), "b": np.zeros(0)})
    assert np.isfinite(_sent(defense, zeros)).all()
    with pytest.raises(DataError, match="tensor 'w' holds NaN"):
        _sent(defense, Update({"w": np.array([1.0, np.nan])}))
    with pytest.raises(DataError, match="has none"):
        _sent(defense, Update({}))


# Sums over clients


def _several(clients: int) -> Updates:
    return Updates(tuple(_update(seed) for seed in range(clients)))


@pytest.mark.parametrize(("cohort", "groups"), [(0, 1), (6, 1), (3, 2), (1, 6)])
def test_secure_aggregation_leaves_the_mean_of_each_cohort(cohort, groups) -> None:
    sent = _several(6)
    behind = SecureAggregation(cohort=cohort).on_victim(sent, np.random.default_rng(0))
    assert isinstance(behind, Updates)
    assert len(behind) == groups
    for number, update in enumerate(behind.clients):
        own = range(number * (6 // groups), (number + 1) * (6 // groups))
        wanted = np.mean([_vector(sent.clients[client]) for client in own], axis=0)
        assert np.abs(_vector(update) - wanted).max() < 1e-6


def test_who_dropped_out_is_in_no_sum() -> None:
    sent = _several(6)
    behind = SecureAggregation(cohort=3, dropouts=1).on_victim(sent, np.random.default_rng(0))
    assert isinstance(behind, Updates)
    for number, update in enumerate(behind.clients):
        wanted = np.mean([_vector(sent.clients[number * 3 + k]) for k in range(2)], axis=0)
        assert np.abs(_vector(update) - wanted).max() < 1e-6


def test_cohorts_divide_the_clients_and_outlast_the_threshold() -> None:
    assert cohorts(6, 0) == [range(6)]
    with pytest.raises(ConfigError, match="6 clients cannot be cut into cohorts of 4"):
        SecureAggregation(cohort=4).groups(6)
    with pytest.raises(ConfigError, match="3 of 6 clients answer and 4 are needed"):
        SecureAggregation(dropouts=3).groups(6)
    with pytest.raises(ConfigError, match="'secure-aggregation' does not act on a Update"):
        SecureAggregation().on_victim(_update(), np.random.default_rng(0))


def test_statistics_are_summed_with_the_rest_and_other_models_refused() -> None:
    one, two = (replace(_update(seed), buffers={"mean": np.full(3, float(seed))}) for seed in (1, 2))
    behind = SecureAggregation().on_victim(Updates((one, two)), np.random.default_rng(0))
    assert isinstance(behind, Updates)
    np.testing.assert_allclose(behind.clients[0].buffers["mean"], 1.5)
    with pytest.raises(DataError, match="client 1 sends"):
        SecureAggregation().on_victim(Updates((one, Update({"w": np.zeros(3)}))), np.random.default_rng(0))


def _known(case: Case) -> tuple[GradientKnowledge, GradientSecret]:
    assert isinstance(case.knowledge, GradientKnowledge)
    assert isinstance(case.secret, GradientSecret)
    return case.knowledge, case.secret


def _told(case: Case, local: str = "gradient") -> Case:
    """The case of an adversary who is also told labels and their counts."""
    knowledge, secret = _known(case)
    y = secret.batch.labels().reshape(knowledge.clients, -1)
    counts = np.stack([np.bincount(mine, minlength=4) for mine in y])
    ladder = replace(knowledge.assumptions, labels=Rung.known(y), counts=Rung.known(counts))
    return replace(case, knowledge=replace(knowledge, assumptions=ladder))


@pytest.mark.parametrize("aware", [True, False])
def test_knowledge_secret_and_baselines_follow_the_sum(aware) -> None:
    bare = _told(gradient_case(0))
    before, batch = _known(bare)[0], _known(bare)[1].batch
    case = bare.defended(SecureAggregation(), aware)
    knowledge, secret = _known(case)
    ladder = knowledge.assumptions
    assert (knowledge.clients, ladder.batch, ladder.local_batch) == (1, Rung.known(6), Rung.known(6))
    np.testing.assert_array_equal(ladder.labels.value, before.assumptions.labels.value.reshape(1, -1))
    np.testing.assert_array_equal(ladder.counts.value, before.assumptions.counts.value.sum(axis=0, keepdims=True))
    np.testing.assert_array_equal(secret.batch.x, batch.x)
    np.testing.assert_array_equal(secret.client, np.zeros(6))
    baseline = case.baselines["public_mean"]
    assert isinstance(baseline, Reconstruction)
    np.testing.assert_array_equal(baseline.client, np.zeros(6))
    assert knowledge.defenses == ((SecureAggregation(),) if aware else ())
    assert case.facts["clients_a_sum"] == 3


def test_records_of_who_dropped_out_are_no_longer_asked_for() -> None:
    case = _told(gradient_case(0)).defended(SecureAggregation(dropouts=1))
    knowledge, secret = _known(case)
    assert len(secret.batch) == 4
    assert knowledge.assumptions.batch == Rung.known(4)
    assert knowledge.assumptions.labels.value.shape == (1, 4)
    labels = gradient_case(0, "labels").defended(SecureAggregation(dropouts=1)).baselines["even"]
    assert isinstance(labels, Posterior)
    assert labels.values.shape == (1, 4)


def test_steps_of_several_clients_are_one_step_of_all_only_as_a_guess() -> None:
    def local_batch(local: LocalTraining) -> Rung:
        return _known(gradient_case(0, local=local).defended(SecureAggregation()))[0].assumptions.local_batch

    assert local_batch(LocalTraining("delta", epochs=1)) == Rung.known(6)
    assert local_batch(LocalTraining("delta", batch=1, epochs=2)) == Rung(3, Standing.GUESSED)


def test_the_mean_of_gradients_is_the_gradient_of_the_union() -> None:
    """What the ladder says of a sum is true: an adversary who plays by it computes the same update."""
    import torch

    case = gradient_case(0).defended(SecureAggregation())
    knowledge, secret = _known(case)
    x, y = torch.from_numpy(secret.batch.x), torch.from_numpy(secret.batch.labels())
    assert isinstance(case.victim, Updates)
    for name, wanted in knowledge.net.gradient(x, y, mode="train").items():
        np.testing.assert_allclose(case.victim.clients[0].tensors[name], wanted.numpy(), atol=1e-6)


def test_a_sum_of_one_hides_nothing_and_says_so() -> None:
    bare = gradient_case(0)
    case = bare.defended(SecureAggregation(cohort=1))
    assert _played(case).value == _played(bare).value == 1.0
    assert "nothing is hidden" in str(case.facts["aggregate_of_one"])


def test_encrypted_and_secure_aggregation_show_the_same() -> None:
    pytest.importorskip("tenseal", reason="TenSEAL, the extra [he], is not installed")
    bare = gradient_case(0)
    one, two = bare.defended(SecureAggregation()), bare.defended(defense_class("encrypted-aggregation")())
    assert isinstance(one.victim, Updates)
    assert isinstance(two.victim, Updates)
    a, b = _vector(one.victim.clients[0]), _vector(two.victim.clients[0])
    assert np.abs(a - b).max() < 1e-5
    assert (_played(one).value, len(two.victim)) == (_played(two).value, 1)
    cost = two.facts
    assert float(cost["encrypted_bytes_a_client"] or 0) > 10 * float(cost["plain_bytes_a_client"] or 0)
    assert 0 < float(cost["aggregate_error"] or 0) < 1e-4
    assert all(float(cost[f"{part}_seconds{end}"] or 0) >= 0 for part, end in (("encrypt", "_a_client"), ("add", "")))


def test_without_tenseal_the_extra_is_named(monkeypatch) -> None:
    from seepage.models import ckks

    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(ckks, "import_module", absent)
    with pytest.raises(ConfigError, match=r"pip install 'seepage\[he\]'"):
        ckks.encrypted_sum(np.zeros((2, 3)))


# End to end: what is left behind the defenses that should leave nothing


def _federation(clients: int = 12, records: int = 2) -> Case:
    rng, spec = np.random.default_rng(40), InputSpec((1, 8, 8))
    pictures = smooth_pictures(300, rng, 8)
    pool = Records(pictures, rng.integers(4, size=300), tuple("abcd"))
    scene = Federation(
        members=pool[:80],
        nonmembers=pool[80:240],
        public=pool[240:],
        seed=5,
        open_net=lambda: ClientNet(client_net("relu-mlp", spec.shape, 4, 0, hidden=60), spec, 4),
        spec=spec,
        local=LocalTraining(),
        clients=clients,
        records=records,
    )
    return gradient.build(scene)


@pytest.fixture(scope="module")
def federation() -> Case:
    return _federation()


def test_without_a_defense_there_is_a_leak_to_stop(federation) -> None:
    leakage = _played(federation).leakage
    assert leakage is not None
    assert leakage.low > 0.5


EIGHT = {
    "gaussian-noise": {"clip": 1.0, "multiplier": gaussian_multiplier(8.0, 1e-5, sensitivity=2.0)},
    "laplace-noise": {"clip": 10.0, "multiplier": 2.0 / 8.0},
    "dp-sgd": {"clip": 1.0, "multiplier": gaussian_multiplier(8.0, 1e-5)},
}


@pytest.mark.parametrize("name", EIGHT)
def test_at_an_epsilon_of_8_nothing_is_left_beyond_the_controls(federation, name) -> None:
    case = federation.defended(defense_class(name)(**EIGHT[name]))
    assert case.facts["dp_epsilon"] == pytest.approx(8.0)
    leakage = _played(case).leakage
    assert leakage is not None
    assert leakage.low <= 0


def test_in_a_sum_over_12_clients_nothing_is_left_beyond_the_controls(federation) -> None:
    leakage = _played(federation.defended(SecureAggregation())).leakage
    assert leakage is not None
    assert leakage.low <= 0


# One of each kind besides: found by search, and led by a malicious server.
STRONG = [InvertingGradients(steps=60), RobbingTheFed(), Fishing(classes=0, thresholds=6)]


@pytest.mark.parametrize("attack", STRONG, ids=lambda attack: attack.name)
@pytest.mark.parametrize("name", ["gaussian-noise", "dp-sgd"])
def test_at_an_epsilon_of_8_no_kind_of_attack_finds_more_than_the_controls(federation, name, attack) -> None:
    """Of a single round, which needs the least noise."""
    leakage = _played(federation.defended(defense_class(name)(**EIGHT[name])), attack).leakage
    assert leakage is not None
    assert leakage.low <= 0


def test_in_a_sum_over_12_clients_a_search_finds_no_more_than_the_controls(federation) -> None:
    leakage = _played(federation.defended(SecureAggregation()), InvertingGradients(steps=60)).leakage
    assert leakage is not None
    assert leakage.low <= 0


def test_a_malicious_server_reads_a_sum_over_12_clients(federation) -> None:
    leakage = _played(federation.defended(SecureAggregation()), RobbingTheFed()).leakage
    assert leakage is not None
    assert leakage.value > 0.5


def test_low_precision_and_signs_are_no_defense(federation) -> None:
    for defense in (Quantise(format="fp16"), Quantise(format="int8"), TopKUpdate(keep=0.5)):
        leakage = _played(federation.defended(defense)).leakage
        assert leakage is not None
        assert leakage.low > 0, defense.name


def test_no_defense_but_noise_states_an_epsilon(federation) -> None:
    """An attack that stops is no guarantee."""
    for name in SINGLE:
        facts = federation.defended(defense_class(name)()).facts
        assert ("dp_epsilon" in facts) == name.endswith("-noise")
    assert "dp_epsilon" not in federation.defended(SecureAggregation()).facts
