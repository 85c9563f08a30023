"""What an audit does with inversion: several budgets, answers cut to the top few, priors that are brought along."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import seepage
from seepage.audit.asked import wanted_by
from seepage.audit.config import parse
from seepage.audit.priors import KNOWS, from_python, from_table, wanted
from seepage.audit.records import packages
from seepage.cases import inversion
from seepage.cases.world import World
from seepage.core import code
from seepage.core.attack import scores_or_top_k
from seepage.core.errors import ConfigError
from seepage.core.recipe import Recipe
from seepage.core.records import Records
from seepage.core.registry import attack_class
from seepage.core.seeds import stream
from seepage.core.spec import InputSpec
from seepage.core.target import Target
from seepage.core.vocabulary import Access, Modality
from seepage.data import load_builtin, split_identities
from seepage.defenses.outputs.topk import TopK
from seepage.models.priors import OwnPrior, PCAPrior, Shelf, own_prior, trained_on_private
from seepage.models.priors.artefact import card_of, save
from seepage.testing.victims import TemplateVictim

SPEC = InputSpec((1, 8, 8))


@pytest.fixture(scope="module")
def digits() -> Any:
    return split_identities(load_builtin("digits"), private=5, members_per_class=20, seed=1)


def _content(**attack: Any) -> dict[str, Any]:
    return {
        "victim": {"kind": "recipe"},
        "data": {"builtin": "digits"},
        "recipe": {"fit": "softmax"},
        "attack": [{"name": "nes", **attack}],
    }


# --- budgets


def test_budgets_play_an_attack_once_for_each() -> None:
    table = parse(_content(budgets=[500, 2000, 500]), "here").attack[0]
    assert [want.budget for want in wanted_by(table)] == [500, 2000]


def test_budget_and_budgets_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match=r"budget .one. or budgets"):
        parse(_content(budget=10, budgets=[20]), "here")
    with pytest.raises(ConfigError, match="greater than or equal to 1"):
        parse(_content(budgets=[0]), "here")


def test_all_asks_for_the_thorough_ones_too_and_auto_says_what_it_leaves_out() -> None:
    auto, every = (parse({**_content(), "attack": [{"name": n}]}, "here").attack[0] for n in ("auto", "all"))
    skipped = {want.attack.name for want in wanted_by(auto) if want.skipped}
    assert {"ked-mi", "plg-mi", "diff-mi"} <= skipped
    assert skipped == {want.attack.name for want in wanted_by(auto) if want.attack.thorough}
    assert not any(want.skipped for want in wanted_by(every))
    assert len(wanted_by(auto)) == len(wanted_by(every))


# --- the top k


def test_an_adversary_granted_the_top_k_sees_no_more() -> None:
    rng = stream(0, "top k")
    victim = TemplateVictim(rng.random((9, 1, 4, 4)))
    x = rng.random((30, 1, 4, 4)).astype(np.float32)
    target = Target(victim, {Access.TOP_K}, most=3)
    rows, whole = target.answers(x), victim.predict(x)
    assert ((rows > 0).sum(axis=1) == 3).all()
    np.testing.assert_array_equal(rows[rows > 0], np.where(rows > 0, whole, 0)[rows > 0])
    assert (rows.max(axis=1) == whole.max(axis=1)).all()
    assert target.top_k(x, 9)[0].shape == (30, 3)
    assert target.queries == 60
    np.testing.assert_array_equal(Target(victim, {Access.SCORES}, most=3).answers(x), whole)


def test_captured_answers_are_cut_alike_and_cost_nothing() -> None:
    rng = stream(1, "top k")
    victim = TemplateVictim(rng.random((9, 1, 4, 4)))
    x = rng.random((7, 1, 4, 4)).astype(np.float32)
    target = Target(victim, {Access.TOP_K}, most=2, captured=x)
    rows = target.captured_answers()
    assert ((rows > 0).sum(axis=1) == 2).all()
    np.testing.assert_array_equal(rows, Target(victim, {Access.TOP_K}, most=2).answers(x))
    assert target.queries == 0


@pytest.mark.parametrize("name", ["nes", "cma-es", "mirror", "composite", "inverse-surrogate", "inversion-network"])
def test_attacks_on_scores_can_do_with_the_top_k(name: str) -> None:
    attack = attack_class(name)()
    everything = frozenset({Access.SCORES, Access.TOP_K, Access.LABELS})
    assert attack.opens(everything) == attack.needs == {Access.SCORES}
    assert attack.opens(everything - {Access.SCORES}) == {Access.TOP_K}
    assert attack.opens(frozenset({Access.LABELS})) == {Access.SCORES}
    assert scores_or_top_k(everything) == {Access.SCORES}


def test_an_audit_that_grants_the_top_k_opens_it_alone(digits: Any, tmp_path: Path) -> None:
    victim = TemplateVictim(np.stack([digits.members.of_class(c).x.mean(axis=0) for c in range(5)]))
    record = seepage.audit(
        victim,
        members=digits.members,
        nonmembers=digits.nonmembers,
        public=digits.public,
        access="top_k",
        top_k=2,
        attacks=[{"name": "nes", "queries_per_class": 60}],
        out=tmp_path,
    )
    (finding,) = record.findings
    assert finding.status == "done", finding.error
    assert finding.needs == [Access.TOP_K]
    assert set(finding.access) == {Access.TOP_K, Access.LABELS}
    with pytest.raises(ConfigError, match="top_k"):
        seepage.audit(victim, members=digits.members, top_k=0, out=tmp_path)


def test_the_limit_holds_for_what_was_granted_and_not_behind_a_defense_that_gives_more() -> None:
    rng = stream(2, "top k")
    victim = TemplateVictim(rng.random((9, 1, 4, 4)))
    x = rng.random((5, 1, 4, 4)).astype(np.float32)
    behind = TopK(k=7).wrap(victim, rng)
    assert ((Target(behind, {Access.TOP_K}).answers(x) > 0).sum(axis=1) == 7).all()
    assert ((Target(behind, {Access.TOP_K}, most=2).answers(x) > 0).sum(axis=1) == 2).all()


def test_a_captured_answer_is_the_same_however_often_it_is_looked_at() -> None:
    class Noisy(TemplateVictim):
        asked = 0

        def predict(self, x: np.ndarray) -> np.ndarray:
            Noisy.asked += 1
            return np.random.default_rng(Noisy.asked).dirichlet(np.ones(9), size=len(x))

    rng = stream(3, "captured")
    captured = rng.random((4, 1, 4, 4)).astype(np.float32)
    target = Target(Noisy(rng.random((9, 1, 4, 4))), {Access.SCORES}, captured=captured)
    first = target.captured_scores()
    np.testing.assert_array_equal(first, target.captured_scores())
    assert Noisy.asked == 1
    first[:] = 0
    assert target.captured_scores().any()


def test_kept_findings_are_not_used_after_the_code_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "seepage"
    for folder in ("core", "models"):
        (package / folder).mkdir(parents=True)
    (package / "models" / "a.py").write_text("x = 1\n")
    monkeypatch.setattr(code, "__file__", str(package / "core" / "code.py"))
    code.code_digest.cache_clear()
    before = code.code_digest("models")
    (package / "models" / "a.py").write_text("x = 2\n")
    code.code_digest.cache_clear()
    assert code.code_digest("models") != before
    monkeypatch.undo()
    code.code_digest.cache_clear()
    assert len(packages()["code"]) == 64


def test_the_twin_is_asked_only_about_classes_it_knows(digits: Any) -> None:
    """Public records of the same classes of which one is missing: the twin's answer for it would be noise."""
    public = digits.nonmembers[digits.nonmembers.labels() != 2]

    def trained(records: Records, seed: int) -> TemplateVictim:
        y = records.labels()
        return TemplateVictim(
            np.stack([records.x[y == c].mean(axis=0) if (y == c).any() else records.x[0] for c in range(5)])
        )

    world = World(
        open_victim=lambda: trained(digits.members, 0),
        spec=SPEC,
        members=digits.members,
        nonmembers=digits.nonmembers,
        public=public,
        recipe=Recipe(trained, digits.members),
    )
    case = inversion.build(world)
    assert case.null_knowledge is not None
    np.testing.assert_array_equal(case.null_knowledge.classes, [0, 1, 3, 4])  # type: ignore[attr-defined]


