"""Torch networks as victims: what they answer, that they can be differentiated, and what is refused."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from fixtures_victims import TABLE, HwcNet, table, tiny_mlp, trained_mlp
from seepage.core.errors import ConfigError, DataError, ModelError
from seepage.core.spec import Bounds, InputSpec
from seepage.core.target import Target
from seepage.core.victim import GivesEmbeddings, GivesLogits, GivesWeights, Model
from seepage.core.vocabulary import Access, Modality, closure
from seepage.targets.answers import softmax
from seepage.targets.torch import TorchModel, family_of

PICTURE = InputSpec(
    (3, 5, 6), Bounds.of(0.0, 255.0), mean=(100.0, 120.0, 140.0), std=(50.0, 60.0, 70.0), layout="hwc", channels="bgr"
)


def pictures(n, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, (n, 3, 5, 6)).astype(np.float32)


class Answering(nn.Module):
    """A linear layer whose answer is put into another form."""

    def __init__(self, form, outputs=3):
        super().__init__()
        torch.manual_seed(1)
        self.layer = nn.Linear(4, outputs)
        self.form = form

    def forward(self, x):
        return self.form(self.layer(x))


def test_a_trained_network_is_a_victim_of_every_protocol():
    net = trained_mlp()
    victim = TorchModel(net, TABLE)
    x, y = table(200, seed=1)
    for protocol in (Model, GivesLogits, GivesEmbeddings, GivesWeights):
        assert isinstance(victim, protocol)
    assert victim.classes == 3
    assert victim.family == "mlp"
    assert closure(victim.offers) >= {Access.SCORES, Access.EMBEDDINGS, Access.LOGITS}
    scores = victim.predict(x)
    assert scores.dtype == np.float64
    assert np.allclose(scores.sum(axis=1), 1, atol=1e-12)
    assert (scores.argmax(axis=1) == y).mean() > 0.8
    with torch.no_grad():
        own = net(torch.tensor(x)).numpy()
    assert np.array_equal(victim.logits(x), own.astype(np.float64))
    assert np.allclose(scores, softmax(own))


def test_batches_do_not_change_what_is_answered():
    x, _ = table(50)
    net = trained_mlp()
    assert np.allclose(TorchModel(net, TABLE, batch=7).predict(x), TorchModel(net, TABLE).predict(x), atol=1e-6)
    assert TorchModel(net, TABLE).predict(x[:0]).shape == (0, 3)
    assert TorchModel(net, TABLE).embeddings(x[:0]).shape == (0, 8)


def test_embeddings_are_what_the_last_linear_layer_that_runs_reads():
    class Backwards(nn.Module):
        """Its head is made first and runs last; a decoder is made and never runs."""

        def __init__(self):
            super().__init__()
            self.head = nn.Linear(8, 3)
            self.body = nn.Linear(4, 8)
            self.decoder = nn.Linear(8, 4)

        def forward(self, x):
            return self.head(torch.tanh(self.body(x)))

    net = Backwards()
    victim = TorchModel(net, TABLE)
    x, _ = table(10)
    features = victim.embeddings(x)
    with torch.no_grad():
        assert np.allclose(features, torch.tanh(net.body(torch.tensor(x))).numpy())
        own = net.head(torch.tensor(features, dtype=torch.float32)).numpy()
    assert np.allclose(own, victim.logits(x), atol=1e-6)
    assert not net.head._forward_pre_hooks


def test_a_network_without_a_linear_layer_has_no_embeddings():
    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1))
    victim = TorchModel(net, InputSpec((3, 5, 6)))
    assert victim.classes == 2
    assert victim.family == "cnn"
    with pytest.raises(ModelError, match=r"no torch\.nn\.Linear"):
        victim.embeddings(pictures(2))


def test_the_callers_module_keeps_its_mode_gradients_and_weights():
    net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 3)).train()
    net(torch.rand(8, 4)).sum().backward()
    before = copy.deepcopy(net.state_dict())
    victim = TorchModel(net, TABLE)
    x, _ = table(20)
    first = victim.predict(x)
    assert np.array_equal(victim.predict(x), first)
    assert net.training
    assert all(layer.training for layer in net.modules())
    assert net[0].weight.grad is not None
    assert net[0].weight.requires_grad
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    with torch.no_grad():
        net[3].weight.zero_()
    assert np.array_equal(victim.predict(x), first)


def test_no_gradient_of_the_training_data_is_handed_out():
    net = tiny_mlp()
    net(torch.rand(8, 4)).sum().backward()
    module = TorchModel(net, TABLE).differentiable()
    assert all(p.grad is None and not p.requires_grad for p in module.parameters())


def test_what_an_attack_does_to_the_network_does_not_reach_the_victim():
    victim = TorchModel(trained_mlp(), TABLE)
    x, _ = table(5)
    before = victim.predict(x)
    white = Target(victim, {Access.WEIGHTS}).weights()
    with torch.no_grad():
        for weight in white.parameters().values():
            weight.zero_()
    assert np.array_equal(victim.predict(x), before)


def test_preparation_in_torch_equals_the_specs_own():
    module = TorchModel(HwcNet(), PICTURE).differentiable()
    x = pictures(3)
    assert np.allclose(module.prepare(torch.tensor(x)).numpy(), PICTURE.prepare(x), atol=1e-6)


@pytest.mark.parametrize("outputs", ["logits", "probabilities", "log_probabilities"])
def test_gradients_reach_the_raw_record_and_equal_finite_differences(outputs):
    class Ending(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = HwcNet()

        def forward(self, x):
            z = self.net(x)
            return {"logits": z, "probabilities": z.softmax(1), "log_probabilities": z.log_softmax(1)}[outputs]

    victim = TorchModel(Ending().double(), PICTURE, outputs=outputs)
    module = victim.differentiable()
    x = torch.tensor(pictures(2), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(module, (x,), eps=1e-3, atol=1e-8, rtol=1e-4)
    (slope,) = torch.autograd.grad(module(x)[:, 1].sum(), x)
    move = torch.zeros_like(x)
    move[1, 2, 3, 4] = 1e-3
    with torch.no_grad():
        step = (module(x + move) - module(x - move))[1, 1] / 2e-3
    assert float(slope[1, 2, 3, 4]) == pytest.approx(float(step), rel=1e-5)
    assert float(slope.abs().min()) > 0


def test_logits_of_the_module_are_those_of_the_victim():
    victim = TorchModel(HwcNet(), PICTURE)
    x = pictures(4)
    assert np.allclose(victim.differentiable()(torch.tensor(x)).numpy(), victim.logits(x), atol=1e-6)


@pytest.mark.parametrize("outputs", ["logits", "probabilities", "log_probabilities"])
@pytest.mark.parametrize("squeezed", [True, False])
def test_one_output_is_class_one_of_two(outputs, squeezed):
    def form(z):
        out = {"logits": z, "probabilities": z.sigmoid(), "log_probabilities": nn.functional.logsigmoid(z)}[outputs]
        return out[:, 0] if squeezed else out

    net = Answering(form, outputs=1)
    victim = TorchModel(net, TABLE, outputs=outputs)
    x, _ = table(10)
    with torch.no_grad():
        p = net.layer(torch.tensor(x)).double().sigmoid().numpy()[:, 0]
    assert victim.classes == 2
    assert np.allclose(victim.predict(x), np.stack([1 - p, p], axis=1), atol=1e-6)
    with torch.no_grad():
        odds = victim.differentiable()(torch.tensor(x)).softmax(1).numpy()
    assert np.allclose(odds, victim.predict(x), atol=1e-5)
    assert np.allclose(softmax(victim.logits(x)), victim.predict(x), atol=1e-5)


@pytest.mark.parametrize(
    "form",
    [
        lambda z: (z, z.sum()),
        lambda z: {"logits": z, "hidden": z},
        lambda z: type("Output", (), {"logits": z})(),
        lambda z: z[:, :, None, None],
    ],
    ids=["tuple", "mapping", "object", "trailing sides"],
)
def test_logits_are_found_in_what_the_module_answers(form):
    x, _ = table(5)
    plain = Answering(lambda z: z)
    assert np.array_equal(TorchModel(Answering(form), TABLE).logits(x), TorchModel(plain, TABLE).logits(x))


def test_other_precisions_are_asked_in_their_own():
    x, _ = table(6)
    net = trained_mlp()
    half = TorchModel(copy.deepcopy(net).to(torch.bfloat16), TABLE)
    assert np.allclose(half.predict(x), TorchModel(net, TABLE).predict(x), atol=0.05)
    assert half.differentiable()(torch.tensor(x)).dtype == torch.float32
    assert half.fingerprint != TorchModel(net, TABLE).fingerprint


@pytest.mark.parametrize(
    ("module", "family"),
    [
        (nn.Linear(4, 3), "linear"),
        (tiny_mlp(), "mlp"),
        (nn.Sequential(nn.Conv1d(1, 2, 3), nn.Linear(2, 3)), "cnn"),
        (nn.LSTM(4, 3), "rnn"),
        (nn.TransformerEncoderLayer(4, 1, 8), "transformer"),
        (nn.Sequential(nn.Conv2d(3, 4, 8), nn.MultiheadAttention(4, 1)), "transformer"),
        (nn.Identity(), "unknown"),
    ],
)
def test_families_are_read_off_the_layers(module, family):
    assert family_of(module) == family


def test_a_declared_family_wins():
    assert TorchModel(tiny_mlp(), TABLE, family="mixer").family == "mixer"


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (Answering(lambda z: z.softmax(1)), {}, 'say outputs="probabilities"'),
        (nn.Sequential(nn.Linear(4, 1), nn.Sigmoid()), {}, 'say outputs="probabilities"'),
        (nn.Sequential(nn.Linear(4, 3), nn.Sigmoid()), {}, "no distribution over classes"),
        (tiny_mlp(), {"outputs": "probabilities"}, 'say outputs="logits"'),
        (tiny_mlp(), {"outputs": "log_probabilities"}, 'say outputs="logits"'),
        (tiny_mlp(), {"classes": 4}, "tells 3 classes apart, but 4 were declared"),
        (tiny_mlp(), {"classes": 1}, "two classes or more"),
        (tiny_mlp(5), {}, "failed on records of shape"),
        (Answering(lambda z: z.repeat(2, 1)), {}, r"scores were wanted, got shape \(8, 3\)"),
        (Answering(lambda z: "cat"), {}, "answered a str"),
        (Answering(lambda z: z / 0), {}, "NaN or infinite"),
        (Answering(lambda z: z[:, :, None].repeat(1, 1, 2)), {}, "scores were wanted"),
        (nn.Linear(4, 3, device="meta"), {}, "never loaded"),
        (nn.LazyLinear(3), {}, "no shape yet"),
    ],
)
def test_a_module_that_is_no_classifier_of_such_records_is_refused(module, options, message):
    with pytest.raises(ModelError, match=message):
        TorchModel(module, TABLE, **options)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(value):
    net = tiny_mlp()
    with torch.no_grad():
        net[2].weight[0, 0] = value
    with pytest.raises(ModelError, match=r"'2\.weight' hold NaN or infinity"):
        TorchModel(net, TABLE)


def test_a_buffer_may_be_infinite_but_not_nan():
    net = tiny_mlp()
    net.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    TorchModel(net, TABLE)
    net.mask[0] = torch.nan
    with pytest.raises(ModelError, match="'mask' holds NaN"):
        TorchModel(net, TABLE)


def test_a_module_that_cannot_be_copied_is_refused_with_its_reason():
    net = tiny_mlp()
    net.kept = net(torch.rand(1, 4))
    with pytest.raises(ModelError, match="cannot be copied") as caught:
        TorchModel(net, TABLE)
    assert caught.value.__cause__ is not None


def test_the_cause_of_a_failing_network_is_kept():
    class Failing(nn.Module):
        def forward(self, x):
            raise KeyError("vocabulary")

    with pytest.raises(ModelError, match="vocabulary") as caught:
        TorchModel(Failing(), TABLE)
    assert isinstance(caught.value.__cause__, KeyError)


def test_bad_options_and_records_are_refused():
    with pytest.raises(ConfigError, match="did you mean 'logits'"):
        TorchModel(tiny_mlp(), TABLE, outputs="logit")
    with pytest.raises(ConfigError, match="batch"):
        TorchModel(tiny_mlp(), TABLE, batch=0)
    victim = TorchModel(tiny_mlp(), TABLE)
    with pytest.raises(DataError, match=r"\(n, 4\) was wanted, got \(2, 5\)"):
        victim.predict(np.zeros((2, 5), dtype=np.float32))
    with pytest.raises(DataError, match="finite"):
        victim.predict(np.full((2, 4), np.nan, dtype=np.float32))


def test_fingerprints_tell_victims_apart_and_nothing_else():
    net = trained_mlp()
    one = TorchModel(net, TABLE).fingerprint
    assert one is not None
    assert len(one) == 64
    assert TorchModel(copy.deepcopy(net).train(), TABLE, batch=3).fingerprint == one
    other = copy.deepcopy(net)
    with torch.no_grad():
        other[0].bias[0] += 1e-6
    moved = InputSpec((4,), Bounds.of([0.0] * 4, [1.0] * 4), Modality.TABLE, mean=(0.1,), features=TABLE.features)
    named = nn.Sequential(*(copy.deepcopy(layer) for layer in net), nn.Identity())
    others = [
        TorchModel(other, TABLE).fingerprint,
        TorchModel(net, moved).fingerprint,
        TorchModel(named, TABLE).fingerprint,
        TorchModel(net, TABLE, outputs="logits", classes=3).fingerprint,
    ]
    assert others[:3].count(one) == 0
    assert others[3] == one
    normed = nn.Sequential(nn.BatchNorm1d(4), net)
    first = TorchModel(normed, TABLE).fingerprint
    normed(torch.rand(8, 4))
    assert TorchModel(normed, TABLE).fingerprint != first


def test_a_victim_that_computes_otherwise_with_the_same_weights_has_another_fingerprint():
    class One(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.layer = nn.Linear(4, 3)

        def forward(self, x):
            return self.layer(x)

    one = TorchModel(One(), TABLE).fingerprint

    class One(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.layer = nn.Linear(4, 3)

        def forward(self, x):
            return -self.layer(x)

    assert TorchModel(One(), TABLE).fingerprint != one


def test_victims_answer_through_a_target():
    target = Target(TorchModel(trained_mlp(), TABLE), {Access.WEIGHTS}, budget=30)
    x, _ = table(5)
    white = target.weights()
    assert torch.allclose(white(torch.tensor(x)).softmax(1), torch.tensor(target.scores(x)).float(), atol=1e-6)
    assert target.embeddings(x).shape == (5, 8)
    assert target.queries == 15
