"""Attacks with reference models, on answers whose law is known."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import norm

from seepage.attacks.membership.brannvall2026 import StudentT, predictive
from seepage.attacks.membership.by_number import ByNumber
from seepage.attacks.membership.carlini2022 import LiRA
from seepage.attacks.membership.lassila2025 import BASE
from seepage.attacks.membership.reference import ReferenceAttack, Signals, grain, memorisation, resolved
from seepage.attacks.membership.shokri2017 import ShadowClassifier
from seepage.attacks.membership.zarifzadeh2024 import RMIA
from seepage.audit.halves import halves
from seepage.core.knowledge import MembershipKnowledge
from seepage.core.records import Records
from seepage.core.references import References, ReferenceSource
from seepage.core.spec import Bounds, InputSpec
from seepage.core.target import Target
from seepage.core.vocabulary import Access, Modality, Task

Array = np.ndarray
CLASSES = 3


def _records(n: int) -> Records:
    return Records(
        np.arange(n, dtype=np.float32)[:, None], np.arange(n) % CLASSES, tuple("abc"), modality=Modality.TABLE
    )


def _answers(phi: Array, records: Records) -> Array:
    """Scores with scaled confidence phi, the rest evenly spread."""
    own = 1 / (1 + np.exp(-phi))
    answers = np.repeat(((1 - own) / (CLASSES - 1))[..., None], CLASSES, axis=-1)
    np.put_along_axis(answers, np.broadcast_to(records.labels()[:, None], (*phi.shape, 1)), own[..., None], axis=-1)
    return answers


class Told:
    """Reference models that are there."""

    def __init__(self, references: References):
        self._references = references

    @property
    def models(self) -> int:
        return len(self._references)

    @property
    def population(self) -> Records | None:
        return self._references.population

    def get(self) -> References:
        return self._references

    def behind(self, defense: object) -> ReferenceSource:
        return self


class Victim:
    """Answers record i with row i of a table, and the population with the rows after that."""

    family = "table"
    offers = frozenset({Access.SCORES})
    classes = CLASSES

    def __init__(self, table: Array):
        self._table = table

    @property
    def spec(self) -> InputSpec:
        return InputSpec((1,), Bounds.of(0.0, float(len(self._table))), Modality.TABLE)

    def predict(self, x: Array) -> Array:
        return self._table[x[:, 0].astype(int)]


class Game:
    """Records of different difficulty, whose scaled confidence is normal: by `gap` higher where trained on."""

    def __init__(
        self, n: int = 2000, models: int = 32, gap: float = 1.0, people: int = 400, seed: int = 0, spread: float = 1.0
    ):
        rng = np.random.default_rng(seed)
        self.records, everyone = _records(n), _records(n + people)
        hard = rng.normal(scale=3.0, size=n)
        self.inside = halves(n, models, rng)
        self.member = rng.random(n) < 0.5
        widths = np.exp(rng.normal(scale=np.log(spread), size=n)) if spread > 1 else np.ones(n)

        def phi(inside: Array) -> Array:
            return hard + gap * inside + widths * rng.normal(size=inside.shape)

        theirs, mine = _answers(phi(self.inside), self.records), _answers(phi(self.member), self.records)
        population = everyone[np.arange(n, n + people)] if people else None
        people_hard = rng.normal(scale=3.0, size=people)
        told = None
        table = mine
        if population is not None:
            told = _answers(people_hard + rng.normal(size=(models, people)), population)
            table = np.concatenate([mine, _answers(people_hard + rng.normal(size=people), population)])
        self.references = References(self.inside, theirs, population, told)
        self.victim = Victim(table)
        self.knowledge = MembershipKnowledge(candidates=self.records, references=Told(self.references))

    def play(self, attack: ReferenceAttack):
        target = Target(self.victim, attack.needs, None)
        return attack.run(target, self.knowledge, np.random.default_rng(0))

    def auc(self, attack: ReferenceAttack) -> float:
        return auc(self.play(attack).values, self.member)


def auc(values: Array, member: Array) -> float:
    ranks = np.argsort(np.argsort(values)) + 1
    m = member.sum()
    return float((ranks[member].sum() - m * (m + 1) / 2) / (m * (~member).sum()))


def test_with_many_models_the_likelihood_ratio_reaches_the_best_there_is() -> None:
    """With known means and one variance the best test is phi itself less its mean: Phi(gap / sqrt 2)."""
    game = Game(models=200)
    best = norm.cdf(1 / np.sqrt(2))
    for attack in (LiRA(variance="pooled"), LiRA(), StudentT()):
        assert game.auc(attack) == pytest.approx(best, abs=0.025)
    # Its difficulty hides a record from a single threshold.
    assert auc(game.victim.predict(game.records.x).max(axis=1), game.member) < 0.62


@pytest.mark.parametrize("attack", [LiRA(variance="pooled"), StudentT(), RMIA(), BASE(), ByNumber()])
def test_few_models_do_better_than_none_and_worse_than_many(attack: ReferenceAttack) -> None:
    few, many = (np.mean([Game(models=models, seed=s).auc(attack) for s in range(3)]) for models in (4, 64))
    assert 0.6 < few < many


def test_one_variance_for_all_misleads_where_records_differ() -> None:
    game = Game(models=200, spread=3.0, gap=1.5)
    assert game.auc(LiRA(variance="per-example")) > game.auc(LiRA(variance="pooled")) + 0.02
    assert game.auc(StudentT()) > game.auc(LiRA(variance="pooled")) + 0.02
    # With two models in and two out a record's own variance is noise.
    few = [Game(models=4, seed=s) for s in range(4)]
    assert np.mean([g.auc(StudentT()) - g.auc(LiRA(variance="per-example")) for g in few]) > 0.05


def test_student_t_has_the_closed_form_of_its_prior() -> None:
    """One record apart: the formulas of Murphy 2007, section 6, written out by hand."""
    rng = np.random.default_rng(1)
    values = rng.normal(size=(4, 50)) + rng.normal(scale=2.0, size=50)
    where = np.ones_like(values, dtype=bool)
    freedom, middle, scale = predictive(values, where)
    own = values[:, 7]
    within = np.mean(values.var(axis=0, ddof=1))
    between = values.var() - within
    kappa = within / between
    expected = (kappa * values.mean() + own.sum()) / (kappa + 4)
    beta = 2 * within + 0.5 * ((own - own.mean()) ** 2).sum()
    beta += kappa * 4 * (own.mean() - values.mean()) ** 2 / (2 * (kappa + 4))
    assert middle[7] == pytest.approx(expected)
    assert freedom[7] == 2 * (2 + 2)
    assert scale[7] ** 2 == pytest.approx(beta * (kappa + 5) / (4 * (kappa + 4)))


def test_online_rmia_ranks_as_base_does() -> None:
    game = Game(models=8)
    one, other = game.play(RMIA()).values, game.play(BASE()).values
    assert np.array_equal(np.argsort(one), np.argsort(other))


def test_the_sorted_search_counts_what_a_whole_table_counts() -> None:
    game, attack = Game(n=300, models=8, people=90), RMIA(gamma=1.5, temperature=1.0)
    p = np.take_along_axis(game.references.answers, game.records.labels()[None, :, None], axis=2)[..., 0]
    people = game.references.population
    assert people is not None
    assert game.references.population_answers is not None
    q = np.take_along_axis(game.references.population_answers, people.labels()[None, :, None], axis=2)[..., 0]
    mine = game.victim.predict(game.records.x)[np.arange(300), game.records.labels()]
    theirs = game.victim.predict(people.x)[np.arange(90), people.labels()]
    believed = (1.33 * q.mean(axis=0) + 0.67) / 2
    whole = ((mine / p.mean(axis=0))[:, None] >= 1.5 * (theirs / believed)[None]).sum(axis=1)
    assert np.array_equal(np.floor(game.play(attack).values * 91 + 1e-9), whole)


@pytest.mark.parametrize("attack", [LiRA(mode="offline"), StudentT(mode="offline"), BASE(mode="offline", a=0.5)])
def test_offline_attacks_look_at_no_model_that_knows_the_record(attack: ReferenceAttack) -> None:
    game = Game(models=8)
    before = game.play(attack).values
    spoiled = game.references.answers.copy()
    spoiled[game.inside] = np.random.default_rng(5).dirichlet(np.ones(CLASSES), size=int(game.inside.sum()))
    references = References(game.inside, spoiled, game.references.population, game.references.population_answers)
    game.knowledge = MembershipKnowledge(candidates=game.records, references=Told(references))
    assert np.array_equal(before, game.play(attack).values)


def test_the_one_sided_test_does_not_take_a_forgotten_record_for_a_member() -> None:
    game = Game(n=400, models=16)
    signals = _signals(game, LiRA(mode="offline"))
    low = LiRA(mode="offline").judged(_moved(signals, -20.0))
    assert (low < LiRA(mode="offline").judged(signals)).all()


def _signals(game: Game, attack: ReferenceAttack) -> Signals:
    mine = attack.signal(game.victim.predict(game.records.x), game.records)
    theirs = attack.signal(game.references.answers, game.records)
    return Signals(game.inside, mine, theirs, None, None, game.records)


def _moved(signals: Signals, by: float) -> Signals:
    return Signals(signals.inside, signals.mine + by, signals.theirs, None, None, signals.candidates)


ALL: list[Callable[[], ReferenceAttack]] = [LiRA, StudentT, RMIA, BASE, ByNumber, ShadowClassifier]


@pytest.mark.parametrize("kind", ALL)
def test_nothing_is_found_where_training_leaves_no_trace(kind: Callable[[], ReferenceAttack]) -> None:
    found = []
    for seed in range(3):
        game = Game(n=1200, models=8, gap=0.0, seed=seed)
        guess = game.play(kind())
        found.append(auc(guess.values, game.member))
        # Rehearsals, too: the pair of a model is left out with it.
        for scores, inside in zip(guess.trace["target_scores"], guess.trace["target_inside"], strict=True):
            assert auc(scores, inside) == pytest.approx(0.5, abs=0.06)
    assert np.mean(found) == pytest.approx(0.5, abs=0.03)


def test_with_its_partner_a_rehearsal_would_be_told_by_counting() -> None:
    """Why a pair is left out whole: the numbers of models in and out of a record would say it all."""
    game = Game(n=1200, models=8, gap=0.0)
    kept = np.arange(8) != 3
    freedom_in, _, _ = predictive(_signals(game, StudentT()).theirs[kept], game.inside[kept])
    assert auc(-freedom_in, game.inside[3]) == pytest.approx(1.0)


def test_rehearsals_tell_what_the_victim_will_show() -> None:
    game = Game(models=16)
    guess = game.play(StudentT())
    played = [
        auc(s, inside) for s, inside in zip(guess.trace["target_scores"], guess.trace["target_inside"], strict=True)
    ]
    assert len(played) == 16
    assert np.mean(played) == pytest.approx(auc(guess.values, game.member), abs=0.03)


def test_memorisation_holds_its_interval() -> None:
    """Welch's interval over models holds the difference of means it is for, as often as it says."""
    rng = np.random.default_rng(2)
    n, models = 3000, 16
    inside = halves(n, models, rng)
    records = _records(n)
    p = np.clip(0.5 + 0.1 * inside + rng.normal(scale=0.08, size=inside.shape), 0.01, 0.99)
    found = memorisation(References(inside, _answers(np.log(p / (1 - p)), records)), records)
    held = ((found[:, 1] <= 0.1) & (found[:, 2] >= 0.1)).mean()
    assert 0.93 < held < 0.97
    assert found[:, 0].mean() == pytest.approx(0.1, abs=0.005)


