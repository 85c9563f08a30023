"""Labels read off updates: exact where theory says so, honest elsewhere.

The gradient of the last biases is mean softmax - n / b for any network under cross-entropy. With a network that
answers the same to every record the closed form is exact; with one record its class alone has a negative entry.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from seepage.attacks.gradient.label_counts import ClosedForm, UntrainedCounts, recovered_counts, recovered_labels
from seepage.attacks.gradient.label_learning import LearnedCounts
from seepage.attacks.gradient.label_parts import Path, on_simplex
from seepage.attacks.gradient.last import last_gradient, last_layer
from seepage.attacks.gradient.ma2023 import ILRG
from seepage.attacks.gradient.wainakh2022 import LLG, by_impact
from seepage.attacks.gradient.yin2021_labels import GradInversionLabels
from seepage.attacks.gradient.zhao2020 import IDLG
from seepage.core.assumptions import Assumptions, Rung
from seepage.core.attack import LabelAttack
from seepage.core.counts import whole_counts
from seepage.core.errors import DataError
from seepage.core.knowledge import GradientKnowledge
from seepage.core.records import Records
from seepage.core.seeds import stream
from seepage.core.spec import InputSpec
from seepage.core.target import Target
from seepage.core.victim import Update, Updates
from seepage.data import load_builtin
from seepage.models.client_nets import client_net
from seepage.models.federated import ClientNet, LocalTraining, Mode
from seepage.models.training import fit_classifier, seeded
from seepage.scoring.gradient_labels import by_chance, overlap

SPEC, CLASSES = InputSpec((1, 8, 8)), 10
NETS: tuple[tuple[str, Mode], ...] = (
    ("lenet-zhu", "eval"),
    ("relu-cnn", "eval"),
    ("cnn", "eval"),
    ("cnn", "train"),
    ("relu-mlp", "eval"),
)
DIGITS = load_builtin("digits")


@cache
def net_of(name: str, seed: int = 5, trained: int = 0) -> ClientNet:
    made = client_net(name, SPEC.shape, CLASSES, seed)
    if trained:
        with seeded(seed) as rng:
            x, y = torch.from_numpy(DIGITS.x[1300:]), torch.from_numpy(DIGITS.labels()[1300:])
            made = fit_classifier(made, x, y, rng, steps=trained, rate=1e-3, augment=False)
    return ClientNet(made, SPEC, CLASSES)


def batch(n: int, seed: int, classes: int = CLASSES) -> Records:
    """Digits with labels drawn evenly from so many classes."""
    rng = stream(seed, "batch")
    y = rng.permutation(CLASSES)[:classes][rng.integers(classes, size=n)]
    rows = [rng.choice(np.nonzero(DIGITS.labels()[:1000] == k)[0]) for k in y]
    return DIGITS[np.array(rows)]


def counts(records: Records) -> np.ndarray:
    return np.bincount(records.labels(), minlength=CLASSES)


def sent(net: ClientNet, records: Records, local: LocalTraining | None = None, seed: int = 0) -> Update:
    return net.round(records.x, records.labels(), local or LocalTraining(), stream(seed, "round"))


def known(net: ClientNet, clients: int = 1, public: Records | None = None, **told: Any) -> GradientKnowledge:
    rungs = {name: Rung.known(value) for name, value in told.items()}
    return GradientKnowledge(
        public=public, spec=SPEC, net=net, classes=CLASSES, clients=clients, assumptions=Assumptions(**rungs)
    )


def shares(attack: LabelAttack, knowledge: GradientKnowledge, *updates: Update) -> np.ndarray:
    return attack.run(Target(Updates(updates), attack.needs), knowledge, stream(0, "attack")).values


def recall(found: np.ndarray, records: Records) -> float:
    return overlap(whole_counts(found, len(records)), counts(records))


def blind_net() -> ClientNet:
    """A network that answers the same to every record: its features are all ones."""

    class Ones(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1)[:, :6] * 0 + 1

    with seeded(3):
        return ClientNet(nn.Sequential(Ones(), nn.Linear(6, CLASSES)), SPEC, CLASSES)


# The last layer, found by probing.


def head(*layers: nn.Module) -> ClientNet:
    with seeded(1):
        return ClientNet(nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), *layers), SPEC, CLASSES)


def test_the_last_layer_is_the_one_that_makes_the_logits() -> None:
    found = last_layer(head(nn.Linear(12, CLASSES), nn.LogSoftmax(dim=1)))
    assert found is not None
    assert (found.name, found.weight, found.bias, found.rectified) == ("3", "3.weight", "3.bias", True)
    bare = last_layer(head(nn.Linear(12, CLASSES, bias=False)))
    assert bare is not None
    assert bare.bias is None
    assert not bare.c.any()


@pytest.mark.parametrize("last", [nn.Softmax(dim=1), nn.Tanh()])
def test_no_last_layer_where_the_logits_are_made_otherwise(last: nn.Module) -> None:
    net = head(nn.Linear(12, CLASSES), last)
    assert last_layer(net) is None
    for attack in (IDLG(), LLG(), ILRG(), UntrainedCounts(), GradInversionLabels()):
        assert "fully connected layer" in (attack.obstacle(known(net, batch=1), None) or "")
        outlook = attack.outlook(known(net, batch=1), Update({}))
        assert outlook is not None
        assert outlook.prospect == "impossible"


def test_features_below_zero_are_noticed() -> None:
    net = ClientNet(nn.Sequential(nn.Flatten(), nn.Linear(64, CLASSES, bias=False)), SPEC, CLASSES)
    centred = replace(SPEC, mean=(0.5,), std=(0.5,))
    found = last_layer(ClientNet(net.module, centred, CLASSES))
    assert found is not None
    assert not found.rectified


# One record.


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("trained", [0, 100])
def test_the_sign_names_the_class_of_one_record(bias: bool, trained: int) -> None:
    net = net_of("relu-mlp", trained=trained) if bias else head(nn.Linear(12, CLASSES, bias=False))
    ones = [batch(1, seed) for seed in range(20)]
    updates = [sent(net, one) for one in ones]
    for attack in (IDLG(), LLG(), LLG(statistic="weights"), GradInversionLabels()):
        found = shares(attack, known(net, len(ones), batch=1), *updates)
        assert found.argmax(axis=1).tolist() == [int(one.labels()[0]) for one in ones], attack
        assert (found.max(axis=1) == 1).all()


def test_the_sign_says_which_classes_are_surely_there() -> None:
    net, records = net_of("relu-cnn"), batch(40, 3, classes=3)
    found = shares(IDLG(), known(net, batch=40), sent(net, records))[0]
    assert set(np.nonzero(found)[0]) <= set(np.nonzero(counts(records))[0])


# Several records, exactly.


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, CLASSES - 1), min_size=2, max_size=200))
def test_the_closed_form_is_exact_where_answers_do_not_depend_on_the_record(labels: list[int]) -> None:
    net, y = blind_net(), np.array(labels)
    records = Records(np.random.default_rng(0).random((len(y), 1, 8, 8)).astype(np.float32), y, tuple("0123456789"))
    update = sent(net, records)
    for source in ("noise", "update"):
        found = shares(UntrainedCounts(source=source), known(net, batch=len(y)), update)[0]
        assert (np.round(found * len(y)).astype(int) == counts(records)).all()
    assert recovered_labels(known(net, batch=len(y)), [update], stream(0, "a"))[0].tolist() == sorted(labels)


def test_class_features_are_exact_where_answers_do_not_depend_on_the_record() -> None:
    net, records = blind_net(), batch(50, 2, classes=6)
    found = shares(ILRG(), known(net, batch=50), sent(net, records))[0]
    assert recall(found, records) == 1


def test_impact_is_exact_where_no_softmax_is_in_the_way() -> None:
    n = np.array([3, 0, 1, 5, 0, 1])
    # Statistics far below zero for every record and exactly zero elsewhere: each record moves its class alike.
    assert by_impact(-n * 0.2, int(n.sum())).sum() == n.sum()
    assert by_impact(np.where(n > 0, -n * 0.2, 1.0), 10).tolist() == [3, 0, 1, 5, 0, 1]
    assert by_impact(np.zeros(4), 6).tolist() == [2, 2, 1, 1]


def test_least_entries_name_distinct_classes() -> None:
    net = net_of("relu-mlp")
    for seed in range(10):
        rng = stream(seed, "distinct")
        y = rng.permutation(CLASSES)[:5]
        records = DIGITS[np.array([rng.choice(np.nonzero(DIGITS.labels() == k)[0]) for k in y])]
        assert recall(shares(GradInversionLabels(), known(net, batch=5), sent(net, records))[0], records) == 1


@pytest.mark.parametrize(("name", "mode"), NETS)
def test_labels_of_an_untrained_network_are_counted(name: str, mode: Mode) -> None:
    """At least 95 % of 64 labels, without public records; from three classes as from ten."""
    net, drawn = net_of(name), [batch(64, seed, 3 if seed % 2 else 10) for seed in range(20)]
    updates = [sent(net, one, LocalTraining(mode=mode)) for one in drawn]
    found = shares(UntrainedCounts(), known(net, len(drawn), batch=64, mode=mode), *updates)
    assert np.mean([recall(f, one) for f, one in zip(found, drawn, strict=True)]) >= 0.95
    # The same updates, against labels of other batches: what anybody would name.
    other = np.mean([recall(f, one) for f, one in zip(found, drawn[2:] + drawn[:2], strict=True)])
    assert other < 0.75


def test_without_biases_the_mean_feature_stands_in() -> None:
    with seeded(2):
        body = client_net("relu-cnn", SPEC.shape, CLASSES, 2)
        last = body[-1]
        assert isinstance(last, nn.Linear)
        body[-1] = nn.Linear(last.in_features, CLASSES, bias=False)
    net = ClientNet(body, SPEC, CLASSES)
    drawn = [batch(32, seed) for seed in range(6)]
    updates = [sent(net, one) for one in drawn]
    found = shares(UntrainedCounts(source="public"), known(net, 6, public=DIGITS[1000:1300], batch=32), *updates)
    assert np.mean([recall(f, one) for f, one in zip(found, drawn, strict=True)]) > 0.9


# A model that has learned.


def test_a_trained_network_hides_counts_and_regression_finds_some() -> None:
    net, drawn = net_of("relu-mlp", trained=200), [batch(32, seed, 3 if seed % 2 else 10) for seed in range(16)]
    updates = [sent(net, one) for one in drawn]
    knowledge = known(net, 16, public=DIGITS[1000:1300], batch=32)

    def mean(attack: LabelAttack) -> float:
        found = shares(attack, knowledge, *updates)
        return float(np.mean([recall(f, one) for f, one in zip(found, drawn, strict=True)]))

    even = float(np.mean([recall(np.ones(CLASSES), one) for one in drawn]))
    learned = mean(LearnedCounts(batches=300))
    assert mean(UntrainedCounts()) < 0.9
    assert learned > even + 0.08
    assert learned > mean(UntrainedCounts())
    outlook = UntrainedCounts().outlook(knowledge, updates[0])
    assert outlook is not None
    assert outlook.prospect == "possible"


def test_regression_is_right_where_the_closed_form_is() -> None:
    """What it learns on made-up batches holds for the client's: untrained, the counts come out nearly exactly."""
    net, drawn = net_of("relu-mlp"), [batch(32, seed, 3 if seed % 2 else 10) for seed in range(6)]
    knowledge = known(net, 6, public=DIGITS[1000:1300], batch=32)
    found = shares(LearnedCounts(batches=300), knowledge, *[sent(net, one) for one in drawn])
    assert np.mean([recall(f, one) for f, one in zip(found, drawn, strict=True)]) > 0.95


