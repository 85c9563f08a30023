"""What the proofs of the vocabulary share: plain victims that are really trained, and one round of a game."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.tree import DecisionTreeClassifier

from seepage.core.attack import Attack
from seepage.core.case import Case, Training
from seepage.core.knowledge import MembershipKnowledge
from seepage.core.recipe import Recipe, Trainer
from seepage.core.records import Records
from seepage.core.scorer import Controls, Scored, Scorer
from seepage.core.secrets import MembershipSecret
from seepage.core.seeds import stream
from seepage.core.spec import Bounds, InputSpec
from seepage.core.target import Target
from seepage.core.vocabulary import Access, Leak, Modality
from seepage.testing.victims import TemplateVictim

Array = np.ndarray
WIDE = Bounds.of(-20.0, 20.0)
COLUMNS, CLASSES, EACH = 8, 3, 150


def table_spec(columns: int, bounds: Bounds = WIDE) -> InputSpec:
    return InputSpec((columns,), bounds=bounds, modality=Modality.TABLE)


@dataclass(frozen=True)
class SoftmaxRegression:
    """softmax(x W^T + b) on a table."""

    weight: Float[Array, " c d"]
    bias: Float[Array, " c"]
    bounds: Bounds = WIDE
    family: str = "linear"
    offers: frozenset[Access] = frozenset({Access.LOGITS})

    @property
    def spec(self) -> InputSpec:
        return table_spec(self.weight.shape[1], self.bounds)

    @property
    def classes(self) -> int:
        return len(self.bias)

    def logits(self, x: Float[Array, " n d"]) -> Float[Array, " n c"]:
        return x.astype(np.float64) @ self.weight.T + self.bias

    def predict(self, x: Float[Array, " n d"]) -> Float[Array, " n c"]:
        return softmax(self.logits(x), axis=1)


def fit_softmax(records: Records, seed: int, l2: float = 1e-4) -> SoftmaxRegression:
    """Maximum likelihood with a penalty of `l2` / 2 on the weights; convex, so that the seed has no say."""
    x, y, c = records.x.astype(np.float64), records.labels(), len(records.class_names)
    n, d = x.shape

    def loss(flat: Array) -> tuple[float, Array]:
        w, b = flat[: c * d].reshape(c, d), flat[c * d :]
        logs = log_softmax(x @ w.T + b, axis=1)
        off = (np.exp(logs) - np.eye(c)[y]) / n
        slope = np.concatenate([(off.T @ x + l2 * w).ravel(), off.sum(axis=0)])
        return float(-logs[np.arange(n), y].mean() + l2 / 2 * np.square(w).sum()), slope

    found = minimize(loss, np.zeros(c * d + c), jac=True, method="L-BFGS-B").x
    return SoftmaxRegression(found[: c * d].reshape(c, d), found[c * d :])


@dataclass(frozen=True)
class Tree:
    """A scikit-learn decision tree."""

    inside: DecisionTreeClassifier
    classes: int
    family: str = "tree"
    offers: frozenset[Access] = frozenset({Access.SCORES})

    @property
    def spec(self) -> InputSpec:
        return table_spec(self.inside.n_features_in_)

    def predict(self, x: Float[Array, " n d"]) -> Float[Array, " n c"]:
        rows = np.zeros((len(x), self.classes))
        rows[:, self.inside.classes_] = self.inside.predict_proba(x)
        return rows


def fit_tree(records: Records, seed: int, min_samples_leaf: int = 1) -> Tree:
    """A tree grown until its leaves are pure, or hold `min_samples_leaf` records."""
    tree = DecisionTreeClassifier(min_samples_leaf=min_samples_leaf, random_state=seed % 2**32)
    return Tree(tree.fit(records.x, records.labels()), len(records.class_names))


def table(x: Float[Array, " n d"], y: Int[Array, " n"], classes: int) -> Records:
    return Records(x.astype(np.float32), y, tuple(str(c) for c in range(classes)), modality=Modality.TABLE)


def memorise(records: Records, seed: int) -> TemplateVictim:
    """A kernel classifier: every record is a template."""
    return TemplateVictim(records.x, records.labels(), table_spec(COLUMNS), width=0.3, power=float(COLUMNS))


@cache
def overfitted_case(seed: int, train: Trainer = memorise) -> Case:
    """Three overlapping classes, a fifth of the labels drawn at random: what is learned of those is by heart."""
    rng = stream(seed, "defense proof")
    middles = 1.2 * rng.normal(size=(CLASSES, COLUMNS))

    def drawn(n: int) -> Records:
        y = rng.integers(CLASSES, size=n)
        x = middles[y] + rng.normal(size=(n, COLUMNS))
        return table(x, np.where(rng.random(n) < 0.2, rng.integers(CLASSES, size=n), y), CLASSES)

    pool, other = drawn(2 * EACH), drawn(EACH)
    training = Training(
        recipe=Recipe(train, pool, "overfitted"),
        members=np.arange(EACH),
        seed=seed,
        null_recipe=Recipe(train, other, "overfitted"),
        null_members=np.arange(EACH),
    )
    victim, null = training.fit()
    order = rng.permutation(2 * EACH)
    return Case(
        leak=Leak.MEMBERSHIP,
        name="overfitted",
        victim=victim,
        null=null,
        knowledge=MembershipKnowledge(public=other, recipe=Recipe(train, other, "overfitted"), candidates=pool[order]),
        secret=MembershipSecret(is_member=order < EACH, candidates=pool[order]),
        training=training,
        seed=seed,
    )


def trees(seed: int) -> Case:
    return overfitted_case(seed, fit_tree)


def played(case: Case, attack: Attack, score: Scorer, budget: int | None = None) -> tuple[Scored, Target]:
    """One round: the attack on the victim and on its twin, scored beside the controls of the case."""
    target = Target(case.victim, attack.needs, budget)
    guess = attack.run(target, case.knowledge, stream(case.seed, attack.name))
    null = None
    if case.null is not None:
        twin = Target(case.null, attack.needs, budget)
        null = attack.run(twin, case.null_knowledge or case.knowledge, stream(case.seed, attack.name))
    return score(guess, case.secret, Controls(case.baselines, null, case.missing)), target
