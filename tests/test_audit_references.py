"""Reference models of an audit: their design, their keeping, and what defenses make of them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import seepage
from seepage.attacks.membership.signals import log_confidence
from seepage.audit.asked import wanted_by
from seepage.audit.config import parse
from seepage.audit.halves import Public, halves
from seepage.audit.plan import everything
from seepage.audit.reference_checks import GOOD, SAME
from seepage.audit.references import DEFAULT, Shelf, models_for, references_of
from seepage.audit.tables import AttackTable
from seepage.audit.training import Trainer
from seepage.core.attack import MembershipAttack
from seepage.core.errors import ConfigError, ModelError
from seepage.core.guess import Scores
from seepage.core.knowledge import MembershipKnowledge
from seepage.core.recipe import Recipe
from seepage.core.records import Records, Splits
from seepage.core.references import References, ReferenceSource
from seepage.core.target import Target
from seepage.core.victim import Update
from seepage.core.vocabulary import Access, Leak, Modality
from seepage.defenses.outputs.rounding import Round
from seepage.targets import infer_spec, wrap

Array = np.ndarray


class Difference(MembershipAttack):
    """Log-confidence above that of the models that were not trained on the record."""

    name: ClassVar[str] = "difference"
    title: ClassVar[str] = "Difference to reference models"
    needs: ClassVar[frozenset[Access]] = frozenset({Access.SCORES})
    cites: ClassVar[tuple[str, ...]] = ("none",)
    needs_references: ClassVar[bool] = True

    def cost(self, knowledge: MembershipKnowledge, budget: int | None) -> int:
        return len(knowledge.candidates)

    def run(self, target: Target, knowledge: MembershipKnowledge, rng: np.random.Generator) -> Scores:
        assert knowledge.references is not None
        found, candidates = knowledge.references.get(), knowledge.candidates
        out = np.where(found.inside, 0.0, log_confidence(found.answers, candidates)).sum(axis=0)
        mine = log_confidence(target.scores(candidates.x), candidates)
        return Scores(mine - out / (~found.inside).sum(axis=0))


def _records(n: int, seed: int, classes: int = 3) -> Records:
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    x = (rng.normal(size=(n, 20)) * 0.25 + 0.1 * y[:, None] + 0.4).clip(0, 1).astype(np.float32)
    return Records(x, y, tuple("abc"[:classes]), modality=Modality.TABLE)


class Counted:
    """A trainer that says how often it was called, and remembers its records by heart."""

    def __init__(self) -> None:
        self.trained: list[int] = []

    def __call__(self, x: Array, y: Array, seed: int) -> Any:
        from sklearn.neighbors import KNeighborsClassifier

        self.trained.append(seed)
        return KNeighborsClassifier(n_neighbors=3).fit(x, y)


def _shelf(trainer: Trainer, candidates: Records, folder: Path | None, models: int = 4, **more: Any) -> Shelf:
    spec = infer_spec(candidates)
    return Shelf(
        recipe=trainer.recipe(spec, candidates, None),
        candidates=candidates,
        public=more.pop("public", Public()),
        spec=spec,
        size=more.pop("size", len(candidates) // 2),
        models=models,
        classes=len(candidates.class_names),
        seed=1,
        folder=folder,
        **{"identity": trainer.identity, **more},
    )


@pytest.mark.parametrize("n", [10, 11])
def test_every_candidate_is_in_half_of_the_models(n: int) -> None:
    inside = halves(n, 6, np.random.default_rng(0))
    assert (inside.sum(axis=0) == 3).all()
    assert set(inside.sum(axis=1)) <= {n // 2, n - n // 2}
    assert not np.array_equal(inside[0], inside[2])
    for odd in (0, 1, 5):
        with pytest.raises(ConfigError, match="even number, 2 or more"):
            halves(n, odd, np.random.default_rng(0))


def test_the_pair_of_a_model_goes_with_it() -> None:
    inside = halves(8, 6, np.random.default_rng(0))
    references = References(inside, np.zeros((6, 8, 2)))
    left = references.without_pair(3)
    assert len(left) == 4
    # With the partner alone, counts would tell what the missing model was trained on.
    assert (left.inside.sum(axis=0) == 2).all()
    with pytest.raises(Exception, match="complementary halves"):
        References(inside[1:5], np.zeros((4, 8, 2)))


def test_models_are_trained_once_and_read_back_after_a_break(tmp_path: Path) -> None:
    fit = Counted()
    trainer = replace(Trainer.of(fit), identity="counted")
    candidates = _records(40, 0)
    first = _shelf(trainer, candidates, tmp_path).get()
    assert len(fit.trained) == len(set(fit.trained)) == 4
    again = _shelf(trainer, candidates, tmp_path).get()
    assert len(fit.trained) == 4
    assert np.array_equal(first.answers, again.answers)
    (folder,) = tmp_path.iterdir()
    (folder / "2.npz").unlink()
    assert (folder / "3.npz").stat().st_mode & 0o777 == 0o600
    resumed = _shelf(trainer, candidates, tmp_path).get()
    assert len(fit.trained) == 5
    assert fit.trained[4] == fit.trained[2]
    assert np.array_equal(first.answers, resumed.answers)
    # Other records, another number of models, another recipe: other models.
    others = [
        _shelf(trainer, candidates[:38], tmp_path),
        _shelf(trainer, candidates, tmp_path, models=2),
        _shelf(replace(trainer, identity="other"), candidates, tmp_path),
    ]
    assert len({shelf.key for shelf in (*others, _shelf(trainer, candidates, tmp_path))}) == 4
    (folder / "1.npz").write_bytes(b"PK broken")
    with pytest.raises(Exception, match=r"1\.npz cannot be read .* delete it"):
        _shelf(trainer, candidates, tmp_path).get()


def test_a_recipe_that_cannot_be_told_apart_is_kept_in_memory_alone(tmp_path: Path) -> None:
    fit = Counted()
    shelf = _shelf(Trainer.of(fit), _records(40, 0), tmp_path)
    shelf.get()
    shelf.get()
    shelf.behind(Round(digits=1)).get()
    assert len(fit.trained) == 4
    assert list(tmp_path.iterdir()) == []


def test_each_model_knows_its_own_half() -> None:
    found = _shelf(Trainer.of(Counted()), _records(120, 0), None).get()
    sure = log_confidence(found.answers, _records(120, 0))
    assert sure[found.inside].mean() > sure[~found.inside].mean() + 0.05


def test_a_defense_of_answers_trains_nothing_anew() -> None:
    fit = Counted()
    shelf = _shelf(Trainer.of(fit), _records(40, 0), None)
    plain, rounded = shelf.get(), shelf.behind(Round(digits=0)).get()
    assert len(fit.trained) == 4
    assert set(np.unique(rounded.answers)) <= {0.0, 1.0}
    assert len(np.unique(plain.answers)) > 2


def test_public_records_fill_up_and_stand_aside() -> None:
    candidates, public = _records(60, 0), _records(400, 1)
    found = Public.of(public, candidates, wanted=50, seed=0)
    assert found.fill is not None
    assert found.population is not None
    assert len(found.fill) == 50
    assert len(found.population) == 350
    assert not {row.tobytes() for row in found.fill.x} & {row.tobytes() for row in found.population.x}
    fit = Counted()
    shelf = _shelf(Trainer.of(fit), candidates, None, public=found, size=80)
    told = shelf.get()
    assert told.population_answers is not None
    assert told.population_answers.shape == (4, 350, 3)
    # Public records with other classes, or without, or few: nobody's.
    assert Public.of(_records(400, 1, classes=2), candidates, 50, 0) == Public()
    assert Public.of(replace(public, y=None), candidates, 50, 0) == Public()
    few = Public.of(public[:30], candidates, 50, 0)
    assert few.population is None
    assert few.fill is not None
    assert len(few.fill) == 30


def test_a_class_that_a_half_lacks_gets_no_score() -> None:
    def fit(x: Array, y: Array, seed: int) -> Any:
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression().fit(x[y < 2], y[y < 2])

    found = _shelf(Trainer.of(fit), _records(40, 0), None).get()
    assert found.answers.shape[2] == 3
    assert (found.answers[..., 2] == 0).all()


def test_a_recipe_that_loses_a_class_says_so() -> None:
    def fit(x: Array, y: Array, seed: int) -> Any:
        import torch

        return torch.nn.Linear(20, 2)

    with pytest.raises(ModelError, match="one of 2 classes from half"):
        _shelf(Trainer.of(fit), _records(40, 0), None).get()


def _audit(tmp_path: Path, **more: Any) -> Any:
    fit = more.pop("fit", Counted())
    whole = _records(360, 0)
    members, nonmembers, public = whole[:120], whole[120:240], whole[240:]
    model = wrap(fit(members.x, members.labels(), 0), infer_spec(whole))
    options = {"recipe": fit, "attacks": [Difference()], "out": tmp_path, **more}
    return seepage.audit(model, members=members, nonmembers=nonmembers, public=public, **options)


def test_an_audit_with_references_finds_what_the_model_knows_by_heart(tmp_path: Path) -> None:
    record = _audit(tmp_path, references=4)
    score = record.findings[0].score
    assert record.findings[0].status == "done", record.findings[0].error
    assert score.value > 0.6
    assert record.verdict("membership") == "leaks"


def test_an_audit_trains_what_a_named_attack_needs_and_no_more(tmp_path: Path) -> None:
    fit = Counted()
    _audit(tmp_path, fit=fit)
    # The victim, its twin, the reference models, and one of them again.
    assert len(fit.trained) == 3 + DEFAULT
    plain = Counted()
    _audit(tmp_path, fit=plain, attacks={"name": "auto", "leak": "membership"}, budget=300)
    assert len(plain.trained) == 2
    assert models_for(None, everything(thorough=False)) == 0
    assert models_for(0, everything(thorough=True)) == 0


def test_what_cannot_be_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="even number of models"):
        _audit(tmp_path, references=3)
    with pytest.raises(ConfigError, match="trained by a recipe"):
        _audit(tmp_path, references=4, recipe=None)
    with pytest.raises(ConfigError, match="reference models: give a recipe"):
        _audit(tmp_path, recipe=None)
    splits = Splits(_records(10, 0), _records(10, 1))
    with pytest.raises(ConfigError, match="take 4"):
        references_of(Trainer.of(Counted()), infer_spec(splits), splits, 3, 0, tmp_path)


def test_fit_many_trains_one_after_the_other_where_nothing_is_faster() -> None:
    asked: list[tuple[int, int]] = []

    def train(records: Records, seed: int) -> Update:
        asked.append((len(records), seed))
        return Update({"seed": np.array([seed])})

    recipe = Recipe(train, _records(10, 0))
    subsets: Sequence[Array] = [np.arange(3), np.arange(7)]
    made = recipe.fit_many(subsets, [5, 6])
    assert [int(one.tensors["seed"][0]) for one in made if isinstance(one, Update)] == [5, 6]
    assert asked == [(3, 5), (7, 6)]
    with pytest.raises(ValueError, match="as many seeds"):
        recipe.fit_many(subsets, [5])
    many = replace(recipe, many=lambda records, seeds: [train(part, 0) for part in records])
    assert len(many.fit_many(subsets, [5, 6])) == 2
    assert asked[2:] == [(3, 0), (7, 0)]


def test_a_shelf_is_a_source() -> None:
    assert isinstance(_shelf(Trainer.of(Counted()), _records(10, 0), None), ReferenceSource)


def test_references_are_held_against_the_victim(tmp_path: Path) -> None:
    record = _audit(tmp_path, references=4)
    (good,) = [check for check in record.checks if check.name == GOOD]
    assert good.passed
    assert "trained on 120 records each (the victim on 120)" in good.message
    (same,) = [check for check in record.checks if check.name == SAME]
    assert same.passed

    def forgetful(x: Array, y: Array, seed: int) -> Any:
        from sklearn.dummy import DummyClassifier

        return DummyClassifier().fit(x, y)

    record = _audit(tmp_path / "weak", references=4, recipe=forgetful)
    (good,) = [check for check in record.checks if check.name == GOOD]
    assert not good.passed
    assert "fall short of what it was trained on" in good.message


def test_a_recipe_that_does_not_follow_its_seed_is_told(tmp_path: Path) -> None:
    drawn = iter(range(100))

    def fit(x: Array, y: Array, seed: int) -> Any:
        from sklearn.tree import DecisionTreeClassifier

        return DecisionTreeClassifier(max_features=1, random_state=next(drawn)).fit(x, y)

    record = _audit(tmp_path, references=2, fit=fit)
    (same,) = [check for check in record.checks if check.name == SAME]
    assert not same.passed
    assert "trained twice on the same records under the same seed" in same.message


def test_auto_can_be_of_one_leak() -> None:
    found = wanted_by(AttackTable(name="auto", leak=Leak.MEMBERSHIP))
    assert {want.attack.leak for want in found} == {Leak.MEMBERSHIP}
    with pytest.raises(ConfigError, match="takes no leak"):
        wanted_by(AttackTable(name="threshold", leak=Leak.MEMBERSHIP))
    with pytest.raises(ConfigError, match="no attack on the leak 'stealing' yet"):
        wanted_by(AttackTable(name="all", leak=Leak.STEALING))


def test_groups_and_references_are_of_classifiers() -> None:
    whole = {"victim": {"kind": "federated"}, "data": {"builtin": "att-faces"}}
    with pytest.raises(ConfigError, match=r"groups of records of a classifier, not of \[victim\] kind = \"federated\""):
        parse({**whole, "report": {"groups": ["sex"]}}, "file")
    with pytest.raises(ConfigError, match=r"\[references\] trains models like the victim: give a \[recipe\]"):
        parse({**whole, "references": {"models": 4}}, "file")