def test_the_rule_is_chosen_by_the_model_and_what_is_held() -> None:
    blind, wise = net_of("relu-mlp"), net_of("relu-mlp", trained=200)
    records, public = batch(8, 1), DIGITS[1000:1100]

    def way(net: ClientNet, **more: Any) -> str:
        return recovered_counts(known(net, batch=8, **more), [sent(net, records)], stream(0, "a"))[0].way

    assert way(blind, public=public) == "closed form, public"
    assert way(wise, public=public) == "regression on made-up batches"
    assert way(wise) == "sign"


# The ladder: batch, learning rate and steps.


@pytest.mark.parametrize("name", ["lenet-zhu", "relu-cnn", "relu-mlp"])
def test_the_batch_is_guessed_from_the_rank(name: str) -> None:
    net = net_of(name)
    for n in (1, 2, 3, 5, 8, 16):
        records = batch(n, n + 1)
        found = ClosedForm(known(net), stream(0, "a")).counts([sent(net, records)])[0]
        assert found.batch == n
        assert found.guessed == ("batch",)
        assert found.labels.tolist() == sorted(records.labels().tolist())


def test_what_was_guessed_is_told() -> None:
    net = net_of("relu-mlp")
    attack, update = UntrainedCounts(), sent(net, batch(4, 1))
    facts = attack.run(Target(Updates((update,)), attack.needs), known(net), stream(0, "a")).facts
    assert "batch 4" in str(facts["assumptions_guessed"])
    facts = attack.run(Target(Updates((update,)), attack.needs), known(net, batch=4), stream(0, "a")).facts
    assert facts["assumptions_guessed"] == "none"


