"""What a client sends is what its training makes of its records, and what is recovered of it is scored honestly."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from seepage.attacks.gradient.entry import entry
from seepage.attacks.gradient.phong2017 import LinearLayer
from seepage.cases import gradient
from seepage.cases.federation import Federation
from seepage.core.counts import whole_counts
from seepage.core.errors import ConfigError, DataError, ModelError
from seepage.core.guess import Posterior, Reconstruction
from seepage.core.records import Records
from seepage.core.scorer import Controls
from seepage.core.secrets import GradientSecret
from seepage.core.seeds import stream
from seepage.core.spec import Bounds, InputSpec
from seepage.core.target import Target
from seepage.core.vocabulary import Access
from seepage.models.client_nets import CLIENT_NETS, client_net
from seepage.models.federated import ClientNet, LocalTraining
from seepage.scoring.gradient import score
from seepage.scoring.gradient_labels import by_chance, overlap
from seepage.testing.cases import gradient_case, smooth_pictures

SHAPE, CLASSES = (3, 16, 16), 5
SPEC = InputSpec(SHAPE)


def made(name: str, seed: int = 0) -> ClientNet:
    return ClientNet(client_net(name, SHAPE, CLASSES, seed), SPEC, CLASSES)


def drawn(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.random((n, *SHAPE)).astype(np.float32), rng.integers(CLASSES, size=n)


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("name", sorted(set(CLIENT_NETS)))
def test_the_gradient_is_that_of_plain_backpropagation(name: str, mode: str) -> None:
    torch.manual_seed(0)
    net = made(name)
    x, y = drawn(4)
    module = net.module.double()
    for layer in module.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    plain = ClientNet(module.float(), SPEC, CLASSES)
    module = module.double().train(mode == "train")
    functional.cross_entropy(module(torch.from_numpy(x).double()), torch.from_numpy(y)).backward()
    sent = plain.round(x, y, LocalTraining(mode=mode), stream(0, "round"), torch.float64)  # type: ignore[arg-type]
    for parameter, weight in module.named_parameters():
        assert weight.grad is not None
        np.testing.assert_allclose(sent.tensors[parameter], weight.grad.numpy(), atol=1e-9)


def test_one_local_step_is_the_gradient_times_the_rate() -> None:
    net = made("relu-cnn")
    x, y = drawn(6)
    slope = net.round(x, y, LocalTraining(), stream(0, "a"), torch.float64)
    moved = net.round(x, y, LocalTraining("delta", rate=0.3), stream(0, "a"), torch.float64)
    for name in slope.tensors:
        np.testing.assert_allclose(moved.tensors[name], -0.3 * slope.tensors[name], atol=1e-12)


def test_local_steps_follow_plain_sgd() -> None:
    net = made("relu-mlp")
    x, y = drawn(6)
    local = LocalTraining("delta", batch=2, epochs=2, rate=0.1)
    sent = net.round(x, y, local, stream(0, "steps"), torch.float64)
    module = net.module.double()
    before = {name: w.detach().clone() for name, w in module.named_parameters()}
    rng, optimiser = stream(0, "steps"), torch.optim.SGD(module.parameters(), 0.1)
    rng_rows: list[np.ndarray] = []
    rng.integers(2**62)
    for _ in range(2):
        rng_rows += local.batches(6, rng.permutation(6))
    assert local.steps(6) == len(rng_rows) == 6
    for rows in rng_rows:
        optimiser.zero_grad()
        functional.cross_entropy(module(torch.from_numpy(x[rows]).double()), torch.from_numpy(y[rows])).backward()
        optimiser.step()
    for name, weight in module.named_parameters():
        np.testing.assert_allclose(sent.tensors[name], (weight.detach() - before[name]).numpy(), atol=1e-10)


def test_records_are_normalised_as_declared() -> None:
    """A network told to centre its records sends what one does that centres them itself."""
    x, y = drawn(3)
    inner = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(SHAPE)), CLASSES))
    told = ClientNet(inner, replace(SPEC, mean=(0.5,), std=(0.25,)), CLASSES)
    bare = ClientNet(inner, InputSpec(SHAPE, bounds=Bounds.of(-2, 2)), CLASSES)
    a = told.round(x, y, LocalTraining(), stream(0, "a"))
    b = bare.round((x - 0.5) / 0.25, y, LocalTraining(), stream(0, "a"))
    for name in a.tensors:
        np.testing.assert_allclose(a.tensors[name], b.tensors[name], atol=1e-6)


def test_batch_normalisation_cannot_train_on_one_record() -> None:
    x, y = drawn(1)
    with pytest.raises(ConfigError, match="one record a step"):
        made("cnn").round(x, y, LocalTraining(mode="train"), stream(0, "a"))
    made("cnn").round(x, y, LocalTraining(mode="eval"), stream(0, "a"))


def test_a_network_that_does_not_answer_classes_is_refused() -> None:
    with pytest.raises(ModelError, match="was wanted"):
        ClientNet(nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(SHAPE)), 3)), SPEC, CLASSES)
    with pytest.raises(ModelError, match="no weights"):
        ClientNet(nn.Flatten(), SPEC, CLASSES)


@pytest.mark.parametrize(
    ("name", "kind", "direct"),
    [("relu-mlp", "linear", True), ("relu-cnn", "convolution", True), ("lenet-zhu", "convolution", True)],
)
def test_how_a_record_enters(name: str, kind: str, direct: bool) -> None:
    found = entry(made(name))
    assert found is not None
    assert (found.kind, found.direct) == (kind, direct)


def test_an_entry_behind_a_nonlinearity_is_not_the_record() -> None:
    net = ClientNet(nn.Sequential(nn.Flatten(), nn.Sigmoid(), nn.Linear(768, CLASSES)), SPEC, CLASSES)
    found = entry(net)
    assert found is not None
    assert not found.direct


def test_one_record_is_read_off_a_linear_layer_exactly_and_another_batch_shows_nothing() -> None:
    scene = federation(records=1)
    case = gradient.build(scene)
    scored = played(case)
    assert scored.scores["exact"].value == 1.0
    identified = scored.scores["record_identified"]
    assert identified.value == 1.0
    assert identified.controls["null_model"] is not None
    assert identified.controls["null_model"].value <= 0.2
    assert identified.leakage is not None
    assert identified.leakage.low > 0.2


def federation(records: int, clients: int = 6, knows: frozenset[str] | None = None) -> Federation:
    rng = np.random.default_rng(4)
    names = tuple("abcde")

    def some(n: int) -> Records:
        return Records(smooth_pictures(n, rng, 16), rng.integers(CLASSES, size=n), names)

    spec = InputSpec((1, 16, 16))
    net = ClientNet(client_net("relu-mlp", spec.shape, CLASSES, 0, hidden=60), spec, CLASSES)
    told = {} if knows is None else {"knows": knows}
    return Federation(
        open_net=lambda: net,
        spec=spec,
        members=some(60),
        nonmembers=some(60),
        public=some(60),
        local=LocalTraining(),
        clients=clients,
        records=records,
        seed=3,
        **told,  # type: ignore[arg-type]
    )


def played(case):  # type: ignore[no-untyped-def]
    attack = LinearLayer()
    guess = attack.run(Target(case.victim, attack.needs), case.knowledge, stream(0, "x"))
    null = attack.run(Target(case.null, attack.needs), case.null_knowledge, stream(0, "x"))
    return score(guess, case.secret, Controls(case.baselines, null, case.missing))


def test_what_the_adversary_is_told_is_what_was_granted() -> None:
    told = gradient.knowledge(federation(2))
    assert told.assumptions.labels.value is None
    assert told.public is not None
    assert told.assumptions.letter == "D"
    bare = gradient.knowledge(federation(2, knows=frozenset({"labels"})))
    assert bare.public is None
    assert bare.assumptions.letter == "B"
    assert bare.assumptions.labels.value.shape == (6, 2)


def test_the_control_s_labels_are_those_of_its_own_batches() -> None:
    scene = federation(2, knows=frozenset({"labels"}))
    case = gradient.build(scene)
    assert case.null_knowledge is not None
    own = scene.spare.labels()[scene.spare_rows]
    np.testing.assert_array_equal(case.null_knowledge.assumptions.labels.value, own)  # type: ignore[attr-defined]


def test_no_record_is_held_twice_and_the_control_holds_none_of_them() -> None:
    scene = federation(4)
    assert len(np.unique(scene.rows)) == 24
    held = {scene.members.x[i].tobytes() for i in scene.rows.ravel()}
    assert not held & {scene.spare.x[i].tobytes() for i in scene.spare_rows.ravel()}


def test_too_few_members_are_refused_with_the_numbers() -> None:
    with pytest.raises(ConfigError, match="need 200 members, there are 60"):
        federation(20, clients=10)


def _secret(n: int = 6, seed: int = 1) -> GradientSecret:
    rng = np.random.default_rng(seed)
    names = tuple("abcd")
    batch = Records(smooth_pictures(n, rng, 8), rng.integers(4, size=n), names)
    others = Records(smooth_pictures(60, rng, 8), rng.integers(4, size=60), names)
    return GradientSecret(batch=batch, client=np.repeat(np.arange(3), n // 3), others=others)


def test_the_order_of_reconstructions_does_not_matter_and_clients_do() -> None:
    secret = _secret()
    assert secret.client is not None
    back = np.array([1, 0, 3, 2, 5, 4])
    shuffled = Reconstruction(secret.batch.x[back], client=secret.client)
    assert score(shuffled, secret, Controls()).scores["exact"].value == 1.0
    wrong = Reconstruction(secret.batch.x, client=(secret.client + 1) % 3)
    assert score(wrong, secret, Controls()).scores["exact"].value == 0.0


def test_a_constant_picture_identifies_nobody_and_is_worth_some_decibels() -> None:
    secret = _secret()
    blind = Reconstruction(np.full_like(secret.batch.x, 0.5), client=secret.client)
    found = score(blind, secret, Controls())
    assert found.scores["record_identified"].value <= 0.05  # type: ignore[operator]
    assert 5 < float(found.facts["psnr_db_median"] or 0) < 25


def test_fewer_reconstructions_than_records_count_as_not_recovered() -> None:
    secret = _secret()
    half = Reconstruction(secret.batch.x[::2], client=np.arange(3))
    found = score(half, secret, Controls())
    assert found.scores["exact"].value == 0.5
    assert found.facts["not_reconstructed"] == 3.0


def test_noise_is_identified_no_more_often_than_chance_says() -> None:
    """Matching chooses among the batch: the chance that is stated is that of such a choice."""
    secret = _secret()
    rng = np.random.default_rng(5)
    hits = [
        score(
            Reconstruction(rng.random(secret.batch.x.shape).astype(np.float32), client=secret.client),
            secret,
            Controls(),
        ).scores["record_identified"]
        for _ in range(60)
    ]
    chance = hits[0].chance or 0.0
    mean = float(np.mean([hit.value or 0.0 for hit in hits]))
    # A little above b / N: the noise nearest to one of the batch is matched to it, and clients' batches differ.
    assert abs(mean - chance) < 0.05


def test_reconstructions_of_another_shape_or_not_finite_are_refused() -> None:
    secret = _secret()
    with pytest.raises(DataError, match="were wanted"):
        score(Reconstruction(secret.batch.x[:, :, :4], client=secret.client), secret, Controls())
    holed = secret.batch.x.copy()
    holed[0, 0, 0, 0] = np.nan
    with pytest.raises(DataError, match="finite"):
        score(Reconstruction(holed, client=secret.client), secret, Controls())


def test_labels_are_counted_with_repeats() -> None:
    assert overlap(np.array([2, 0, 1]), np.array([1, 1, 1])) == pytest.approx(2 / 3)
    np.testing.assert_array_equal(whole_counts(np.array([0.5, 0.3, 0.2]), 4), [2, 1, 1])


@pytest.mark.parametrize("truth", [[4, 0, 0, 0], [1, 1, 1, 1], [0, 5, 2, 1]])
def test_the_chance_of_labels_is_that_of_even_draws(truth: list[int]) -> None:
    rng, counts = np.random.default_rng(0), np.array(truth)
    tries = rng.multinomial(counts.sum(), np.full(4, 0.25), size=20_000)
    mean = np.minimum(tries, counts).sum(axis=1).mean() / counts.sum()
    assert by_chance(counts) == pytest.approx(mean, abs=0.005)


def test_labels_alone_are_scored_client_by_client() -> None:
    secret = _secret()
    y = secret.batch.labels().reshape(3, 2)
    right = np.stack([np.bincount(mine, minlength=4) for mine in y]).astype(float)
    found = score(Posterior(right), secret, Controls())
    assert found.headline == "label_recall"
    assert found.scores["label_recall"].value == 1.0
    with pytest.raises(DataError, match="for each of 3 clients"):
        score(Posterior(right[:2]), secret, Controls())


def test_the_small_case_of_the_contracts_leaks() -> None:
    case = gradient_case(0)
    attack = LinearLayer()
    guess = attack.run(Target(case.victim, {Access.UPDATES}), case.knowledge, stream(0, "x"))
    null = attack.run(Target(case.null, {Access.UPDATES}), case.knowledge, stream(0, "x"))  # type: ignore[arg-type]
    found = score(guess, case.secret, Controls(case.baselines, null)).scores["record_identified"]
    assert (found.value or 0) > 0.6
