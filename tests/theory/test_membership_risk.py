"""Who is at risk: groups, reasons, and how leakage varies, where the truth is known."""

import numpy as np
import pytest

from seepage.core.errors import ConfigError, DataError
from seepage.core.guess import Scores
from seepage.core.records import Records
from seepage.core.scorer import Controls
from seepage.core.secrets import MembershipSecret, Profile
from seepage.core.vocabulary import Modality
from seepage.data.profile import column_groups, profile
from seepage.scoring.membership import score
from seepage.scoring.membership_groups import groups
from seepage.scoring.membership_records import FAR

Array = np.ndarray


def _plain(n: int, axes: dict[str, tuple[str, ...]]) -> Profile:
    return Profile(np.zeros(n), np.zeros(n, dtype=bool), np.zeros(n, dtype=int), np.zeros(n, dtype=bool), axes)


def _halves(n: int, rng: np.random.Generator) -> Array:
    return rng.permutation(n) < n // 2


def test_the_group_that_leaks_more_is_flagged_and_no_other() -> None:
    rng = np.random.default_rng(0)
    n = 4000
    names = np.array(["a", "b", "c", "d"])[rng.integers(4, size=n)]
    member = _halves(n, rng)
    values = rng.normal(size=n) + 0.2 * member + 0.8 * member * (names == "c")
    found = groups(values, member, _plain(n, {"axis": tuple(names)}))
    assert [group.name for group in found if group.flagged] == ["c"]
    (leaking,) = [group for group in found if group.flagged]
    assert leaking.auc is not None
    assert leaking.auc.low > (leaking.rest or 0)
    assert leaking.found is not None
    assert (leaking.p_value or 1) < 1e-6


def test_groups_are_flagged_no_more_often_than_said() -> None:
    """Without leakage, and with the same leakage in all, though groups differ in size and in difficulty."""
    for gap in (0.0, 0.7):
        flagged = 0
        for seed in range(200):
            rng = np.random.default_rng(seed)
            n = 400
            names = np.array(list("abcdef"))[rng.choice(6, size=n, p=[0.4, 0.25, 0.15, 0.1, 0.05, 0.05])]
            member = _halves(n, rng)
            # Difficulty of a group shifts the scores of all its records.
            shift = {name: i * 0.5 for i, name in enumerate("abcdef")}
            values = rng.normal(size=n) + gap * member + np.array([shift[name] for name in names])
            flagged += any(group.flagged for group in groups(values, member, _plain(n, {"axis": tuple(names)})))
        # 10 are to be expected at the most; 20 or more would come once in four hundred times.
        assert flagged < 20, gap


def test_a_small_group_is_not_estimated() -> None:
    rng = np.random.default_rng(0)
    names = ("few",) * 20 + ("many",) * 180
    found = {g.name: g for g in groups(rng.normal(size=200), _halves(200, rng), _plain(200, {"axis": names}))}
    assert found["few"].auc is None
    assert "15 members and 15 non-members" in (found["few"].reason or "")
    assert found["many"].auc is not None
    assert found["many"].p_value is None
    assert "no other group large enough" in (found["many"].reason or "")


def _table(n: int = 300) -> Records:
    rng = np.random.default_rng(1)
    y = (np.arange(n) % 10 == 0).astype(np.int64)
    x = rng.normal(size=(n, 4)).astype(np.float32) * 0.1 + y[:, None]
    sex = rng.integers(2, size=n)
    x = np.column_stack([x, sex, 1 - sex, rng.integers(3, size=n)]).astype(np.float32)
    names = ("a", "b", "c", "d", "sex=f", "sex=m", "children")
    return Records(x, y, ("usual", "small"), modality=Modality.TABLE, features=names)


def test_what_makes_a_record_stand_out_is_found() -> None:
    records = _table()
    x = records.x.copy()
    x[7, :4] += 5.0  # an outlier of its class
    x[20] = x[40] = x[1]  # copies
    x[30, :4] = 0.0  # of the small class, among the usual one
    changed = Records(x, records.y, records.class_names, modality=Modality.TABLE, features=records.features)
    found = profile(changed, ["sex", "children"])
    assert found.outlier[7] >= FAR
    assert found.outlier.min() == 0
    assert found.copies[[1, 20, 40]].tolist()[0] == found.copies[1] >= 1
    assert found.stranger[30]
    assert found.stranger.mean() < 0.05
    assert found.small_class.sum() == 30
    assert set(found.groups) == {"class", "rarity", "sex", "children"}
    assert set(found.groups["sex"]) == {"f", "m"}
    assert set(found.groups["children"]) == {"0", "1", "2"}
    counts = [found.groups["rarity"].count(name) for name in set(found.groups["rarity"])]
    assert min(counts) == max(counts) == 30


def test_columns_that_make_no_groups() -> None:
    records = _table()
    with pytest.raises(ConfigError, match="no column 'sexx': did you mean 'sex'"):
        column_groups(records, "sexx")
    with pytest.raises(ConfigError, match="have no columns"):
        column_groups(Records(records.x, records.y, modality=Modality.TABLE), "sex")
    quarters = column_groups(records, "a")
    assert len(set(quarters)) == 4
    assert all(" to " in name for name in quarters)


def test_reasons_and_memorisation_stand_with_the_exposed() -> None:
    records = _table()
    rng = np.random.default_rng(3)
    member = _halves(len(records), rng)
    first = int(np.nonzero(member)[0][0])
    values = rng.normal(size=len(records))
    values[first] = 10.0
    told = np.tile([0.1, 0.0, 0.2], (len(records), 1))
    told[first] = [0.6, 0.5, 0.7]
    seen = profile(records)
    seen.stranger[first] = True
    secret = MembershipSecret(is_member=member, candidates=records, profile=seen)
    found = score(Scores(values, trace={"memorisation": told}), secret, Controls())
    top = found.exposed[0]
    assert top.id == records.ids[first]
    assert top.memorised is not None
    assert (top.memorised.value, top.memorised.low, top.memorised.high) == (0.6, 0.5, 0.7)
    assert any("mislabelled" in reason for reason in top.reasons)
    assert found.curves["exposure"].shape == (int(member.sum()),)
    assert found.curves["memorised"].shape == (int(member.sum()), 3)
    with pytest.raises(DataError, match="value, low and high of 300"):
        score(Scores(values, trace={"memorisation": told[:5]}), secret, Controls())


def test_the_spread_over_targets_holds_the_mean() -> None:
    """Student's t over targets with scores of their own holds the true AUC as often as it says."""
    held, truth = 0, 0.6381631950841185  # Phi(.5 / sqrt 2)
    for seed in range(200):
        rng = np.random.default_rng(seed)
        inside = np.stack([_halves(200, rng) for _ in range(8)])
        scores = rng.normal(size=inside.shape) + 0.5 * inside
        secret = MembershipSecret(is_member=inside[0], candidates=_table(200))
        trace = {"target_scores": scores, "target_inside": inside}
        spread = score(Scores(scores[0], trace=trace), secret, Controls()).spread
        auc, rate = spread
        assert (auc.score, rate.score) == ("auc", "tpr_at_fpr_1")
        assert auc.targets == 8
        assert auc.least <= auc.mean.value <= auc.most
        held += auc.mean.low <= truth <= auc.mean.high
    assert 180 <= held <= 199
