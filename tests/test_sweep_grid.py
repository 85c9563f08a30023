"""A sweep file: every value checked before anything runs, every combination a point."""

from pathlib import Path
from typing import Any

import pytest

from seepage.audit.api import setting_of_file
from seepage.audit.tables import SweepTraining
from seepage.core.errors import ConfigError
from seepage.scoring.stats import wilson
from seepage.sweep.costs import TrainedCost, at_the_start, cost_of, sent_bytes
from seepage.sweep.grid import defense_labels, grid_of_file

FILE = """
[victim]
kind = "federated"
net = "relu-mlp"
[data]
builtin = "digits"
split = "records"
[federated]
clients = 4
[[attack]]
name = "linear-layer"
"""
SWEEP = """
[sweep.axes]
"federated.records" = [1, 4]
federated.epochs = [1, 2, 3]
"federated.trained" = [0, 10]
[[sweep.defense]]
name = "gaussian-noise"
multiplier = [0.1, 1.0]
clip = [1.0, 2.0]
[[sweep.defense]]
name = "secure-aggregation"
[[defense]]
name = "sign"
"""


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "sweep.toml"
    path.write_text(FILE + text, encoding="utf-8")
    return path


def test_every_combination_is_a_point_and_every_strength_an_arm(tmp_path: Path) -> None:
    grid = grid_of_file(_file(tmp_path, SWEEP))
    assert [axis.key for axis in grid.axes] == ["federated.records", "federated.epochs", "federated.trained"]
    assert [axis.role for axis in grid.axes] == ["choice", "choice", "condition"]
    assert len({str(point.setting) for point in grid.points}) == 12
    assert grid.points[0].setting == {"federated.records": 1, "federated.epochs": 1, "federated.trained": 0}
    last = grid.points[-1].config.federated
    assert last is not None
    assert (last.records, last.epochs, last.trained, last.clients) == (4, 3, 10, 4)
    # None, sign, four kinds of noise, sums.
    assert len(grid.arms) == 7
    assert grid.rows == 84
    labels = defense_labels(grid.arms)
    assert labels[:3] == ["none", "sign", "gaussian-noise clip=1 multiplier=0.1"]
    assert len(set(labels)) == 7


def test_noise_is_told_the_rounds_that_are_trained_unless_the_file_says(tmp_path: Path) -> None:
    more = '[[sweep.defense]]\nname = "dp-sgd"\nrounds = 7\n[sweep.training]\nrounds = 33\n'
    grid = grid_of_file(_file(tmp_path, SWEEP + more))
    rounds = [arm.defense.model_dump().get("rounds") for arm in grid.arms if arm.defense is not None]
    assert rounds == [None, 33, 33, 33, 33, None, 7]


def test_settings_change_the_sweep_too(tmp_path: Path) -> None:
    grid = grid_of_file(_file(tmp_path, SWEEP), ["sweep.axes={'federated.records'=[2]}", "sweep.defense=[]"])
    assert [point.setting for point in grid.points] == [{"federated.records": 2}]
    assert len(grid.arms) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no [sweep]"),
        ("[sweep]\n", "neither axes nor defenses"),
        ("[sweep]\nmots = 3\n", "unknown key 'sweep.mots': did you mean 'most'"),
        ("[sweep.training]\nround = 3\n", "unknown key 'sweep.training.round': did you mean 'rounds'"),
        ("[sweep.training]\nrounds = -1\n", "sweep.training.rounds"),
        ('[sweep.axes]\n"federated.record" = [1]\n', "\"federated.record\": did you mean 'records'"),
        ('[sweep.axes]\n"records" = [1]\n', "\"records\": did you mean 'federated.records'"),
        ('[sweep.axes]\n"federatd.records" = [1]\n', "\"federatd.records\": did you mean 'federated'"),
        ('[sweep.axes]\n"federated" = [1]\n', 'unknown key "federated"'),
        ('[sweep.axes]\n"victim.nets" = ["cnn"]\n', "\"victim.nets\": did you mean 'net'"),
        ('[sweep.axes]\n"victim.kind" = ["torch"]\n', "cannot differ in it"),
        ('[sweep.axes]\n"seed.x" = [1]\n', "the seed is one number"),
        ('[sweep.axes]\n"defense.0.clip" = [1.0]\n', "[[sweep.defense]]"),
        ('[sweep.axes]\n"attack.0.passes" = [1]\n', "a attack is no axis"),
        ('[sweep.axes]\n"federated.records" = []\n', "the list is empty"),
        ('[sweep.axes]\n"federated.records" = 4\n', "a list of values was wanted, got 4"),
        ('[sweep.axes]\n"federated.records" = [4, 4]\n', "4 stands there 2 times"),
        ('[sweep.axes]\n"federated.records" = [1, "4"]\n', "a whole number was wanted, got '4'"),
        ('[sweep.axes]\n"federated.records" = [true]\n', "a whole number was wanted, got True"),
        ('[sweep.axes]\n"federated.records" = ["many"]\n', "federated.records"),
        ('[sweep.axes]\n"federated.records" = [0]\n', "greater than or equal to 1"),
        ('[sweep.axes]\n"federated.update" = ["weights"]\n', "federated.update"),
        ('[[sweep.defense]]\nname = "gausian-noise"\n', "did you mean 'gaussian-noise'"),
        ('[[sweep.defense]]\nname = "clip"\nnorm = []\n', "norm is an empty list"),
        ('[[sweep.defense]]\nname = "clip"\nnorms = [1.0]\n', "did you mean 'norm'"),
        ('[[sweep.defense]]\nname = "clip"\nnorm = [1.0, 1.0]\n', "stands there twice"),
        ('[[sweep.defense]]\nname = "clip"\nnorm = [-1.0]\n', "norm"),
        (
            "[sweep]\nmost = 10\n" + SWEEP.lstrip(),
            "84 points (2 x 3 x 2 x 7, defenses last, none included), more than the 10 allowed",
        ),
        (
            '[sweep.axes]\n"federated.records" = [' + ", ".join(map(str, range(1, 202))) + "]\n",
            "201 points (201 x 1, defenses last, none included), more than the 200 allowed",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        grid_of_file(_file(tmp_path, text))
    assert said in str(caught.value)


def test_another_kind_of_victim_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="kind = \"federated\" was wanted, got 'recipe'"):
        grid_of_file(_file(tmp_path, SWEEP), ["victim={kind='recipe'}", "recipe.fit=cnn"])


