"""Where nothing leaks, statements at 5 % are wrong in 5 % at the most: bounds on epsilon, verdicts, flagged groups."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.stats import binom

from seepage.core.guess import Scores
from seepage.core.records import Records
from seepage.core.scorer import Controls
from seepage.core.secrets import MembershipSecret, Profile
from seepage.core.vocabulary import Modality
from seepage.scoring.membership import score

HERE = Path(__file__).parents[2] / "benchmarks" / "membership-calibration"


@pytest.fixture
def benchmark(monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(HERE))
    spec = importlib.util.spec_from_file_location("membership_calibration", HERE / "run.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("peers", None)


def _most(seeds: int, nominal: float = 0.05) -> int:
    """As many wrong statements as a test at the nominal level gives in 99 of 100 repetitions, at the most."""
    return int(binom.ppf(0.99, seeds, nominal))


def _hold(benchmark: ModuleType, seeds: int) -> None:
    names = [name for seed in range(seeds) for name in benchmark.wrong(seed)]
    seen = names.count("leak seen")
    for name in sorted(set(names) - {"leak seen"}):
        assert names.count(name) <= _most(seeds), name
    # A test that never speaks is never wrong.
    assert seen >= 0.9 * seeds


def test_statements_on_null_victims_are_seldom_wrong(benchmark):
    _hold(benchmark, 6)


@pytest.mark.slow
def test_statements_on_null_victims_are_wrong_no_more_often_than_they_say(benchmark):
    _hold(benchmark, 200)


def _grouped(rng: np.random.Generator, shift: float, n: int = 800) -> tuple[Scores, MembershipSecret]:
    """Four groups that leak alike; their scores lie `shift` apart."""
    group = rng.integers(0, 4, n)
    inside = rng.random(n) < 0.5
    records = Records(group[:, None].astype(np.float32), modality=Modality.TABLE, features=("ward",))
    values = rng.normal(size=n) + 0.8 * inside + shift * group
    wards = {"ward": tuple(map(str, group))}
    nothing = np.zeros(n, dtype=bool)
    seen = Profile(np.zeros(n), nothing, np.zeros(n, dtype=np.int64), nothing, wards)
    return Scores(values), MembershipSecret(is_member=inside, candidates=records, profile=seen)


@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_groups_that_leak_alike_are_not_flagged(shift):
    """Also where their scores differ: the AUC of all others together would lie below that within any of them."""
    rng, times = np.random.default_rng(97), 60
    flagged = 0
    for _ in range(times):
        guess, secret = _grouped(rng, shift)
        found = score(guess, secret, Controls())
        flagged += any(group.flagged for group in found.groups if group.axis == "ward")
    assert flagged <= _most(times)


def test_a_group_that_leaks_more_is_flagged_and_no_other():
    rng, times, hits, others = np.random.default_rng(98), 20, 0, 0
    for _ in range(times):
        guess, secret = _grouped(rng, 0.0)
        more = secret.candidates.x[:, 0] == 2
        found = score(Scores(guess.values + 1.2 * (more & secret.is_member)), secret, Controls())
        named = [group.name for group in found.groups if group.flagged]
        hits += "2" in named
        others += len(set(named) - {"2"})
    assert hits >= 0.9 * times
    assert others <= _most(times)


def test_a_group_is_not_flagged_for_what_its_control_does_as_well():
    rng = np.random.default_rng(99)
    guess, secret = _grouped(rng, 0.0)
    more = (secret.candidates.x[:, 0] == 2) & secret.is_member
    loud = guess.values + 1.5 * more
    without = score(Scores(loud), secret, Controls())
    blind = Scores(loud + 0.01 * rng.normal(size=len(loud)))
    beside = score(Scores(loud), secret, Controls(no_model={"date": blind}))
    assert [g.name for g in without.groups if g.flagged and g.axis == "ward"] == ["2"]
    assert not any(g.flagged for g in beside.groups)
