"""Cases, defended and poisoned; what stops an attack beforehand."""

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
from jaxtyping import Float

from seepage.core.attack import InversionAttack
from seepage.core.case import Case
from seepage.core.defense import OutputDefense, UpdateDefense
from seepage.core.errors import ConfigError, MissingExtra, SeepageError
from seepage.core.guess import Reconstruction
from seepage.core.knowledge import InversionKnowledge
from seepage.core.target import Target
from seepage.core.victim import Model, Update, Updates
from seepage.core.vocabulary import Access
from seepage.testing.cases import inversion_case
from seepage.testing.victims import ConstantVictim, TemplateVictim

CITES = ("Nobody, 2026, A test",)


class Stamp(OutputDefense):
    """Answers one distribution, drawn when it is put before a victim: a trace of the stream it was given."""

    name: ClassVar[str] = "stamp"
    title: ClassVar[str] = "Stamp"
    cites: ClassVar[tuple[str, ...]] = CITES

    def wrap(self, model: Model, rng: np.random.Generator) -> Model:
        return ConstantVictim(rng.dirichlet(np.ones(model.classes)), model.spec)


class Negate(UpdateDefense):
    """Turns every tensor round."""

    name: ClassVar[str] = "negate"
    title: ClassVar[str] = "Negate"
    cites: ClassVar[tuple[str, ...]] = CITES

    def apply(self, update: Update, rng: np.random.Generator) -> Update:
        return replace(update, tensors={name: -tensor for name, tensor in update.tensors.items()})


def stamp(victim: Any) -> Float[np.ndarray, " c"]:
    assert isinstance(victim, ConstantVictim)
    return victim.prior


class TestDefended:
    def test_victim_and_twin_are_defended_with_streams_of_their_own(self) -> None:
        case, again = inversion_case(0).defended(Stamp()), inversion_case(0).defended(Stamp())
        np.testing.assert_array_equal(stamp(case.victim), stamp(again.victim))
        assert not np.allclose(stamp(case.victim), stamp(case.null))
        other = replace(inversion_case(0), seed=1).defended(Stamp())
        assert not np.allclose(stamp(case.victim), stamp(other.victim))

    def test_the_bare_case_is_left_as_it_was(self) -> None:
        bare = inversion_case(0)
        bare.defended(Stamp())
        assert isinstance(bare.victim, TemplateVictim)
        assert bare.knowledge.defenses == ()

    def test_an_adversary_who_knows_trains_defended_models(self) -> None:
        case = inversion_case(0).defended(Stamp())
        assert case.adversary == "adaptive"
        assert case.knowledge.defenses == (Stamp(),)
        assert case.knowledge.recipe is not None
        assert isinstance(case.knowledge.recipe.fit(np.arange(40), 0), ConstantVictim)

    def test_an_adversary_who_does_not_know_trains_bare_ones(self) -> None:
        case = inversion_case(0).defended(Stamp(), aware=False)
        assert case.adversary == "unaware"
        assert case.knowledge.defenses == ()
        assert case.knowledge.recipe is not None
        assert isinstance(case.knowledge.recipe.fit(np.arange(40), 0), TemplateVictim)
        assert isinstance(case.victim, ConstantVictim)

    def test_what_is_known_about_the_twin_is_told_as_well(self) -> None:
        bare = inversion_case(0)
        assert isinstance(bare.knowledge, InversionKnowledge)
        fewer = replace(bare.knowledge, classes=np.arange(3))
        case = replace(bare, null_knowledge=fewer).defended(Stamp())
        assert case.null_knowledge is not None
        assert case.null_knowledge.defenses == (Stamp(),)
        assert isinstance(case.null_knowledge, InversionKnowledge)
        np.testing.assert_array_equal(case.null_knowledge.classes, np.arange(3))

    def test_a_case_without_a_twin_stays_without(self) -> None:
        assert replace(inversion_case(0), null=None, training=None).defended(Stamp()).null is None

    def test_secret_and_baselines_stay(self) -> None:
        bare = inversion_case(0)
        case = bare.defended(Stamp())
        assert case.secret is bare.secret
        assert case.baselines is bare.baselines

    def test_a_defense_of_something_else_says_so(self) -> None:
        with pytest.raises(ConfigError, match="'negate' does not act on a TemplateVictim"):
            inversion_case(0).defended(Negate())
        with pytest.raises(ConfigError, match="'stamp' does not act on a Update"):
            Stamp().on_victim(Update({}), np.random.default_rng(0))

    def test_updates_are_defended_one_by_one(self) -> None:
        sent = Updates(tuple(Update({"w": np.full(3, float(i))}) for i in range(3)))
        turned = Negate().on_victim(sent, np.random.default_rng(0))
        assert isinstance(turned, Updates)
        assert [float(u.tensors["w"][0]) for u in turned.clients] == [0.0, -1.0, -2.0]
        one = Negate().on_victim(sent.clients[2], np.random.default_rng(0))
        assert isinstance(one, Update)
        np.testing.assert_array_equal(one.tensors["w"], [-2.0] * 3)


class TestObstacles:
    class Asks(InversionAttack):
        """Asks ten questions a class."""

        name: ClassVar[str] = "asks"
        title: ClassVar[str] = "Asks"
        needs: ClassVar[frozenset[Access]] = frozenset({Access.LABELS})
        cites: ClassVar[tuple[str, ...]] = CITES
        needs_public: ClassVar[bool] = True

        def cost(self, knowledge: Any, budget: int | None) -> int:
            return 10 * len(knowledge.classes)

        def run(self, target: Target, knowledge: InversionKnowledge, rng: np.random.Generator) -> Reconstruction:
            raise NotImplementedError

    def knowledge(self, **changes: Any) -> InversionKnowledge:
        known = inversion_case(0).knowledge
        assert isinstance(known, InversionKnowledge)
        return replace(known, **changes)

    @pytest.mark.parametrize(("budget", "stopped"), [(None, False), (60, False), (59, True), (0, True)])
    def test_a_budget_below_the_cost(self, budget: int | None, stopped: bool) -> None:
        found = self.Asks().obstacle(self.knowledge(), budget)
        assert (found is not None) == stopped
        if found is not None:
            assert found == f"it asks 60 queries, and the budget is {budget}"

    def test_public_records_where_they_are_needed(self) -> None:
        public = self.knowledge().public
        assert public is not None
        for lacking in (None, public[:1]):
            assert "needs public records" in str(self.Asks().obstacle(self.knowledge(public=lacking), None))
        assert self.Asks().obstacle(self.knowledge(public=public[:2]), None) is None


def test_a_case_trains_what_it_was_trained_as() -> None:
    case = inversion_case(0)
    assert case.training is not None
    victim, null = case.training.fit()
    x = np.random.default_rng(0).random((3, 1, 12, 12)).astype(np.float32)
    for made, kept in ((victim, case.victim), (null, case.null)):
        assert isinstance(made, Model)
        assert isinstance(kept, Model)
        np.testing.assert_array_equal(made.predict(x), kept.predict(x))
    assert replace(case.training, null_members=None).fit()[1] is None


def test_a_missing_extra_says_what_to_install() -> None:
    error = MissingExtra("onnxruntime", "onnx", "reading an ONNX file")
    assert isinstance(error, SeepageError)
    assert "pip install 'seepage[onnx]'" in str(error)
    assert isinstance(inversion_case(0), Case)