def test_one_step_is_a_gradient_and_a_rate() -> None:
    net, records = net_of("relu-cnn"), batch(12, 4)
    delta = sent(net, records, LocalTraining(kind="delta", rate=0.05))
    held = last_gradient(known(net, rate=0.05, steps=1), delta)
    straight = last_gradient(known(net), sent(net, records))
    np.testing.assert_allclose(held.weight, straight.weight, atol=1e-5)
    assert held.scaled


def test_means_over_steps_are_interpolated() -> None:
    """Step t of T starts t / T of the way: the mean of a straight line is exact."""
    for steps in (2, 3, 10):
        line = np.array([2.0, 5.0])
        on_the_way = [line[0] + t / steps * (line[1] - line[0]) for t in range(steps)]
        path = Path(({}, {}), steps, "eval", 4)
        assert path.mean([line[:1], line[1:]])[0] == pytest.approx(np.mean(on_the_way))


def test_several_local_steps_are_counted_and_interpolation_helps() -> None:
    net = net_of("relu-mlp")
    local = LocalTraining(kind="delta", batch=8, epochs=2, rate=0.1)
    drawn = [batch(32, seed) for seed in range(10)]
    updates = [sent(net, one, local, seed) for seed, one in enumerate(drawn)]
    knowledge = known(net, 10, batch=32, local_batch=8, rate=0.1, steps=8, epochs=2)
    found = shares(UntrainedCounts(source="noise"), knowledge, *updates)
    with_path = np.mean([recall(f, one) for f, one in zip(found, drawn, strict=True)])
    # Without the tensors of the body the model that came back cannot be built: no interpolation.
    cut = [Update({k: v for k, v in u.tensors.items() if k.startswith("6")}, "delta") for u in updates]
    found = shares(UntrainedCounts(source="noise"), knowledge, *cut)
    without = np.mean([recall(f, one) for f, one in zip(found, drawn, strict=True)])
    assert with_path > 0.9
    assert with_path > without