def test_the_test_that_suits_is_chosen_without_the_victim_and_told() -> None:
    few = Game(n=200, models=4, people=100).play(ByNumber())
    assert few.facts["chosen_test"] == "base"
    assert few.facts["chosen_because"] == "of 4 reference models: too few to try tests among themselves"
    # Records of very different spread, told by many models: variances of their own are worth more than a ratio.
    game = Game(n=1500, models=64, gap=1.5, spread=4.0)
    guess = game.play(ByNumber())
    assert guess.facts["chosen_test"] in ("student-t", "both")
    assert "of 64 reference models, by rehearsals among themselves (mean members found at 1 %: base 0." in str(
        guess.facts["chosen_because"]
    )
    told = {name: game.play(ByNumber(references=name)).values for name in ("base", "student-t", "both")}
    assert np.array_equal(guess.values, told[str(guess.facts["chosen_test"])])
    assert np.array_equal(told["student-t"], game.play(StudentT()).values)
    ranks = [np.argsort(np.argsort(told[name])) + 1.0 for name in ("base", "student-t")]
    assert np.allclose(told["both"], np.mean(ranks, axis=0))
    # Whatever the victim answers, the choice is the same.
    game.victim = Victim(np.random.default_rng(0).dirichlet(np.ones(CLASSES), size=4000))
    assert game.play(ByNumber()).facts["chosen_because"] == guess.facts["chosen_because"]
    named = game.play(ByNumber(references="rmia-offline"))
    assert named.facts["chosen_because"] == "asked for"
    assert named.facts["chosen_test"] == "rmia-offline"


