"""Soteria and PRECODE: what they do to an update is what the papers say, and who knows them goes around."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from seepage.attacks.gradient.geiping2020 import InvertingGradients
from seepage.attacks.gradient.kept import kept
from seepage.attacks.gradient.phong2017 import LinearLayer
from seepage.attacks.gradient.zhu2019 import DLG
from seepage.cases import gradient
from seepage.cases.federation import Federation
from seepage.core.attack import GradientAttack
from seepage.core.case import Case
from seepage.core.errors import ConfigError, ModelError
from seepage.core.knowledge import GradientKnowledge
from seepage.core.records import Records
from seepage.core.scorer import Controls, Scored
from seepage.core.seeds import stream
from seepage.core.spec import InputSpec
from seepage.core.target import Target
from seepage.core.victim import Update, Updates
from seepage.defenses.training.precode import Precode
from seepage.defenses.training.soteria import Soteria
from seepage.models.bottleneck import Bottleneck, VariationalBottleneck, penalty_of, with_bottleneck
from seepage.models.client_nets import client_net
from seepage.models.federated import ClientNet, LocalTraining
from seepage.models.last_layer import last_layer
from seepage.models.soteria import PrunedFeatures, kept_features, sensitivity
from seepage.scoring.gradient import score
from seepage.testing.text_clients import text_gradient_case

DIGITS = load_digits()
X = (DIGITS.images / 16).astype(np.float32)[:, None]
Y = DIGITS.target.astype(np.int64)
NAMES = tuple("0123456789")
SPEC = InputSpec((1, 8, 8))


def net(name: str = "lenet-zhu", **options: int) -> ClientNet:
    return ClientNet(client_net(name, SPEC.shape, 10, 0, **options), SPEC, 10)


def case_of(made: ClientNet, clients: int = 4, records: int = 1, local: LocalTraining | None = None) -> Case:
    return gradient.build(
        Federation(
            open_net=lambda: made,
            spec=SPEC,
            members=Records(X[:400], Y[:400], NAMES),
            nonmembers=Records(X[400:800], Y[400:800], NAMES),
            public=Records(X[800:], Y[800:], NAMES),
            local=local or LocalTraining(),
            clients=clients,
            records=records,
            seed=2,
        )
    )


def played(case: Case, attack: GradientAttack) -> Scored:
    guess = attack.run(Target(case.victim, attack.needs), case.knowledge, stream(0, "x"))
    return score(guess, case.secret, Controls(case.baselines, None, case.missing))


def sent(case: Case) -> tuple[Update, ...]:
    assert isinstance(case.victim, Updates)
    return case.victim.clients


# Soteria


@pytest.mark.parametrize("name", ["lenet-zhu", "relu-mlp", "relu-cnn"])
def test_the_sensitivity_is_that_of_one_feature_after_another(name: str) -> None:
    """The batched Jacobian agrees with the loop over features of the published code."""
    own = net(name)
    last = last_layer(own)
    assert last is not None

    def features(x: torch.Tensor) -> torch.Tensor:
        return own.inside(last.name, x)[0]

    x = torch.from_numpy(X[:3])
    found = sensitivity(features, x)
    held = x.clone().requires_grad_(True)
    seen = features(held)
    for j in range(0, seen.shape[1], 17):
        (slope,) = torch.autograd.grad(seen[:, j].sum(), held, retain_graph=True)
        wanted = (slope.flatten(1).norm(dim=1) / (seen[:, j] + 0.1)).sum()
        assert found[j].item() == pytest.approx(wanted.item(), rel=1e-4, abs=1e-7)


def test_the_jacobian_may_be_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    from seepage.models import soteria

    own = net("relu-mlp", hidden=20)

    def features(x: torch.Tensor) -> torch.Tensor:
        return own.inside("6", x)[0]

    whole = sensitivity(features, torch.from_numpy(X[:3]))
    monkeypatch.setattr(soteria, "_AT_ONCE", 3 * 64 * 7)
    torch.testing.assert_close(sensitivity(features, torch.from_numpy(X[:3])), whole)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_least_sensitive_features_are_left_out_and_nothing_else(share: float) -> None:
    bare, behind = case_of(net()), case_of(net()).defended(Soteria(prune=share))
    for one, other in zip(sent(bare), sent(behind), strict=True):
        gone = (one.tensors["2.weight"] != 0).any(axis=0) & (other.tensors["2.weight"] == 0).all(axis=0)
        assert gone.mean() == pytest.approx(share, abs=0.01)
        np.testing.assert_array_equal(other.tensors["2.weight"][:, ~gone], one.tensors["2.weight"][:, ~gone])
        for name in set(one.tensors) - {"2.weight"}:
            np.testing.assert_array_equal(other.tensors[name], one.tensors[name])
    told = torch.tensor([[3.0, 1.0, 2.0, 4.0]])
    mask = kept_features(lambda x: x @ torch.diag(told[0]), torch.ones(1, 4), PrunedFeatures(0.5))
    # |d f_j / dx| / (f_j + 0.1) = t / (t + 0.1) rises with t.
    assert mask.tolist() == [1, 0, 0, 1]


def test_it_acts_at_each_local_step() -> None:
    local = LocalTraining("delta", batch=2, epochs=2, rate=0.1)
    bare = case_of(net("relu-mlp"), records=4, local=local)
    behind = sent(bare.defended(Soteria(prune=0.9)))[0].tensors["6.weight"]
    before = sent(bare)[0].tensors["6.weight"]
    assert 0 < (behind != 0).mean() < 0.5 * (before != 0).mean()


def test_who_knows_soteria_leaves_its_tensor_out_and_finds_the_records() -> None:
    case = case_of(net()).defended(Soteria(prune=0.8))
    attack = DLG(steps=250)
    assert played(case, attack).scores["exact"].value == 1.0
    unaware = case_of(net()).defended(Soteria(prune=0.8), aware=False)
    assert played(unaware, attack).scores["exact"].value == 0.0


def test_soteria_leaves_the_first_layer_as_it_is() -> None:
    bare = case_of(net("relu-mlp"))
    assert played(bare.defended(Soteria()), LinearLayer()).scores["exact"].value == 1.0


def test_what_is_left_out_is_named_and_masks_those_parameters_alone() -> None:
    case = case_of(net()).defended(Soteria())
    knowledge = case.knowledge
    assert isinstance(knowledge, GradientKnowledge)
    mask = kept(knowledge, torch.float64)
    assert mask is not None
    size = knowledge.net.weights()["2.weight"].numel()
    assert int((mask == 0).sum()) == size
    guess = DLG(steps=2).run(Target(case.victim, DLG.needs), knowledge, stream(0, "x"))
    assert any("left out of the match" in note and "2.weight" in note for note in guess.notes)
    assert kept(replace(knowledge, defenses=()), torch.float64) is None


def test_a_network_without_a_last_layer_is_refused() -> None:
    own = ClientNet(nn.Sequential(nn.Conv2d(1, 10, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), SPEC, 10)
    for defense in (Soteria(), Precode()):
        with pytest.raises(ModelError, match="fully connected layer that makes the logits"):
            case_of(own).defended(defense)


@pytest.mark.parametrize("defense", [Soteria(), Precode()])
def test_clients_with_texts_do_neither(defense: Soteria | Precode) -> None:
    with pytest.raises(ConfigError, match="clients who train on texts"):
        text_gradient_case(0).defended(defense)


# PRECODE


def test_the_divergence_is_that_of_two_gaussians_in_bits() -> None:
    bottleneck = VariationalBottleneck(5, Bottleneck(size=3, beta=0.5))
    x = torch.randn(4, 5)
    bottleneck(x)
    mean, raw = bottleneck.encoder(x).chunk(2, dim=1)
    own = torch.distributions.Normal(mean, nn.functional.softplus(raw))
    told = torch.distributions.kl_divergence(own, torch.distributions.Normal(0.0, 1.0)).sum(dim=1).mean()
    found = penalty_of(bottleneck)
    assert isinstance(found, torch.Tensor)
    assert found.item() == pytest.approx(0.5 * told.item() / np.log(2), rel=1e-5)


def test_the_code_is_drawn_in_training_and_the_mean_elsewhere() -> None:
    own = with_bottleneck(net(), Bottleneck(size=16))
    x = torch.from_numpy(X[:2])
    torch.testing.assert_close(own.logits(x), own.logits(x))
    assert (own.logits(x, mode="train") - own.logits(x, mode="train")).abs().max() > 0
    body = own.body("train")
    torch.testing.assert_close(body(own.prepare(x)), own.logits(x))


def test_the_divergence_is_part_of_what_a_client_goes_along() -> None:
    """With nothing drawn, the slope of the encoder is that of cross-entropy plus beta times the divergence."""
    strong, none = (with_bottleneck(net(), Bottleneck(size=16, beta=beta)) for beta in (1.0, 0.0))
    x, y = torch.from_numpy(X[:2]), torch.from_numpy(Y[:2])
    a, b = strong.gradient(x, y), none.gradient(x, y)
    apart = (a["2.bottleneck.encoder.bias"] - b["2.bottleneck.encoder.bias"]).norm()
    assert apart > 0.1 * b["2.bottleneck.encoder.bias"].norm()
    torch.testing.assert_close(a["2.layer.weight"], b["2.layer.weight"])


def test_clients_send_the_extended_model_and_each_draws_its_own() -> None:
    bare = case_of(net())
    case = bare.defended(Precode(size=32))
    knowledge = case.knowledge
    assert isinstance(knowledge, GradientKnowledge)
    names = {name: tuple(w.shape) for name, w in knowledge.net.weights().items()}
    for update in sent(case):
        assert {name: t.shape for name, t in update.tensors.items()} == names
    added = 48 * 64 + 64 + 32 * 48 + 48
    assert case.facts["weights_added"] == added
    unaware = bare.defended(Precode(size=32), aware=False).knowledge
    assert isinstance(unaware, GradientKnowledge)
    assert set(unaware.net.weights()) == set(names)
    again = case_of(net()).defended(Precode(size=32))
    np.testing.assert_array_equal(sent(case)[0].tensors["1.0.weight"], sent(again)[0].tensors["1.0.weight"])
    assert isinstance(case.victim, Updates)
    assert case.victim.asked is not None
    other = case.victim.asked(knowledge.net, 1).clients[0].tensors["1.0.weight"]
    assert np.abs(other - sent(case)[0].tensors["1.0.weight"]).max() > 0


def test_who_knows_precode_leaves_the_bottleneck_out_and_finds_more() -> None:
    attack = InvertingGradients(steps=300)
    aware = played(case_of(net("relu-cnn")).defended(Precode()), attack).facts["psnr_db_median"]
    unaware = played(case_of(net("relu-cnn")).defended(Precode(), aware=False), attack).facts["psnr_db_median"]
    assert float(aware or 0) > 18
    assert float(unaware or 0) < 8
    assert played(case_of(net("relu-mlp")).defended(Precode()), LinearLayer()).scores["exact"].value == 1.0


def test_copies_of_a_model_that_computed_carry_nothing_along() -> None:
    own = with_bottleneck(net(), Bottleneck(size=8))
    own.gradient(torch.from_numpy(X[:2]), torch.from_numpy(Y[:2]), mode="train")
    assert penalty_of(own.module) == 0.0
