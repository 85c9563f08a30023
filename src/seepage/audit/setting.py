"""A configuration made ready: records read, victim and recipe at hand, nothing asked or trained yet."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from seepage.audit import sentences
from seepage.audit.asked import wanted_by
from seepage.audit.captured import from_file, spec_of
from seepage.audit.config import AuditConfig, FederatedTable, make_defense, parse
from seepage.audit.facts import facts_of
from seepage.audit.federated import federation
from seepage.audit.options import classes_like, fingerprints, victim_options, where_from
from seepage.audit.plan import Arm, Plan, Wanted, make_plan
from seepage.audit.play import Stage
from seepage.audit.preflight import preflights
from seepage.audit.priors import Brought, from_table
from seepage.audit.records import (
    Facts,
    checked,
    data_facts,
    known_spec,
    packages,
    read_data,
    spec_identity,
    splits_identity,
)
from seepage.audit.training import Trainer
from seepage.cases.capture import Capture
from seepage.cases.federation import Federation
from seepage.cases.scene import Scene
from seepage.cases.world import World
from seepage.core.errors import ConfigError
from seepage.core.record import Check, Preflight
from seepage.core.records import Splits
from seepage.core.seeds import derive
from seepage.core.spec import InputSpec
from seepage.core.victim import Model
from seepage.core.vocabulary import Access, Leak, closure
from seepage.data import (
    blind_baseline,
    check_splits,
)
from seepage.store.files import RunFolder, read_json, write_json
from seepage.targets import infer_spec, open_victim


@dataclass(frozen=True)
class Setting:
    """Everything an audit needs, from a file or from live objects.

    Attributes:
        scene: the victim and its records.
        identity: what decides the results besides attacks and arms.
        reusable: whether findings may be used again by later runs (the victim can be told apart).
        resumable: whether an unfinished run may be taken up.
        brought: the priors, and the one that was brought along.
        most: classes seen by an adversary who is granted the top k.
        respawn: what a worker process rebuilds the setting from; None keeps everything in this process.
        text: the audit file as written, when there is one.
    """

    title: str
    seed: int
    access: Access
    budget: int | None
    wanted: Sequence[Wanted]
    arms: Sequence[Arm]
    gates: Mapping[Leak, float]
    tolerance: float
    out: Path
    processes: int
    scene: Scene
    offers: Callable[[], frozenset[Access]]
    identity: Mapping[str, Any]
    victim_facts: Facts
    data_facts: Facts
    as_written: dict[str, Any]
    as_resolved: dict[str, Any]
    reusable: bool
    resumable: bool
    respawn: Mapping[str, Any] | None = None
    text: str | None = None
    index_url: str | None = None
    brought: Brought | None = None
    most: int = 5
    kept: Callable[[str], Path | None] = field(default=lambda name: None)

    @classmethod
    def again(cls, respawn: Mapping[str, Any]) -> "Setting":
        """The same setting in another process."""
        return from_config(
            parse(respawn["content"], "the configuration"),
            respawn["content"],
            base=Path(respawn["base"]),
            out=Path(respawn["out"]),
            trust_pickle=respawn["trust_pickle"],
        )

    def plan(self) -> Plan:
        """The cells of this audit."""
        return make_plan(
            self.scene,
            self.wanted,
            self.arms,
            access=self.access,
            offers=self.offers(),
            budget=self.budget,
            identity=self.identity,
            seed=self.seed,
            most=self.most_seen,
        )

    @property
    def most_seen(self) -> int | None:
        """Classes seen in an answer: limited where the top k is what was granted, not where a defense left it."""
        return self.most if self.access is Access.TOP_K else None

    def trains(self, name: str) -> bool:
        """Whether "victim" or "twin" has to be trained, and its weights can then be read by every process."""
        path = self.kept(name)
        return path is not None and not path.is_file()

    def train_twin(self) -> None:
        """Train the null twin, where there is to be one."""
        if isinstance(self.scene, World):
            _ = self.scene.twin

    def write_checks(self, folder: RunFolder) -> None:
        """Look at the records before anything is made of them."""
        scene = self.scene
        splits = Splits(scene.members, scene.nonmembers, scene.public)
        captured = isinstance(scene, Capture) or (isinstance(scene, Federation) and scene.captured is not None)
        # A client's batch may be one record, or of one class: it is no data set to be split.
        checks = [] if scene.spec is None or captured else check_splits(splits, scene.spec)
        if splits.nonmembers is not None and not captured:
            checks.append(blind_baseline(splits.members, splits.nonmembers, derive(self.seed, "blind")))
        knows = (
            None
            if self.brought is None or not len(scene.members)
            else self.brought.check(splits.members, splits.nonmembers, self.seed)
        )
        if knows is not None:
            checks.append(knows)
        write_json(folder.path / "checks.json", [check.model_dump(mode="json") for check in checks])

    def read_checks(self, folder: RunFolder) -> list[Check]:
        found = [*read_json(folder.path / "checks.json"), *read_json(folder.path / "facts.json").get("checks", [])]
        return [Check.model_validate(check) for check in found]

    @property
    def has_judge(self) -> bool:
        """Whether reconstructions are shown to a judge, which is then tried too."""
        return isinstance(self.scene, World) and self.scene.judge_missing is None

    @property
    def has_preflight(self) -> bool:
        """Whether there are updates to be looked at before they are attacked."""
        return Access.UPDATES in closure(self.offers())

    def preflights(self, plan: Plan, stage: Stage) -> list[Preflight]:
        """What can be expected of the attacks on updates; none for another victim."""
        if not self.has_preflight:
            return []
        return preflights(lambda form, arm: stage.case(Leak.GRADIENT, form, arm), plan, self.wanted)

    def write_preflight(self, folder: RunFolder, plan: Plan, stage: Stage) -> None:
        found = [part.model_dump(mode="json") for part in self.preflights(plan, stage)]
        write_json(folder.path / "preflight.json", found)

    def read_preflight(self, folder: RunFolder) -> list[Preflight]:
        if not self.has_preflight:
            return []
        return [Preflight.model_validate(part) for part in read_json(folder.path / "preflight.json")]

    def write_facts(self, folder: RunFolder) -> None:
        """What the record says of victim, records and judge."""
        found = facts_of(self.scene)
        facts = {
            "victim": {**self.victim_facts, **found.victim},
            "data": self.data_facts,
            "judge": found.judge,
            "checks": [check.model_dump(mode="json") for check in found.checks],
        }
        write_json(folder.path / "facts.json", facts)

    def read_facts(self, folder: RunFolder) -> dict[str, Facts]:
        return read_json(folder.path / "facts.json")


def from_config(
    config: AuditConfig,
    content: dict[str, Any],
    *,
    base: Path,
    out: Path | None = None,
    trust_pickle: bool = False,
    text: str | None = None,
    index_url: str | None = None,
) -> Setting:
    """The setting of an audit file.

    Args:
        config: the file, checked.
        content: the file, as written.
        base: folder that relative paths in the file start from.
        out: folder of the runs, instead of the file's.
        trust_pickle: whether model files may run code.
        text: the file's text.
        index_url: database of the index, instead of a file beside the runs.

    Raises:
        ConfigError, DataError, ModelError: for what cannot be used.
    """
    if config.victim.kind == "encoder":
        return _of_texts(config, content, base=base, out=out, trust_pickle=trust_pickle, text=text, index_url=index_url)
    declared = None if config.victim.input is None else config.victim.input.spec()
    runs, table = out or Path(config.run.out), config.victim
    if table.kind == "update":
        spec = spec_of(declared, config.data, base)
        brought = from_table(config.prior, spec, runs / "priors", base)
        made, splits = _captured(config, spec, base, trust_pickle, brought)
    else:
        splits = read_data(config.data, declared, config.seed, base)
        spec = declared or infer_spec(splits)
        splits = checked(splits, spec, config.data.overlap)
        brought = from_table(config.prior, spec, runs / "priors", base)
        given = Given(config, declared, spec, splits, runs, base, trust_pickle, brought)
        made = _federation(given) if table.kind == "federated" else _classifier(given)
    identity = {
        "packages": packages(),
        **splits_identity(splits),
        "spec": spec_identity(spec),
        "judge": config.judge.kind,
        "prior": brought.identity,
        **made.identity,
    }
    name = table.name or made.name
    return Setting(
        title=config.title or f"Audit of {name}",
        seed=config.seed,
        access=made.access,
        budget=table.budget,
        wanted=[wanted for table in config.attack for wanted in wanted_by(table)],
        arms=[Arm(), *(Arm(make_defense(table), table.aware) for table in config.defense)],
        gates=config.gate,
        tolerance=config.verdict.tolerance,
        out=runs,
        processes=config.run.processes,
        scene=made.scene,
        offers=made.offers,
        identity=identity,
        victim_facts={"name": name, "kind": table.kind, **made.facts},
        data_facts={**data_facts(splits), **({"class_noun": config.data.noun} if config.data.noun else {})},
        as_written=content,
        as_resolved=config.resolved(),
        reusable=table.kind not in ("http", "callable"),
        resumable=True,
        respawn={"content": content, "base": str(base), "out": str(runs), "trust_pickle": trust_pickle},
        text=text,
        index_url=index_url,
        brought=brought,
        most=table.top_k,
        kept=made.kept,
    )


@dataclass(frozen=True)
class Given:
    """What an audit file gave, read: what a scene is made of."""

    config: AuditConfig
    declared: InputSpec | None
    spec: InputSpec
    splits: Splits
    runs: Path
    base: Path
    trust_pickle: bool
    brought: Brought


@dataclass(frozen=True)
class _Made:
    """A scene, and what is to be said of it."""

    scene: Scene
    name: str
    identity: Mapping[str, Any]
    access: Access
    offers: Callable[[], frozenset[Access]]
    kept: Callable[[str], Path | None] = field(default=lambda name: None)
    facts: Facts = field(default_factory=dict[str, float | str | None])


def _captured(
    config: AuditConfig, spec: InputSpec, base: Path, trust_pickle: bool, brought: Brought
) -> tuple[_Made, Splits]:
    """A captured update: its records, if there are any, are the batch itself."""
    table = config.victim
    if "access" in table.model_fields_set and table.access is not Access.UPDATES:
        raise ConfigError(f"[victim] access: a captured update gives 'updates', not '{table.access}'")
    options = victim_options(config, base)
    found = from_file(config, options, spec, base, trust_pickle, brought.shelf)
    scene, name = found.scene, str(options.get("net") or where_from(options))
    made = _Made(
        scene,
        f"an update of {name}",
        {"captured": found.digest},
        Access.UPDATES,
        lambda: scene.offers,
        facts=found.facts,
    )
    return made, Splits(scene.members, scene.nonmembers, scene.public)


def _federation(given: Given) -> _Made:
    config, table = given.config, given.config.victim
    scene, told = federation(
        config.federated or FederatedTable(),
        {**victim_options(config, given.base)},
        given.spec,
        given.splits,
        given.brought.shelf,
        config.seed,
        given.trust_pickle,
    )
    granted = table.access if "access" in table.model_fields_set else Access.UPDATES
    if granted not in (Access.UPDATES, Access.ROUNDS):
        raise ConfigError(
            f"[victim] access: of a federation the adversary sees 'updates', or it leads the 'rounds' with models of "
            f"its own (a malicious server); not '{table.access}'"
        )
    identity = {"victim": {"kind": table.kind, **fingerprints(table.options)}, "federated": told}
    name = str(table.options.get("net") or where_from(table.options))
    return _Made(scene, name, identity, granted, lambda: scene.offers)


def _classifier(given: Given) -> _Made:
    config, spec, splits = given.config, given.spec, given.splits
    if config.federated is not None:
        raise ConfigError('[federated] belongs to [victim] kind = "federated"')
    kept = given.runs / "models"
    trainer = None if config.recipe is None else Trainer.named(config.recipe.fit, config.recipe.options)
    recipe = None if trainer is None else trainer.recipe(spec, splits.members, kept)
    table = config.victim
    options = victim_options(config, given.base)
    if table.kind == "recipe":
        if options:
            raise ConfigError(
                f"[victim] unknown key '{next(iter(options))}': a recipe's own options go under [recipe] options"
            )
        if recipe is None:
            raise ConfigError('[victim] kind = "recipe" needs a [recipe]')
        open_it = _from_recipe(recipe, splits, config.seed)
    else:

        def open_it() -> Model:
            return open_victim(
                table.kind, spec, {**options, **classes_like(table.kind, options, splits)}, given.trust_pickle
            )

    world = World(
        open_victim=open_it,
        spec=spec,
        members=splits.members,
        nonmembers=splits.nonmembers,
        public=splits.public,
        recipe=recipe,
        judge_kind=config.judge.kind,
        adversary_spec=known_spec(given.declared, splits, spec),
        priors=given.brought.shelf,
        seed=config.seed,
    )

    def where(name: str) -> Path | None:
        if trainer is None:
            return None
        if name == "victim":
            wants = table.kind == "recipe"
            return trainer.kept_at(splits.members, derive(config.seed, "victim"), spec, kept) if wants else None
        records = world.twin_records
        return None if records is None else trainer.kept_at(records, derive(config.seed, "victim"), spec, kept)

    def offers() -> frozenset[Access]:
        # A victim that is yet to be trained is believed to give what the file grants.
        return closure([table.access]) if table.kind == "recipe" else world.victim.offers

    return _Made(
        scene=world,
        name=trainer.name if table.kind == "recipe" and trainer is not None else where_from(options),
        identity={
            "victim": {"kind": table.kind, **fingerprints(options)},
            "recipe": None if trainer is None else trainer.identity,
        },
        access=table.access,
        offers=offers,
        kept=where,
    )


def _of_texts(
    config: AuditConfig,
    content: dict[str, Any],
    *,
    base: Path,
    out: Path | None,
    trust_pickle: bool,
    text: str | None,
    index_url: str | None,
) -> Setting:
    """The setting of an audit file whose victim is an encoder of texts."""
    found = sentences.from_file(config, base)
    table, runs = config.victim, out or Path(config.run.out)
    return Setting(
        title=config.title or f"Audit of {found.name}",
        seed=config.seed,
        # Vectors are all that an encoder gives: the default of classifiers is not meant.
        access=table.access if "access" in table.model_fields_set else Access.EMBEDDINGS,
        budget=table.budget,
        wanted=[wanted for table in config.attack for wanted in wanted_by(table)],
        arms=[Arm(), *(Arm(make_defense(table), table.aware) for table in config.defense)],
        gates=config.gate,
        tolerance=config.verdict.tolerance,
        out=runs,
        processes=config.run.processes,
        scene=found.scene,
        offers=lambda: found.scene.offers,
        identity=found.identity,
        victim_facts={"name": found.name, "kind": found.kind},
        data_facts=found.data_facts,
        as_written=content,
        as_resolved=config.resolved(),
        reusable=found.known,
        resumable=True,
        respawn={"content": content, "base": str(base), "out": str(runs), "trust_pickle": trust_pickle},
        text=text,
        index_url=index_url,
        most=table.top_k,
    )


def _from_recipe(recipe: Any, splits: Splits, seed: int) -> Callable[[], Model]:
    def open_it() -> Model:
        return recipe.fit(np.arange(len(splits.members)), derive(seed, "victim"))

    return open_it
