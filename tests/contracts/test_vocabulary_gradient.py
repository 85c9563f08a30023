"""The vocabulary carries gradient inversion: a linear layer's input, exactly, from the gradient of one record.

For z = W x + c, the gradients of any loss are dW = d x^T and dc = d, so that x = dW_i / dc_i for every row
with dc_i != 0 (Phong et al. 2017); the row with the greatest |dc_i| loses the fewest digits.
"""

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from plain_defenses import NoisyUpdate
from scipy.special import softmax
from vocabulary_parts import played

from seepage.core.assumptions import Assumptions, Rung
from seepage.core.attack import GradientAttack
from seepage.core.case import Case
from seepage.core.errors import AccessDenied, DataError
from seepage.core.guess import Guess, Reconstruction
from seepage.core.knowledge import GradientKnowledge
from seepage.core.records import Records
from seepage.core.scorer import Controls, Scored
from seepage.core.secrets import GradientSecret, Secret
from seepage.core.seeds import stream
from seepage.core.spec import InputSpec
from seepage.core.target import Target
from seepage.core.victim import Update, Updates
from seepage.core.vocabulary import Access, Leak
from seepage.scoring import controls as against
from seepage.testing.cases import smooth_pictures
from seepage.testing.contracts import check_attack

CLIENTS, CLASSES, SIDE = 12, 10, 8


class LinearLayer(GradientAttack):
    """Divides the weight gradient by the bias gradient, in the row where that is greatest or (`least`) smallest."""

    name: ClassVar[str] = "linear-layer"
    title: ClassVar[str] = "Linear layer, exactly"
    needs: ClassVar[frozenset[Access]] = frozenset({Access.UPDATES})
    cites: ClassVar[tuple[str, ...]] = (
        "Phong, Aono, Hayashi, Wang, Moriai, 2017, Privacy-preserving deep learning: revisited and enhanced, ATIS",
    )

    least: bool = False

    def cost(self, knowledge: GradientKnowledge, budget: int | None) -> int:
        return knowledge.clients

    def run(self, target: Target, knowledge: GradientKnowledge, rng: np.random.Generator) -> Reconstruction:
        updates = [target.update(client) for client in range(knowledge.clients)]
        rows, labels = [], []
        for update in updates:
            weight, bias = update.tensors["weight"], update.tensors["bias"]
            row = np.abs(bias).argmin() if self.least else np.abs(bias).argmax()
            rows.append(weight[row] / bias[row])
            labels.append(bias.argmin())
        x = knowledge.spec.bounds.clip(np.stack(rows)).reshape(-1, *knowledge.spec.shape)
        return Reconstruction(x, np.array(labels), client=np.arange(len(updates)))


def score(guess: Guess, secret: Secret, controls: Controls) -> Scored:
    """The share of clients whose record is recovered to within 1/1000 of the range in every pixel."""
    assert isinstance(secret, GradientSecret)
    client = secret.client
    assert client is not None
    batch = secret.batch

    def measure(one: Guess) -> against.UnitMean:
        assert isinstance(one, Reconstruction)
        theirs = np.arange(len(one.x)) if one.client is None else one.client
        near = [np.abs(one.x[theirs == c] - batch.x[client == c]).max() < 1e-3 for c in np.unique(client)]
        return against.UnitMean(np.array(near, dtype=float), np.unique(client))

    made = against.score(
        "recovered",
        "records recovered",
        measure(guess),
        against.Against(
            chance=0.0,
            no_model={name: measure(one) for name, one in controls.no_model.items()},
            null_model=None if controls.null_model is None else measure(controls.null_model),
            missing=controls.missing,
        ),
        n=len(np.unique(client)),
        unit="client",
        method="Wilson over clients",
    )
    return Scored({"recovered": made}, "recovered")


def sent(records: Records, weight: np.ndarray, bias: np.ndarray) -> Updates:
    """What clients with one record each send: the gradient of the cross-entropy of a linear classifier."""
    updates = []
    for x, y in zip(records.x.reshape(len(records), -1), records.labels(), strict=True):
        off = softmax(weight @ x + bias) - np.eye(CLASSES)[y]
        gradient = {"weight": np.outer(off, x).astype(np.float32), "bias": off.astype(np.float32)}
        updates.append(Update(gradient, "gradient"))
    return Updates(tuple(updates))


