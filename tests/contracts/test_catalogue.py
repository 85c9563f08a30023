"""Everything that has a name in the catalogue keeps every contract."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seepage.core.case import Case
from seepage.core.defense import Defense, OutputDefense
from seepage.core.errors import ConfigError
from seepage.core.guess import Guess, Posterior, Reconstruction, Scores, Texts
from seepage.core.knowledge import TextGradientKnowledge
from seepage.core.records import Records
from seepage.core.registry import ATTACKS, DEFENSES, attack_class, defense_class
from seepage.core.scorer import Controls, Scorer
from seepage.core.secrets import GradientSecret
from seepage.core.seeds import stream
from seepage.core.target import Target
from seepage.core.victim import Model, Models, TextEncoder, Updates, Victim
from seepage.core.vocabulary import Leak, Modality, closure
from seepage.testing.cases import case_for, gradient_case, inversion_case, membership_case
from seepage.testing.contracts import ATTACK_CONTRACTS, DEFENSE_CONTRACTS, check_attack, check_defense, check_scorer
from seepage.testing.property import ShareVictim
from seepage.testing.text_clients import text_gradient_case
from seepage.testing.texts import DeafEncoder, text_inversion_case
from seepage.testing.victims import ConstantVictim, TemplateVictim

DOCS = Path(__file__).parents[2] / "docs"

# Parameters that make an attack fast; the contracts hold for any. An attack that is fast anyway needs none.
FAST: dict[str, dict[str, Any]] = {
    "mi-face": {"steps": 12},
    "latent": {"steps": 6, "starts": 2, "screened": 20, "components": 8},
    "diff-mi": {"train_steps": 0, "steps": 5, "starts": 2},
    "gmi": {"prior": "pca", "components": 8, "restarts": 2, "steps": 12},
    "plug-and-play": {"prior": "pca", "components": 8, "screened": 40, "candidates": 2, "steps": 12, "checks": 2},
    "if-gmi": {
        "prior": "pca",
        "components": 8,
        "screened": 40,
        "candidates": 2,
        "steps": 12,
        "stage_steps": 3,
        "checks": 2,
    },
    "lomma": {
        "prior": "pca",
        "components": 8,
        "copies": 1,
        "taught_on": 60,
        "lessons": 4,
        "starts": 2,
        "steps": 12,
    },
    "nes": {"queries_per_class": 60, "population": 8, "screened": 40, "components": 8},
    "ked-mi": {"size": 8, "width": 8, "steps": 3, "batch": 4, "iterations": 5, "draws": 2},
    "plg-mi": {"size": 8, "width": 8, "steps": 3, "batch": 4, "iterations": 5, "starts": 2},
    "mirror": {"queries_per_class": 60, "population": 8, "screened": 40, "components": 8},
    "cma-es": {"queries_per_class": 60, "population": 8, "screened": 40, "components": 8},
    "rlb-mi": {"queries_per_class": 30, "screened": 40, "components": 8, "hidden": 8, "batch": 8, "updates": 1},
    "composite": {"queries_per_class": 60},
    "brep-mi": {"queries_per_class": 60, "points": 6, "components": 8},
    "lokt": {
        "queries_per_class": 12,
        "components": 8,
        "surrogates": 1,
        "width": 2,
        "training": 4,
        "steps": 4,
        "starts": 2,
    },
    "inversion-network": {"queries": 60, "steps": 8, "components": 8},
    "inverse-surrogate": {"queries": 60, "levels": [5.0, 10.0], "components": 8},
    "embedding-inversion": {"queries": 60, "components": 8},
    "dlg": {"steps": 8},
    "fishing": {"thresholds": 4, "steps": 8},
    "inverting-gradients": {"steps": 8, "restarts": 2},
    "grad-inversion": {"steps": 8, "restarts": 2},
    "fedavg-matching": {"steps": 8},
    "fedleak": {"steps": 6},
    "latent-matching": {"steps": 8, "components": 8},
    "gias": {"prior": "pca", "steps": 8, "components": 8, "weight_steps": 6},
    "gifd": {"prior": "pca", "steps": 8, "components": 8, "stage_steps": 6},
    "ggl": {"prior": "pca", "components": 8, "generations": 4, "population": 6},
    "learned-counts": {"batches": 40},
    "tag": {"steps": 8, "restarts": 2},
    "lamp": {"steps": 8, "candidates": 4, "every": 4, "moves": 4},
    "embedding-search": {"learned": 40, "starts": 2, "steps": 4, "components": 8},
    "boundary-distance": {"queries_per_record": 40, "probes": 6},
    "augmentation": {"queries_per_record": 4},
    "quantile-regression": {"regressor": "class"},
    "sentence-search": {"queries_per_text": 12, "asked_a_round": 8, "beam": 2, "pool": 40, "learned": 200},
}


def test_fast_parameters_are_for_attacks_that_exist() -> None:
    assert set(FAST) <= set(ATTACKS)


def _library_of(defense: str) -> None:
    """Skips where a defense rests on a library that is not installed."""
    if defense == "encrypted-aggregation":
        pytest.importorskip("tenseal", reason="TenSEAL, the extra [he], is not installed")


@pytest.mark.parametrize("contract", ATTACK_CONTRACTS)
@pytest.mark.parametrize("name", ATTACKS)
def test_attack(name: str, contract: str) -> None:
    check_attack(attack_class(name), params=FAST.get(name), docs_dir=DOCS, only=[contract])


@pytest.mark.parametrize("contract", DEFENSE_CONTRACTS)
@pytest.mark.parametrize("name", DEFENSES)
def test_defense(name: str, contract: str) -> None:
    _library_of(name)
    check_defense(defense_class(name), only=[contract])


@pytest.mark.parametrize("name", ATTACKS)
def test_catalogue_name_is_the_class_s_own(name: str) -> None:
    assert attack_class(name).name == name


@pytest.mark.parametrize("name", DEFENSES)
def test_defense_name_is_the_class_s_own(name: str) -> None:
    assert defense_class(name).name == name


def _scorer(leak: Leak, form: str = "") -> Scorer:
    return import_module(f"seepage.scoring.{'property' if form == 'property' else leak}").score


def _silent(sent: Updates) -> Updates:
    """Updates of zeros."""
    zeros = [{name: np.zeros_like(tensor) for name, tensor in u.tensors.items()} for u in sent.clients]
    return Updates(tuple(replace(u, tensors=z) for u, z in zip(sent.clients, zeros, strict=True)))


def _constant(victim: Victim) -> Victim:
    """A victim of the same kind that says the same whatever it was trained on or is asked."""
    if isinstance(victim, Updates):
        asked = victim.asked
        return replace(_silent(victim), asked=None if asked is None else lambda net, turn: _silent(asked(net, turn)))
    if isinstance(victim, Models):
        nothing = Records(np.zeros((1, *victim.models[0].spec.shape), dtype=np.float32), modality=Modality.TABLE)
        return Models((ShareVictim(nothing, gain=0.0, noise=0.0, seed=0),) * len(victim))
    if isinstance(victim, TextEncoder):
        return DeafEncoder()
    assert isinstance(victim, Model)
    prior = np.arange(1, victim.classes + 1) / np.arange(1, victim.classes + 1).sum()
    return ConstantVictim(prior, victim.spec)


@pytest.mark.parametrize("name", ATTACKS)
def test_nothing_is_found_in_a_victim_that_answers_always_the_same(name: str) -> None:
    """Whatever the attack, its guess about a constant victim leaks nothing beyond the controls."""
    cls = attack_class(name)
    case = case_for(cls)(0)
    attack = cls(**FAST.get(name, {}))

    def guess(case: Case) -> Guess:
        return attack.run(Target(case.victim, cls.needs, captured=case.captured), case.knowledge, stream(0, "constant"))

    constant = replace(case, victim=_constant(case.victim))
    found = _scorer(cls.leak, cls.form)(guess(constant), case.secret, Controls(no_model=case.baselines))
    headline = found.scores[found.headline]
    assert headline.leakage is not None
    assert headline.leakage.low <= 0, headline


# Defenses inside clients that look at records as arrays.
_OF_ARRAYS = ("soteria", "precode")


def _acts(defense: type[Defense], case: Case) -> bool:
    """Whether a defense is one of such victims."""
    if issubclass(defense, OutputDefense):
        return isinstance(case.victim, Model)
    return isinstance(case.victim, Updates)


@pytest.mark.parametrize("defense", DEFENSES)
@pytest.mark.parametrize("name", ATTACKS)
def test_a_defended_case_is_played_by_those_whose_access_is_left(name: str, defense: str) -> None:
    """Behind every defense an attack either runs on the adaptive case or is refused on opening."""
    cls = attack_class(name)
    bare = case_for(cls)(0)
    if not _acts(defense_class(defense), bare):
        if isinstance(bare.victim, TextEncoder):
            # An encoder is refused by defenses of a classifier's answers and of updates alike.
            with pytest.raises(ConfigError, match=r"does not act on|retrains"):
                bare.defended(defense_class(defense)())
        return
    if isinstance(bare.knowledge, TextGradientKnowledge) and defense in _OF_ARRAYS:
        with pytest.raises(ConfigError, match="clients who train on texts"):
            bare.defended(defense_class(defense)())
        return
    _library_of(defense)
    case = bare.defended(defense_class(defense)())
    if cls.needs <= closure(case.victim.offers):
        target = Target(case.victim, cls.needs, captured=case.captured)
        guess = cls(**FAST.get(name, {})).run(target, case.knowledge, stream(0, "defended"))
        assert target.queries > 0
        assert _scorer(cls.leak)(guess, case.secret, Controls(no_model=case.baselines)).scores


def _inversion() -> tuple[Case, Guess, Guess]:
    case = inversion_case(3)
    assert isinstance(case.victim, TemplateVictim)
    templates, classes = case.victim.templates.astype(np.float32), np.arange(case.victim.classes)
    blind = Reconstruction(np.repeat(templates[:1], len(classes), axis=0), classes)
    return case, Reconstruction(templates, classes), blind


def _membership() -> tuple[Case, Guess, Guess]:
    case = membership_case(3)
    truth: Any = getattr(case.secret, "is_member", None)
    return case, Scores(truth.astype(float)), Scores(np.zeros(len(truth)))


def _gradient(form: str) -> tuple[Case, Guess, Guess]:
    case = text_gradient_case(3) if form == "text" else gradient_case(3, form)
    secret = case.secret
    assert isinstance(secret, GradientSecret)
    assert secret.client is not None
    if form == "labels":
        y = secret.batch.labels().reshape(3, -1)
        counts = np.stack([np.bincount(mine, minlength=4) for mine in y]).astype(float)
        return case, Posterior(counts), Posterior(np.full((3, 4), 0.25))
    if form == "text":
        texts = secret.batch.texts
        held = tuple(tuple(texts[i] for i in np.nonzero(secret.client == c)[0]) for c in np.unique(secret.client))
        return case, Texts(held), Texts(((),) * len(held))
    middle = np.full_like(secret.batch.x, 0.5)
    return case, Reconstruction(secret.batch.x, client=secret.client), Reconstruction(middle, client=secret.client)


def _texts() -> tuple[Case, Guess, Guess]:
    case = text_inversion_case(3)
    assert isinstance(case.captured, tuple)
    return case, Texts(tuple((text,) for text in case.captured)), Texts(((),) * len(case.captured))


@pytest.mark.parametrize("name", ATTACKS)
def test_scorer(name: str) -> None:
    """Every leak that an attack in the catalogue plays has a scorer that keeps its contract."""
    leak, form = attack_class(name).leak, attack_class(name).form
    made = {
        Leak.INVERSION: _texts if form == "text" else _inversion,
        Leak.MEMBERSHIP: _membership,
        Leak.GRADIENT: lambda: _gradient(form),
    }[leak]
    case, perfect, blind = made()
    check_scorer(_scorer(leak), case.secret, perfect, blind)
