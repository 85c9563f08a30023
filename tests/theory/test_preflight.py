"""The pre-flight of updates: figures against closed forms, and each assumption made to fail on purpose."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from seepage.attacks.gradient.geiping2020 import InvertingGradients
from seepage.attacks.gradient.gradients import gradients_of
from seepage.attacks.gradient.phong2017 import LinearLayer
from seepage.audit.plan import Arm, Cell, Plan, Wanted
from seepage.audit.preflight import answer, diagnostics, preflight
from seepage.audit.sighted import Sighted
from seepage.audit.spectrum import grain, spectrum
from seepage.core.assumptions import Assumptions, Rung
from seepage.core.knowledge import GradientKnowledge
from seepage.core.outlook import Diagnostic
from seepage.core.secrets import GradientSecret, Secret
from seepage.core.spec import InputSpec
from seepage.core.target import Target
from seepage.core.victim import Update, Updates
from seepage.models.client_nets import client_net
from seepage.models.federated import ClientNet, LocalTraining, Mode
from seepage.testing.cases import gradient_case, smooth_pictures

RNG = np.random.default_rng


def sighted(
    net: str = "relu-mlp",
    records: int = 4,
    side: int = 8,
    channels: int = 1,
    classes: int = 6,
    labels: Any = None,
    local: LocalTraining | None = None,
    without: tuple[str, ...] = (),
    change: Callable[[np.ndarray], np.ndarray] | None = None,
    **options: int,
) -> Sighted:
    """One client's update with all that a server knows of it; `change` is done to every tensor."""
    rng, local = RNG(5), local or LocalTraining()
    spec = InputSpec((channels, side, side))
    made = ClientNet(client_net(net, spec.shape, classes, 3, **options), spec, classes)
    x = np.concatenate([smooth_pictures(records, rng, side) for _ in range(channels)], axis=1)
    y = np.arange(records) % classes if labels is None else np.asarray(labels)
    update = made.round(x, y, local, rng)
    if change is not None:
        update = replace(update, tensors={name: change(t) for name, t in update.tensors.items()})
    known: dict[str, Any] = {"batch": records, "steps": local.steps(records), "mode": local.mode}
    if local.kind == "delta":
        known |= {"rate": local.rate, "local_batch": local.batch or records, "epochs": local.epochs}
    ladder = Assumptions(**{name: Rung.known(value) for name, value in known.items()}).without(*without)
    knowledge = GradientKnowledge(spec=spec, net=made, classes=classes, assumptions=ladder)
    return Sighted(knowledge, (update,))


def seen(view: Sighted) -> dict[str, Diagnostic]:
    return {found.name: found for found in diagnostics(view)}


def fails(view: Sighted) -> set[str]:
    return {name for name, found in seen(view).items() if found.holds == "fails"}


# Figures


@pytest.mark.parametrize("rank", [1, 3, 17])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_rank_of_a_product_is_its_inner_side(rank: int, dtype: type) -> None:
    rng = RNG(rank)
    x = (rng.normal(size=(60, rank)) @ rng.normal(size=(rank, 90))).astype(dtype)
    assert spectrum(x, grain(x).noise).rank == rank


def test_rounding_to_half_precision_adds_no_rank() -> None:
    rng = RNG(0)
    x = (rng.normal(size=(80, 5)) @ rng.normal(size=(5, 90))).astype(np.float16).astype(np.float32)
    assert grain(x).name == "float16"
    assert spectrum(x, grain(x).noise).rank == 5
    # Without the floor that half precision sets, rounding would pass for directions.
    assert spectrum(x).rank == 80


def test_noise_well_above_rounding_is_full_rank() -> None:
    x = RNG(1).normal(size=(40, 70)).astype(np.float32)
    found = spectrum(x, grain(x).noise)
    assert found.full
    assert found.beyond(0) == pytest.approx(1.0)


def test_a_matrix_too_wide_to_decompose_keeps_its_rank() -> None:
    rng = RNG(2)
    x = (rng.normal(size=(1500, 9)) @ rng.normal(size=(9, 1400))).astype(np.float32)
    assert spectrum(x, grain(x).noise).rank == 9


def test_formats_are_told_by_the_values() -> None:
    x = RNG(3).normal(size=4000)
    single = x.astype(np.float32)
    as_bf16 = torch.from_numpy(single).bfloat16().float().numpy()
    step = float(np.abs(single).max()) / 127
    told = {
        "float64": x,
        "float32": single,
        "float16": single.astype(np.float16).astype(np.float32),
        "bfloat16": as_bf16,
        "8-bit steps": (np.round(single / step) * step).astype(np.float32),
        "4-bit steps": (np.clip(np.round(single), -3, 4) / 3).astype(np.float32),
        "signs": np.sign(single),
    }
    found = {name: grain(values).name for name, values in told.items()}
    assert found["4-bit steps"] == "3-bit steps"  # eight levels
    assert {name: kind for name, kind in found.items() if name != "4-bit steps"} == {
        name: name for name in told if name != "4-bit steps"
    }