def test_the_share_of_offline_attacks_is_settled_among_references_alone() -> None:
    game = Game(models=8)
    guess = game.play(BASE(mode="offline"))
    assert guess.facts["offline_a_chosen"] == "by 8 rehearsals among the reference models"
    share = guess.facts["offline_a"]
    assert isinstance(share, float)
    assert np.array_equal(guess.values, game.play(BASE(mode="offline", a=share)).values)
    few = Game(models=2).play(BASE(mode="offline"))
    assert few.facts["offline_a"] == 0.33


def test_fewer_models_are_used_where_asked() -> None:
    game = Game(models=8)
    guess = game.play(StudentT(models=4))
    assert guess.facts["reference_models"] == 4
    game.knowledge = MembershipKnowledge(candidates=game.records, references=Told(game.references.first(4)))
    assert np.array_equal(guess.values, game.play(StudentT()).values)


def test_votes_of_few_trees_are_no_certainty() -> None:
    """Answers rounded to hundredths hold zeros, whose logits would decide every variance."""
    game = Game(models=16)

    def coarse(answers: Array) -> Array:
        return np.round(answers, 2)

    fine = game.auc(StudentT())
    references = References(game.inside, coarse(game.references.answers))
    game.knowledge = MembershipKnowledge(candidates=game.records, references=Told(references))
    game.victim = Victim(coarse(game.victim.predict(np.arange(2400, dtype=float)[:, None])))
    guess = game.play(StudentT())
    assert guess.facts["grain_of_answers"] == pytest.approx(0.01)
    assert auc(guess.values, game.member) > fine - 0.06
    kept = grain(references.answers, Task.CLASSES)
    assert resolved(references.answers, kept, Task.CLASSES).min() == pytest.approx(0.005)
    # Fine answers, and numbers, are left as they are.
    assert grain(Game(n=50, models=4).references.answers, Task.CLASSES) == 0
    assert grain(np.zeros((2, 3, 1)), Task.VALUES) == 0