def test_an_unknown_rate_is_guessed_where_a_class_is_absent() -> None:
    net, records = net_of("relu-cnn"), batch(20, 4, classes=6)
    update = sent(net, records, LocalTraining(kind="delta", rate=0.37))
    knowledge = known(net, batch=20)
    attack = UntrainedCounts(source="noise")
    outlook = attack.outlook(knowledge, update)
    assert outlook is not None
    assert "rate and steps" in outlook.why
    guess = attack.run(Target(Updates((update,)), attack.needs), knowledge, stream(0, "a"))
    assert recall(guess.values[0], records) >= 0.95
    assert "rate" in str(guess.facts["assumptions_guessed"])


# Noise as a defense.


def test_noise_in_the_update_brings_labels_down_to_chance() -> None:
    """A count is off by batch * sigma: counts stand while that is far below 1/2, and are lost when it is a batch."""
    net, drawn = net_of("relu-mlp"), [batch(32, seed) for seed in range(30)]
    rng = stream(0, "noise")

    def noisy(update: Update, sigma: float) -> Update:
        return replace(
            update, tensors={k: v + rng.normal(scale=sigma, size=v.shape) for k, v in update.tensors.items()}
        )

    def mean(sigma: float) -> float:
        updates = [noisy(sent(net, one), sigma) for one in drawn]
        found = shares(UntrainedCounts(source="noise"), known(net, len(drawn), batch=32), *updates)
        return float(np.mean([recall(f, one) for f, one in zip(found, drawn, strict=True)]))

    chance = float(np.mean([by_chance(counts(one)) for one in drawn]))
    values = [mean(scale / 32) for scale in (0.05, 2, 8, 2000)]
    assert values[0] > 0.99
    assert values == sorted(values, reverse=True)
    assert values[2] < chance + 0.1
    # Far beyond, all the noise names is a class or two at random: below what even shares would get.
    assert values[3] < chance


