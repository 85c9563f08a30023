"""The adversary's reference models: trained once, several at a time, and kept as what they answer.

    runs/references/<key>/<model>.npz    its scores on the candidates and on the population, mode 0600

The key is a hash of recipe, records, seed and number of models: the same models serve all attacks, all arms behind
defenses of answers, and every later run. An interrupted training goes on with the models that are missing.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from filelock import FileLock
from jaxtyping import Bool, Float, Int

from seepage.audit.halves import Public, halves
from seepage.audit.leaks import knowledge
from seepage.audit.plan import Cell, Wanted
from seepage.audit.training import Trainer, source_digest
from seepage.cases.scene import Scene
from seepage.core.attack import MembershipAttack
from seepage.core.code import code_digest
from seepage.core.defense import Defense
from seepage.core.errors import ConfigError, DataError, ModelError
from seepage.core.knowledge import MembershipKnowledge
from seepage.core.recipe import Recipe
from seepage.core.records import Records, Splits
from seepage.core.references import References
from seepage.core.seeds import derive, stream
from seepage.core.spec import InputSpec
from seepage.core.victim import Model
from seepage.core.vocabulary import Access, Task
from seepage.store.files import digest, write_arrays

Array = np.ndarray

# What the first model answers when it is trained a second time.
AGAIN = "again"
# Models trained in one go: enough for stacking to pay, few enough that an interruption costs little.
CHUNK = 8
# Records asked at a time.
BATCH = 1024
# How many models are trained where an attack wants them and nobody says how many.
DEFAULT = 16
# The task of a run that trains some of them, before what tells it from others; what a model costs, as a victim does.
TASK = "references "
TRAINING = 30_000


Answers = tuple[Float[Array, " n c"], Float[Array, " z c"] | None]


@dataclass(frozen=True)
class Shelf:
    """Gives reference models of one recipe for one set of candidates (`core.references.ReferenceSource`).

    Attributes:
        recipe: trains victims like the one audited.
        candidates: the records asked about, with their classes.
        public: what of the public records is trained on, and what is not.
        spec: one input.
        size: records each model is trained on, where there are as many.
        models: how many models, an even number.
        classes: of the victim.
        seed: of the audit.
        folder: where answers are kept; None keeps them in this process alone.
        identity: what decides a training besides records and seed; None where that cannot be told: nothing is kept.
        built_in: whether the recipe comes with Seepage.
        memory: answers of this process; shared with the shelves behind defenses.
        retrains, outputs: the defenses the adversary knows of: of the training, and of what is answered.
    """

    recipe: Recipe
    candidates: Records
    public: Public
    spec: InputSpec
    size: int
    models: int
    classes: int
    seed: int
    folder: Path | None
    identity: str | None
    built_in: bool = False
    memory: dict[str, Answers] = field(default_factory=dict[str, Answers], compare=False, repr=False)
    retrains: tuple[Defense, ...] = ()
    outputs: tuple[Defense, ...] = ()

    @property
    def population(self) -> Records | None:
        return self.public.population

    def behind(self, defense: Defense) -> "Shelf":
        """The same behind one more defense: trained anew where it acts on the training, else with other answers."""
        if defense.retrains:
            return replace(self, recipe=defense.on_recipe(self.recipe), retrains=(*self.retrains, defense))
        return replace(self, outputs=(*self.outputs, defense))

    def get(self) -> References:
        """The answers of all models, behind the known defenses; trains those that are missing.

        Raises:
            ModelError: for a recipe that fails, or trains models with other classes than the victim's.
            DataError: for kept answers that are damaged.
        """
        self.train(range(self.models))
        found = [self._read(i) for i in range(self.models)]
        told = [population for _, population in found if population is not None]
        answers = np.stack([candidates for candidates, _ in found])
        return self._defended(References(self.inside, answers, self.population, np.stack(told) if told else None))

    @cached_property
    def inside(self) -> Bool[Array, " k n"]:
        """(k, n) which candidates each model is trained on."""
        return halves(len(self.candidates), self.models, stream(self.seed, "references", "design"))

    @cached_property
    def key(self) -> str:
        """What tells these models from others."""
        decides = [
            self.identity or f"live {id(self.memory)}",
            code_digest("data", "models", "targets"),
            [
                [defense.name, defense.version, source_digest(type(defense)), defense.model_dump(mode="json")]
                for defense in self.retrains
            ],
            self.candidates.digest(),
            [None if part is None else part.digest() for part in (self.public.fill, self.public.population)],
            [self.size, self.models, self.classes, self.seed, repr(self.spec.form)],
        ]
        return digest(decides)[:24]

    @property
    def trained_on(self) -> int:
        """How many records a model is trained on."""
        return len(self._subset(0))

    def parts(self) -> list[range]:
        """The models in the portions they are trained in."""
        return [range(i, min(i + CHUNK, self.models)) for i in range(0, self.models, CHUNK)]

    def missing(self, part: Sequence[int]) -> list[int]:
        """Those of these models that are not there yet."""
        return [i for i in part if not self._there(i)]

    def train(self, part: Sequence[int], moved: Callable[[int], None] | None = None) -> None:
        """Train those of these models that are missing, and keep their answers.

        Args:
            part: numbers of models.
            moved: told how many are there, as they come.

        Raises:
            ModelError: as `get`.
        """
        for start in range(0, len(part), CHUNK):
            chunk = part[start : start + CHUNK]
            if self.missing(chunk):
                with self._alone(chunk[0]):
                    self._add(self.missing(chunk))
            if moved is not None:
                moved(start + len(chunk))

    def again(self) -> tuple[Float[Array, " n c"], Float[Array, " n c"]]:
        """What the first model answers to the candidates, and what it answers when it is trained once more.

        Raises:
            ModelError: as `get`.
        """
        self.train(range(1))
        if not self._there(AGAIN):
            self._keep(AGAIN, self._trained([0])[0])
        return self._read(0)[0], self._read(AGAIN)[0]

    @property
    def _folder(self) -> Path | None:
        return None if self.folder is None or self.identity is None else self.folder / self.key

    def _there(self, model: int | str) -> bool:
        kept = self._folder is not None and (self._folder / f"{model}.npz").is_file()
        return kept or f"{self.key}/{model}" in self.memory

    @contextmanager
    def _alone(self, model: int) -> Generator[None]:
        """Two processes that want the same models do not both train them."""
        if self._folder is None:
            yield
            return
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with FileLock(str(self._folder / f".{model}.lock")):
            yield

    def _add(self, models: Sequence[int]) -> None:
        for i, told in zip(models, self._trained(models), strict=True):
            self._keep(i, told)

    def _keep(self, model: int | str, told: Answers) -> None:
        if self._folder is None:
            self.memory[f"{self.key}/{model}"] = told
        else:
            named = {"candidates": told[0]} | ({} if told[1] is None else {"population": told[1]})
            write_arrays(self._folder / f"{model}.npz", named)

    def _read(self, model: int | str) -> Answers:
        name = f"{self.key}/{model}"
        if name in self.memory or self._folder is None:
            return self.memory[name]
        path = self._folder / f"{model}.npz"
        try:
            with np.load(path, allow_pickle=False) as arrays:
                told = arrays["candidates"], arrays.get("population")
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise DataError(
                f"reference models: {path} cannot be read ({error}): delete it and run again, the model is then "
                "trained anew"
            ) from error
        self.memory[name] = told
        return told

    def _trained(self, models: Sequence[int]) -> list[Answers]:
        """Train these models, and ask them."""
        fill = self.public.fill
        pool = self.candidates if fill is None else self.candidates.joined(fill)
        seeds = [derive(self.seed, "references", str(i)) for i in models]
        made = self.recipe.on(pool).fit_many([self._subset(i) for i in models], seeds)
        return [self._asked(model) for model in made]

    def _subset(self, model: int) -> Int[Array, " m"]:
        """The candidates of a model, and public records for what is wanting; a pair gets the same ones."""
        own = np.nonzero(self.inside[model])[0]
        fill, wanting = self.public.fill, self.size - len(own)
        if fill is None or wanting <= 0:
            return own
        order = stream(self.seed, "references", "fill", str(model // 2)).permutation(len(fill))[:wanting]
        return np.concatenate([own, len(self.candidates) + np.sort(order)])

    def _asked(self, model: Any) -> Answers:
        if not isinstance(model, Model):
            raise ModelError(f"the recipe should return a model, it returned a {type(model).__name__}")
        if model.classes != self.classes:
            raise ModelError(
                f"reference models: the recipe made one of {model.classes} classes from half of the candidates, the "
                f"victim has {self.classes}: a class may be missing from that half; give every class enough records, "
                "or let the recipe make a model of all classes"
            )
        population = self.population
        told = [
            np.concatenate([model.predict(x[i : i + BATCH]) for i in range(0, len(x), BATCH)]).astype(np.float32)
            for x in (self.candidates.x, *(() if population is None else (population.x,)))
        ]
        return told[0], told[1] if len(told) > 1 else None

    def _defended(self, found: References) -> References:
        """The answers as defenses let them out."""
        for defense in self.outputs:
            rng = stream(self.seed, "references", "defense", defense.name)
            people, told = found.population, found.population_answers
            known = None if told is None or people is None else self._let_out(told, people.x, defense, rng)
            answers = self._let_out(found.answers, self.candidates.x, defense, rng)
            found = replace(found, answers=answers, population_answers=known)
        return found

    def _let_out(self, answers: Array, x: Array, defense: Defense, rng: np.random.Generator) -> Array:
        def one(rows: Array) -> Array:
            behind = defense.on_victim(_Remembered(self.spec, x, rows, self.candidates.task), rng)
            if not isinstance(behind, Model):
                raise ConfigError(f"the defense '{defense.name}' does not act on a classifier")
            return behind.predict(x)

        return np.stack([one(rows) for rows in answers]).astype(np.float32)


@dataclass(frozen=True)
class _Remembered:
    """A model of which only the answers to some records are left."""

    spec: InputSpec
    x: Float[Array, " n ..."]
    answers: Float[Array, " n c"]
    task: Task = Task.CLASSES
    family: str = "unknown"
    offers: frozenset[Access] = frozenset({Access.SCORES, Access.TOP_K, Access.LABELS})

    @property
    def classes(self) -> int:
        return self.answers.shape[1]

    def predict(self, x: Float[Array, " n ..."]) -> Float[Array, " n c"]:
        if x is not self.x:
            raise ModelError("a reference model of which the answers are left can be asked about its candidates only")
        return self.answers


def references_of(
    trainer: Trainer | None,
    spec: InputSpec,
    splits: Splits,
    models: int,
    seed: int,
    runs: Path,
    processes: int = 1,
) -> Callable[[Records], Shelf] | None:
    """What gives reference models for candidates; None without a recipe, or where none are wanted.

    Args:
        trainer: the recipe.
        spec: one input.
        splits: the records of the audit.
        models: how many.
        seed: of the audit.
        runs: folder of the runs, beside which answers are kept.
        processes: in how many processes models are trained; one where the audit itself has several.

    Raises:
        ConfigError: for a number of models that is odd.
    """
    if models % 2:
        raise ConfigError(
            f"references: {models} models were asked for; they come in pairs trained on complementary halves of the "
            f"candidates: take {models + 1}"
        )
    if trainer is None or not models or splits.nonmembers is None:
        return None
    made: dict[str, Shelf] = {}

    def shelf(candidates: Records) -> Shelf:
        name = candidates.digest()
        if name not in made:
            wanting = len(splits.members) - len(candidates) // 2
            made[name] = Shelf(
                recipe=trainer.recipe(spec, candidates, None, processes),
                candidates=candidates,
                public=Public.of(splits.public, candidates, wanting, seed),
                spec=spec,
                size=len(splits.members),
                models=models,
                classes=splits.members.width,
                seed=seed,
                folder=runs / "references",
                identity=trainer.identity,
                built_in=trainer.built_in is not None,
            )
        return made[name]

    return shelf


def models_for(asked: int | None, wanted: Sequence[Wanted]) -> int:
    """How many reference models an audit has: as many as asked for, else what the attacks it names want."""
    if asked is not None:
        return asked
    named = (want.attack for want in wanted if want.thorough or not want.auto)
    return DEFAULT if any(isinstance(a, MembershipAttack) and a.needs_references for a in named) else 0


def portions(cells: Sequence[Cell], scene: Scene) -> dict[str, tuple[Shelf, range]]:
    """The trainings that attacks on these cells wait for, by the name of their task."""
    found: dict[str, tuple[Shelf, range]] = {}
    for cell in cells:
        if not isinstance(cell.attack, MembershipAttack) or not cell.attack.needs_references:
            continue
        known = knowledge(cell.attack.leak, scene, cell.attack.form)
        shelf = known.references if isinstance(known, MembershipKnowledge) else None
        defense = cell.arm.defense
        if defense is not None and defense.retrains and cell.arm.aware and shelf is not None:
            shelf = shelf.behind(defense)
        if isinstance(shelf, Shelf):
            found |= {f"{TASK}{shelf.key[:8]} {part.start}": (shelf, part) for part in shelf.parts()}
    return found


def awaited(cells: Sequence[Cell], scene: Scene) -> list[tuple[int, int]]:
    """For each set of reference models that attacks wait for: how many there are to be, and how many are missing."""
    shelves = {shelf.key: shelf for shelf, _ in portions(cells, scene).values()}
    return [(shelf.models, len(shelf.missing(range(shelf.models)))) for shelf in shelves.values()]


def untrained(cells: Sequence[Cell], scene: Scene) -> dict[str, int]:
    """The tasks among `portions` that are not done yet, with what each costs."""
    return {
        name: len(missing) * TRAINING
        for name, (shelf, part) in portions(cells, scene).items()
        if (missing := shelf.missing(part))
    }