def test_several_steps_of_sgd_keep_the_rank_at_the_records() -> None:
    view = sighted(records=5, local=LocalTraining("delta", 2, 3, 0.05))
    assert view.directions is not None
    assert view.directions.rank == 5


def test_the_gradient_turns_more_the_further_the_weights_move() -> None:
    near, far = (sighted(local=LocalTraining("delta", 2, 4, rate)).turned() for rate in (1e-4, 0.3))
    assert near is not None
    assert far is not None
    assert near < 1 < 20 < far


# A clean update, and each assumption broken


def test_a_clean_gradient_fails_nothing() -> None:
    assert fails(sighted()) == set()


def test_steps_that_turn_the_gradient_fail_and_small_ones_do_not() -> None:
    assert "local steps" in fails(sighted(local=LocalTraining("delta", 1, 5, 0.3)))
    assert fails(sighted(local=LocalTraining("delta", 2, 2, 1e-3))) == set()


def test_a_missing_rate_says_what_can_still_be_tried() -> None:
    found = seen(sighted(local=LocalTraining("delta", 2, 2, 1e-3), without=("rate",)))["learning rate"]
    assert found.holds == "unknown"
    assert "division" in found.means
    assert "cosine" in found.means


def test_batch_normalisation_counts_in_train_mode_only() -> None:
    assert "batch normalisation" in fails(sighted("cnn", side=16))
    assert "batch normalisation" not in fails(sighted("cnn", side=16, local=LocalTraining(mode="eval")))
    found = seen(sighted("cnn", side=16, without=("mode",)))["batch normalisation"]
    assert found.holds == "unknown"


def test_dropout_counts_in_train_mode_only() -> None:
    assert "dropout" in fails(sighted("cnn", side=16))
    assert seen(sighted("cnn", side=16, local=LocalTraining(mode="eval")))["dropout"].holds == "holds"
    assert seen(sighted("cnn", side=16, without=("mode",)))["dropout"].holds == "unknown"
    assert "dropout" not in seen(sighted("relu-cnn", side=16))


@pytest.mark.parametrize(("mode", "fits"), [("eval", True), ("train", False)])
def test_records_behind_dropout_do_not_make_their_own_update(mode: Mode, fits: bool) -> None:
    """What the pre-flight says: simulated without the client's draws, the true records are an angle off."""
    spec, rng = InputSpec((1, 16, 16)), RNG(5)
    net = ClientNet(client_net("cnn", spec.shape, 6, 3), spec, 6)
    x, y = smooth_pictures(4, rng, 16), np.arange(4)
    sent = net.round(x, y, LocalTraining(mode=mode), rng)
    simulate = gradients_of(net, mode)
    shown = net.prepare(torch.from_numpy(x).float())[None].requires_grad_(True)
    again = simulate(shown, torch.eye(6)[:4][None])[0].detach().numpy()
    flat = np.concatenate([sent.tensors[name].ravel() for name in net.weights()])
    angle = 1 - again @ flat / np.linalg.norm(again) / np.linalg.norm(flat)
    assert (angle < 1e-4) == fits
    known = Assumptions(batch=Rung.known(4), mode=Rung.known(mode), labels=Rung.known(y[None]))
    outlook = InvertingGradients().outlook(GradientKnowledge(spec=spec, net=net, classes=6, assumptions=known), sent)
    assert outlook is not None
    assert ("dropout" in outlook.why) != fits


def test_fewer_parameters_than_values() -> None:
    found = seen(sighted("relu-mlp", hidden=4, records=12))["equations"]
    assert found.holds == "fails"
    assert found.value is not None
    # At most 64 x 4 + 4 + 4 x 4 + 4 + 4 x 6 + 6 parameters for 12 x 64 values.
    assert found.value <= 310 / 768


def test_as_many_records_as_neurons() -> None:
    assert "rank" in fails(sighted(records=12, hidden=8))
    assert seen(sighted(records=4, hidden=40))["rank"].holds == "holds"


def test_a_convolution_in_front() -> None:
    found = seen(sighted("lenet-zhu", side=16))
    assert found["first layer"].holds == "fails"
    assert "convolution" in found["first layer"].found
    assert "rank" not in found


def _noisy(t: np.ndarray) -> np.ndarray:
    return (t + RNG(9).normal(scale=0.3 * t.std() + 1e-9, size=t.shape)).astype(np.float32)


def _top(t: np.ndarray) -> np.ndarray:
    return np.where(np.abs(t) >= np.quantile(np.abs(t), 0.95), t, 0).astype(np.float32)


def test_noise_sparsity_and_signs_are_seen() -> None:
    assert "noise" in fails(sighted(change=_noisy))
    assert "sparsity" in fails(sighted(change=_top))
    assert "precision" in fails(sighted(change=lambda t: np.sign(t).astype(np.float32)))


def test_half_precision_is_said_and_fails_nothing() -> None:
    view = sighted(change=lambda t: t.astype(np.float16))
    assert fails(view) == set()
    assert seen(view)["precision"].holds == "noted"
    assert view.directions is not None
    assert view.directions.rank == 4