def test_an_audit_does_not_pass_over_a_sweep(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="run `seepage sweep"):
        setting_of_file(_file(tmp_path, SWEEP), out=tmp_path)


def test_the_model_before_the_first_round_is_trained_whatever_is_attacked(tmp_path: Path) -> None:
    grid = grid_of_file(_file(tmp_path, SWEEP))
    plain = [at_the_start(point.content, ["federated.trained"]) for point in grid.points]
    assert not any("trained" in content["federated"] for content in plain)
    assert all("attack" not in content for content in plain)
    # Two checkpoints share one training.
    assert len({str(content) for content in plain}) == len(grid.points) / 2


@pytest.mark.parametrize(
    ("facts", "wanted"),
    [
        ({}, 400.0),
        ({"bits_per_value": 16.0}, 200.0),
        ({"bits_per_value": 8.0}, 100 + 12.0),
        ({"bits_per_value": 1.0}, 13 + 12.0),
        ({"bits_per_value": 64.0}, 800.0),
        ({"share_of_values_sent": 0.105}, 11 * 8.0),
        ({"encrypted_bytes_a_client": 5000.0}, 5000.0),
        (None, None),
    ],
)
def test_bytes_follow_from_what_a_defense_states(facts: Any, wanted: float | None) -> None:
    assert sent_bytes(100, 3, facts)[0] == wanted


def _trained(hits: list[float], seconds: float = 0.002) -> TrainedCost:
    return TrainedCost(key="k", hits=hits, seconds=seconds, values=100, tensors=3, diverged=0, repeats=1)


def test_accuracy_has_its_interval_and_is_held_against_the_undefended_one_record_by_record() -> None:
    bare, mine = _trained([1.0] * 90 + [0.0] * 10), _trained([1.0] * 80 + [0.0] * 20, seconds=0.003)
    found = cost_of(mine, bare, {}, SweepTraining(), 10)
    wanted = wilson(80, 100)
    assert found.accuracy is not None
    assert (found.accuracy.low, found.accuracy.high) == pytest.approx((wanted.low, wanted.high))
    assert found.loss is not None
    assert found.loss.value == pytest.approx(0.1)
    # The same records go wrong, so that the difference is known better than of two samples apart.
    assert found.loss.low > 0.03
    assert found.seconds_ratio == pytest.approx(1.5)
    assert found.held_out == 100
    same = cost_of(bare, bare, {}, SweepTraining(), 10)
    assert same.loss is not None
    assert same.loss.low <= 0 <= same.loss.high


def test_a_guarantee_and_the_time_to_encrypt_are_those_the_defense_states() -> None:
    bare = _trained([1.0] * 9 + [0.0])
    facts = {"dp_epsilon": 6.0, "dp_delta": 1e-5, "dp_rounds": 60.0, "dp_unit": "client"}
    told = cost_of(bare, bare, facts, SweepTraining(), 10)
    assert (told.dp_epsilon, told.dp_delta, told.dp_rounds, told.dp_unit) == (6.0, 1e-5, 60, "client")
    none = cost_of(bare, bare, {**facts, "dp_epsilon": None, "dp_epsilon_missing": "none below"}, SweepTraining(), 10)
    assert none.dp_epsilon is None
    assert none.missing["dp_epsilon"] == "none below"
    sealed = {"encrypt_seconds_a_client": 0.07, "encrypted_bytes_a_client": 9.0}
    slow = cost_of(bare, bare, sealed, SweepTraining(), 10)
    assert slow.seconds_a_round == pytest.approx(0.072)
    assert slow.bytes_a_round == 9.0


def test_what_could_not_be_trained_is_missing_with_its_reason() -> None:
    found = cost_of("no members", _trained([1.0]), {"dp_delta": 1e-5, "dp_epsilon": 6.0}, SweepTraining(), 10)
    assert found.accuracy is None
    assert found.missing["accuracy"] == "no members"
    assert found.dp_epsilon == 6.0
    alone = cost_of(_trained([1.0]), "no members", {}, SweepTraining(), 10)
    assert alone.accuracy is not None
    assert alone.loss is None