def gradient_case(seed: int) -> Case:
    rng = stream(seed, "gradient proof")
    weight, bias = rng.normal(scale=0.3, size=(CLASSES, SIDE * SIDE)), rng.normal(scale=0.1, size=CLASSES)

    def drawn() -> Records:
        return Records(smooth_pictures(CLIENTS, rng, SIDE), rng.integers(CLASSES, size=CLIENTS), tuple("0123456789"))

    private, public = drawn(), drawn()
    mean = np.repeat(public.x.mean(axis=0, keepdims=True), CLIENTS, axis=0)
    return Case(
        leak=Leak.GRADIENT,
        name="linear layer",
        victim=sent(private, weight, bias),
        null=sent(drawn(), weight, bias),
        knowledge=GradientKnowledge(
            public=public,
            spec=InputSpec((1, SIDE, SIDE)),
            clients=CLIENTS,
            assumptions=Assumptions(batch=Rung.known(1)),
        ),
        secret=GradientSecret(batch=private, client=np.arange(CLIENTS)),
        baselines={"mean public record": Reconstruction(mean, client=np.arange(CLIENTS))},
        seed=seed,
    )


def test_the_input_is_recovered_exactly_and_nothing_else_explains_it() -> None:
    case = gradient_case(0)
    scored, target = played(case, LinearLayer(), score)
    found = scored.scores["recovered"]
    assert found.value == 1.0
    assert found.chance == 0.0
    assert found.controls["no_model"] is not None
    assert found.controls["no_model"].value == 0.0
    assert found.controls["null_model"] is not None
    assert found.controls["null_model"].value == 0.0
    assert found.leakage is not None
    assert found.leakage.low > 0.5
    assert target.queries == CLIENTS
    guess = LinearLayer().run(Target(case.victim, {Access.UPDATES}), case.knowledge, stream(0, "x"))
    assert isinstance(case.secret, GradientSecret)
    np.testing.assert_allclose(guess.x, case.secret.batch.x, atol=2e-6)
    assert guess.labels is not None
    np.testing.assert_array_equal(guess.labels, case.secret.batch.labels())


def test_the_row_matters() -> None:
    """From an update sent with two decimals, the row of the greatest bias gradient keeps what the smallest loses."""
    case = gradient_case(0)
    assert isinstance(case.secret, GradientSecret)
    assert isinstance(case.victim, Updates)
    coarse = []
    for update in case.victim.clients:
        tensors = {name: np.round(tensor, 2) for name, tensor in update.tensors.items()}
        tensors["bias"] = np.where(tensors["bias"] == 0, np.float32(0.01), tensors["bias"])
        coarse.append(replace(update, tensors=tensors))
    error = {}
    for least in (False, True):
        target = Target(Updates(tuple(coarse)), {Access.UPDATES})
        guess = LinearLayer(least=least).run(target, case.knowledge, stream(0, "row"))
        error[least] = np.abs(guess.x - case.secret.batch.x).max(axis=(1, 2, 3))
    assert error[False].max() < 0.02
    assert error[True].min() > 0.02


def test_noise_in_the_update_is_drawn_anew_for_every_client() -> None:
    case = gradient_case(0)
    defended = case.defended(NoisyUpdate(sigma=0.05))
    assert isinstance(defended.victim, Updates)
    assert isinstance(case.victim, Updates)
    noise = [
        noisy.tensors["weight"] - bare.tensors["weight"]
        for noisy, bare in zip(defended.victim.clients, case.victim.clients, strict=True)
    ]
    assert np.std([n.mean() for n in noise]) > 0
    assert abs(np.std(np.concatenate(noise)) - 0.05) < 0.005
    assert np.abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.2
    after = played(defended, LinearLayer(), score)[0].scores["recovered"]
    assert after.value == 0.0
    assert after.leakage is not None
    assert after.leakage.low <= 0
    assert defended.knowledge.defenses == (NoisyUpdate(sigma=0.05),)


def test_a_single_update_is_a_victim_too() -> None:
    case = gradient_case(0)
    assert isinstance(case.victim, Updates)
    one = case.victim.clients[3]
    target = Target(one, {Access.UPDATES}, budget=1)
    assert target.update() is one
    assert target.remaining == 0
    with pytest.raises(DataError, match="numbered 0 to 0"):
        target.update(1)
    with pytest.raises(AccessDenied, match="the victim offers updates"):
        Target(one, {Access.SCORES})


def test_the_attack_keeps_its_contracts() -> None:
    check_attack(LinearLayer, case=gradient_case)