def test_a_judge_of_held_out_members_never_meets_them_behind_captured_answers(digits: Any) -> None:
    world = World(
        open_victim=lambda: TemplateVictim(digits.members.x[:5]),
        spec=SPEC,
        members=digits.members,
        public=digits.public,
    )
    assert world.learned_by_judge.sum() == len(digits.members) // 2
    assert not world.learned_by_judge[inversion.captured_rows(world)].any()


# --- priors


def _artefact(records: Records, folder: Path, name: str) -> Path:
    prior = PCAPrior.fit(records.x, SPEC, components=20)
    return save(prior, card_of(prior, records, 0, {}, prior.facts), folder / name)


def test_a_prior_of_other_people_passes_and_one_of_the_private_ones_is_told_loudly(
    digits: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fair = from_python(_artefact(digits.public, tmp_path, "fair"), SPEC, tmp_path)
    found = fair.check(digits.members, digits.nonmembers, 0)
    assert found is not None
    assert found.passed, found.message
    guilty = from_python(_artefact(digits.members, tmp_path, "guilty"), SPEC, tmp_path)
    told = guilty.check(digits.members, digits.nonmembers, 0)
    assert told is not None
    assert not told.passed
    assert "PROBABLY TRAINED ON PRIVATE RECORDS" in told.message
    assert "PROBABLY TRAINED ON PRIVATE RECORDS" in caplog.text


def test_findings_by_a_guilty_prior_are_confounded_and_give_no_verdict(digits: Any, tmp_path: Path) -> None:
    victim = TemplateVictim(np.stack([digits.members.of_class(c).x.mean(axis=0) for c in range(5)]))
    record = seepage.audit(
        victim,
        members=digits.members,
        nonmembers=digits.nonmembers,
        public=digits.public,
        access="weights",
        attacks=[{"name": "latent", "prior": "own", "steps": 10}, {"name": "latent", "steps": 10}],
        prior=_artefact(digits.members, tmp_path, "guilty"),
        out=tmp_path / "runs",
    )
    own, plain = record.findings
    assert own.confounded is not None
    assert plain.confounded is None
    (check,) = [check for check in record.checks if check.name == KNOWS]
    assert not check.passed


def test_an_innocent_prior_of_a_narrow_table_is_not_accused() -> None:
    rng = stream(4, "narrow")
    spec = InputSpec((3,), modality=Modality.TABLE)
    parts = [Records(rng.random((n, 3), dtype=np.float32), modality=Modality.TABLE) for n in (100, 100, 200)]
    found = trained_on_private(PCAPrior.fit(parts[2].x, spec), parts[0], parts[1])
    assert found.near == 0
    assert not found.suspected


def test_a_generator_that_does_not_match_says_what_to_do() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(4, 100), torch.nn.Tanh(), torch.nn.Unflatten(1, (1, 10, 10)))
    with pytest.raises(ConfigError, match="resize"):
        own_prior(net, 4, SPEC, range=(-1, 1))
    small = torch.nn.Sequential(torch.nn.Linear(4, 64), torch.nn.Tanh(), torch.nn.Unflatten(1, (1, 8, 8)))
    with pytest.raises(ConfigError, match=r"range"):
        own_prior(small, 4, SPEC)
    assert isinstance(own_prior(small, 4, SPEC, range=(-1, 1)), OwnPrior)


def test_prior_tables_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"path .an artefact. or generator"):
        parse({**_content(), "prior": {}}, "here")
    with pytest.raises(ConfigError, match="size"):
        parse({**_content(), "prior": {"generator": "a:b"}}, "here")
    table = parse({**_content(), "prior": {"path": "nowhere.safetensors"}}, "here").prior
    with pytest.raises(ConfigError, match="nowhere"):
        from_table(table, SPEC, tmp_path, tmp_path)
    with pytest.raises(ConfigError, match="own_prior"):
        from_python(3, SPEC, tmp_path)


def test_priors_that_take_long_are_trained_before_the_attacks(digits: Any, tmp_path: Path) -> None:
    world = World(
        open_victim=lambda: TemplateVictim(digits.members.x[:5]),
        spec=SPEC,
        members=digits.members,
        nonmembers=digits.nonmembers,
        public=digits.public,
        priors=Shelf(tmp_path),
    )

    def kinds(*names: str) -> list[str]:
        return wanted([attack_class(name)() for name in names], world)

    assert kinds("latent", "nes", "threshold") == []
    assert kinds("gmi", "plug-and-play") == ["gan"]
    assert kinds("diff-mi", "if-gmi") == ["diffusion", "gan"]