# Bad input.


def broken(change: Callable[[dict[str, np.ndarray]], None]) -> tuple[ClientNet, Update]:
    net = net_of("relu-mlp")
    tensors = dict(sent(net, batch(4, 1)).tensors)
    change(tensors)
    return net, Update(tensors)


def nan(tensors: dict[str, np.ndarray]) -> None:
    tensors["6.bias"] = np.full(CLASSES, np.nan)


def cut(tensors: dict[str, np.ndarray]) -> None:
    tensors["6.weight"] = tensors["6.weight"][:, :5]


@pytest.mark.parametrize(
    ("change", "said"),
    [(nan, "'6.bias' holds NaN"), (cut, "'6.weight' has shape"), (lambda t: t.pop("6.weight"), "no tensor '6.weight'")],
)
def test_updates_that_cannot_be_read_are_named(change: Callable[[dict[str, np.ndarray]], None], said: str) -> None:
    net, update = broken(change)
    for attack in (IDLG(), LLG(), ILRG(), UntrainedCounts(), GradInversionLabels()):
        with pytest.raises(DataError, match=said):
            shares(attack, known(net, batch=4), update)


def test_half_precision_and_zeros_are_coped_with() -> None:
    net, records = net_of("relu-mlp"), batch(8, 2)
    update = sent(net, records)
    half = replace(update, tensors={k: v.astype(np.float16) for k, v in update.tensors.items()})
    zero = replace(update, tensors={k: np.zeros_like(v) for k, v in update.tensors.items()})
    assert recall(shares(UntrainedCounts(), known(net, batch=8), half)[0], records) == 1
    for attack in (IDLG(), LLG(), ILRG(), UntrainedCounts(), GradInversionLabels(), LearnedCounts(batches=10)):
        found = shares(attack, known(net, batch=8, public=DIGITS[1000:1100]), zero)
        assert found.sum() == pytest.approx(1)
        assert (found >= 0).all()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=1, max_size=12), st.integers(1, 300))
def test_shares_and_counts_keep_their_sums(values: list[float], n: int) -> None:
    found = on_simplex(np.array(values))
    assert found.sum() == pytest.approx(1)
    assert (found >= 0).all()
    assert np.all(np.diff(found[np.argsort(values, kind="stable")]) >= -1e-12)
    assert whole_counts(found, n).sum() == n
    # Nearest: what is a distribution already stays.
    np.testing.assert_allclose(on_simplex(found), found, atol=1e-12)