def test_a_norm_clipped_to_a_round_number_is_noted() -> None:
    norm = float(sighted().norms[0])
    found = seen(sighted(change=lambda t: (t / norm).astype(np.float32)))["clipping"]
    assert found.holds == "noted"
    assert seen(sighted(change=lambda t: (t * 1.2345 / norm).astype(np.float32)))["clipping"].holds == "holds"


def test_another_loss_is_seen_in_the_last_bias() -> None:
    def squared(t: np.ndarray) -> np.ndarray:
        # Of a squared error the entries need not sum to zero.
        return (t + 0.1 * np.abs(t).max()).astype(np.float32) if t.shape == (6,) else t

    assert "loss" in fails(sighted(change=squared))
    assert seen(sighted())["loss"].holds == "holds"


def test_entries_as_small_as_rounding_say_nothing_of_the_loss() -> None:
    def sure(t: np.ndarray) -> np.ndarray:
        # Residuals of a model sure of its records: a few steps of the grid that softmax values near one lie on.
        return np.array([-3, 1, 0, 1, 0, 0], np.float32) * np.float32(2.0**-24) if t.shape == (6,) else t

    assert seen(sighted(change=sure))["loss"].holds == "unknown"
    loud = seen(sighted(change=lambda t: sure(t) * np.float32(2.0**12)))["loss"]
    assert loud.holds == "fails"


def test_repeated_labels() -> None:
    found = seen(sighted(labels=[1, 1, 1, 2]))["labels"]
    assert found.holds == "fails"
    assert found.value == 2


def test_a_broken_and_an_empty_update_are_named() -> None:
    view = sighted(change=lambda t: np.where(np.arange(t.size).reshape(t.shape) == 1, np.nan, t).astype(np.float32))
    assert view.broken == "'2.weight'"
    assert "finite values" in fails(view)
    assert "zero throughout" in seen(sighted(change=np.zeros_like))["size"].found


def test_a_stock_tutorial_app_is_told_which_assumptions_fail() -> None:
    """A small convolutional net on 32 x 32 colour pictures, batches of 32, some epochs."""
    view = sighted(
        "relu-cnn",
        32,
        32,
        3,
        classes=10,
        width=6,
        local=LocalTraining("delta", 8, 3, 0.1),
        labels=RNG(0).integers(10, size=32),
    )
    failing = fails(view)
    assert {"local steps", "equations", "first layer", "labels"} <= failing
    said = answer([], diagnostics(view))
    assert "the update is one gradient (12 steps of 8 records" in said
    assert "the update has as many numbers as the records have" in said


# The whole


def _plan(case: Any) -> Plan:
    attack = LinearLayer()
    cell = Cell("a", "k", attack, attack.title, Arm(), None, 1, frozenset(attack.needs))
    return Plan("p", (cell,), ())


def test_the_answer_names_what_can_be_expected() -> None:
    case = gradient_case(0)
    found = preflight(case, Arm(), _plan(case), [Wanted(LinearLayer())])
    assert found.answer.startswith("Perhaps: linear-layer may work.")
    (row,) = found.forecasts
    assert row.left_out is None
    assert row.outlook is not None
    assert row.outlook.prospect == "possible"


def test_several_steps_do_not_hide_records_from_division() -> None:
    """What the outlook says of several steps is so: rows that sum over steps are sums over the records still."""
    case = gradient_case(0, local=LocalTraining("delta", 1, 4, 0.05))
    found = preflight(case, Arm(), _plan(case), [Wanted(LinearLayer())])
    assert found.answer.startswith("Perhaps: linear-layer may work.")
    guess = LinearLayer().run(Target(case.victim, LinearLayer.needs), case.knowledge, RNG(0))
    assert isinstance(case.secret, GradientSecret)
    apart = np.abs(guess.x[:, None] - case.secret.batch.x[None]).max(axis=(2, 3, 4)).min(axis=0)
    assert (apart < 1e-2).mean() > 0.6


def test_nothing_is_expected_of_zeros_or_of_nan() -> None:
    case = gradient_case(0)
    assert isinstance(case.victim, Updates)
    for value in (0.0, np.nan):
        sent = tuple(
            Update({name: np.full_like(t, value) for name, t in u.tensors.items()}) for u in case.victim.clients
        )
        found = preflight(replace(case, victim=Updates(sent)), Arm(), _plan(case), [Wanted(LinearLayer())])
        assert found.answer.startswith("No:")
        assert found.failing
        (row,) = found.forecasts
        assert row.outlook is not None
        assert row.outlook.prospect == "impossible"


def test_the_pre_flight_does_not_look_at_the_secret() -> None:
    case = gradient_case(1)
    one = preflight(case, Arm(), _plan(case), [Wanted(LinearLayer())])
    other = preflight(replace(case, secret=Secret()), Arm(), _plan(case), [Wanted(LinearLayer())])
    assert one == other
