"""The scene of an audit file, of whatever kind its victim is, with what is to be said of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seepage.audit.asked import wanted_by
from seepage.audit.canaries import (
    canaries_identity,
    canary_facts,
    check_trainer,
    claim_of,
    default_claim,
    staged_canaries,
    trained,
    widened,
)
from seepage.audit.captured import captured_name, from_file, spec_of
from seepage.audit.captured_texts import from_file as from_captured_texts
from seepage.audit.config import CAPTURED, AuditConfig
from seepage.audit.federated import federation
from seepage.audit.options import classes_like, fingerprints, victim_options, where_from
from seepage.audit.priors import Brought, from_table
from seepage.audit.property import Asked
from seepage.audit.property import asked as asked_property
from seepage.audit.property import group as group_of
from seepage.audit.property import told as told_of_group
from seepage.audit.records import (
    beside,
    checked,
    data_facts,
    known_spec,
    packages,
    read_data,
    reading_of,
    spec_identity,
    splits_identity,
)
from seepage.audit.references import models_for, references_of
from seepage.audit.scenery import Staged
from seepage.audit.sentences import from_file as from_texts
from seepage.audit.tables import FederatedTable
from seepage.audit.text_clients import from_file as from_text_clients
from seepage.audit.text_clients import trains_on_texts
from seepage.audit.training import Trainer
from seepage.cases.world import World
from seepage.core.errors import ConfigError
from seepage.core.records import Splits
from seepage.core.seeds import derive
from seepage.core.spec import InputSpec
from seepage.core.victim import Model
from seepage.core.vocabulary import Access, Task, closure
from seepage.data import Reading
from seepage.data.profile import known_columns
from seepage.targets import infer_spec, open_victim


def staged(config: AuditConfig, *, base: Path, runs: Path, trust_pickle: bool = False) -> Staged:
    """The scene of an audit file: records read, nothing trained, opened or asked.

    Args:
        config: the file, checked.
        base: folder that relative paths in the file start from.
        runs: folder of the runs, where priors and models are kept.
        trust_pickle: whether model files may run code.

    Raises:
        ConfigError, DataError, ModelError: for what cannot be used.
    """
    if config.victim.kind == "encoder":
        return from_texts(config, base)
    if config.victim.kind in ("federated", *CAPTURED) and trains_on_texts(config):
        if config.victim.kind in CAPTURED:
            return from_captured_texts(config, base, trust_pickle)
        return from_text_clients(config, base)
    makers = {"update": _captured, "flower": _captured, "federated": _federation}
    return makers.get(config.victim.kind, _classifier)(Given(config, base, runs, trust_pickle))


@dataclass(frozen=True)
class Given:
    """An audit file, and where it stands."""

    config: AuditConfig
    base: Path
    runs: Path
    trust_pickle: bool

    @property
    def declared(self) -> InputSpec | None:
        return None if self.config.victim.input is None else self.config.victim.input.spec()

    def read(self) -> tuple[InputSpec, Splits]:
        """One input, and the records, checked."""
        spec, splits, _ = self.read_with_property()
        return spec, splits

    def read_with_property(self) -> tuple[InputSpec, Splits, Asked | None]:
        """The same with the property that is asked about, whose column the model may not see."""
        table, seed = self.config.property, self.config.seed
        whole = None if table is not None and table.dropped else self.declared
        own = self.config.victim.kind == "sklearn"
        splits = read_data(self.config.data, whole, seed, self.base, own)
        if splits.members.task is not Task.CLASSES and self.config.victim.kind == "federated":
            raise ConfigError("[data] task: the clients of a federation are told classes: leave it out")
        found = None
        if table is not None:
            found = asked_property(table, splits, {}, seed, self.config.victim.kind == "recipe")
            splits = found.splits
        spec = self.declared or infer_spec(splits)
        splits = checked(splits, spec, self.config.data.overlap)
        return spec, splits, None if found is None else found.after(splits)

    def brought(self, spec: InputSpec) -> Brought:
        """The priors."""
        return from_table(self.config.prior, spec, self.runs / "priors", self.base)

    def identity(self, splits: Splits, spec: InputSpec, brought: Brought) -> dict[str, Any]:
        """What decides the results, whatever the victim."""
        return {
            "packages": packages(),
            **splits_identity(splits),
            "spec": spec_identity(spec),
            "judge": self.config.judge.kind,
            "prior": brought.identity,
        }


def _captured(given: Given) -> Staged:
    """A captured update: its records, if there are any, are the batch itself."""
    config, table = given.config, given.config.victim
    spec = spec_of(given.declared, config.data, given.base)
    brought = given.brought(spec)
    if "access" in table.model_fields_set and table.access is not Access.UPDATES:
        raise ConfigError(f"[victim] access: a captured update gives 'updates', not '{table.access}'")
    options = victim_options(config, given.base)
    found = from_file(config, options, spec, given.base, given.trust_pickle, brought.shelf)
    scene = found.scene
    splits = Splits(scene.members, scene.nonmembers, scene.public)
    return Staged(
        scene,
        name=table.name or captured_name(table.kind, options, found.facts),
        kind=table.kind,
        identity={**given.identity(splits, spec, brought), "captured": found.digest},
        access=Access.UPDATES,
        data_facts=data_facts(splits),
        victim_facts=found.facts,
        brought=brought,
    )


def _federation(given: Given) -> Staged:
    config, table = given.config, given.config.victim
    spec, splits = given.read()
    brought = given.brought(spec)
    scene, told = federation(
        config.federated or FederatedTable(),
        {**victim_options(config, given.base)},
        spec,
        splits,
        brought.shelf,
        config.seed,
        given.trust_pickle,
    )
    granted = table.access if "access" in table.model_fields_set else Access.UPDATES
    if granted not in (Access.UPDATES, Access.ROUNDS):
        raise ConfigError(
            f"[victim] access: of a federation the adversary sees 'updates', or it leads the 'rounds' with models of "
            f"its own (a malicious server); not '{table.access}'"
        )
    return Staged(
        scene,
        name=table.name or str(table.options.get("net") or where_from(table.options)),
        kind=table.kind,
        identity={
            **given.identity(splits, spec, brought),
            "victim": {"kind": table.kind, **fingerprints(victim_options(config, given.base))},
            "federated": told,
        },
        access=granted,
        data_facts=data_facts(splits),
        brought=brought,
    )


def _classifier(given: Given) -> Staged:
    config = given.config
    if config.federated is not None:
        raise ConfigError('[federated] belongs to [victim] kind = "federated"')
    spec, splits, found = given.read_with_property()
    splits, canaries = staged_canaries(
        config.canaries,
        splits,
        None if config.data.members is None else beside(config.data.members, given.base),
        given.declared,
        Reading() if config.data.builtin is not None else reading_of(config.data),
        config.seed,
        given.base,
        made_here=config.victim.kind == "recipe",
    )
    spec = given.declared or widened(spec, splits, canaries)
    brought = given.brought(spec)
    kept = given.runs / "models"
    trainer = None if config.recipe is None else Trainer.named(config.recipe.fit, config.recipe.options)
    check_trainer(trainer, canaries)
    recipe = None if trainer is None else trainer.recipe(spec, splits.members, kept)
    asked = None if config.references is None else config.references.models
    models = models_for(asked, [wanted for listed in config.attack for wanted in wanted_by(listed)])
    claim = claim_of(config.claim) or default_claim(trainer, canaries, len(splits.members))
    table = config.victim
    options = victim_options(config, given.base)
    if table.kind == "recipe":
        if options:
            raise ConfigError(
                f"[victim] unknown key '{next(iter(options))}': a recipe's own options go under [recipe] options"
            )
        if recipe is None:
            raise ConfigError('[victim] kind = "recipe" needs a [recipe]')
        open_it = _from_recipe(recipe if canaries is None else canaries.into(recipe), splits, config.seed)
    else:

        def open_it() -> Model:
            members = splits.members
            told = {**options, **classes_like(table.kind, options, splits)}
            return open_victim(
                table.kind, spec, told, given.trust_pickle, task=members.task, count=members.width, like=members
            )

    group = None if found is None or recipe is None else group_of(found, recipe, config.seed)
    world = World(
        open_victim=open_it,
        spec=spec,
        members=splits.members,
        nonmembers=splits.nonmembers,
        public=splits.public,
        recipe=recipe,
        judge_kind=config.judge.kind,
        adversary_spec=known_spec(given.declared, splits, spec),
        priors=brought.shelf,
        references=references_of(trainer, spec, splits, models, config.seed, given.runs),
        groups=known_columns(config.report.groups, splits.members),
        canaries=canaries,
        claim=claim,
        group=group,
        seed=config.seed,
    )

    def where(name: str) -> Path | None:
        if trainer is None:
            return None
        if name == "victim":
            wants = table.kind == "recipe"
            whole, by = trained(splits.members, trainer, canaries)
            return by.kept_at(whole, derive(config.seed, "victim"), spec, kept) if wants else None
        records = world.twin_records
        return None if records is None else trainer.kept_at(records, derive(config.seed, "victim"), spec, kept)

    def offers() -> frozenset[Access]:
        # A victim that is yet to be trained is believed to give what the file grants.
        return closure([table.access]) if table.kind == "recipe" else world.victim.offers

    named = trainer.name if table.kind == "recipe" and trainer is not None else where_from(options)
    return Staged(
        scene=world,
        name=table.name or named,
        kind=table.kind,
        identity={
            **given.identity(splits, spec, brought),
            "victim": {"kind": table.kind, **fingerprints(options)},
            "recipe": None if trainer is None else trainer.identity,
            "references": models,
            "groups": config.report.groups,
            **canaries_identity(canaries, claim),
            **({} if found is None else {"property": found.identity}),
        },
        access=table.access,
        data_facts={
            **data_facts(splits),
            **canary_facts(canaries),
            **({} if group is None else told_of_group(group)),
        },
        opened=offers,
        known=table.kind not in ("http", "callable"),
        brought=brought,
        kept=where,
    )


def _from_recipe(recipe: Any, splits: Splits, seed: int) -> Callable[[], Model]:
    def open_it() -> Model:
        return recipe.fit(np.arange(len(splits.members)), derive(seed, "victim"))

    return open_it
