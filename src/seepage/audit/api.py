"""`seepage.audit`: the product. The command line calls `audit_file`, which is the same on an audit file."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from seepage.audit import sentences
from seepage.audit.asked import Named, arms_of, attacks_of, check_numbers, check_references, gates_of
from seepage.audit.canaries import Given, Told, canaries_identity, canary_facts, told_of, written
from seepage.audit.config import AuditConfig, read
from seepage.audit.priors import Brought, from_python
from seepage.audit.property import Asked, asked, table_of
from seepage.audit.property import group as group_of
from seepage.audit.property import told as told_of_group
from seepage.audit.records import checked, data_facts, known_spec, packages, spec_identity, splits_identity
from seepage.audit.references import models_for, references_of
from seepage.audit.run import execute
from seepage.audit.scenery import Staged
from seepage.audit.setting import Setting, from_config
from seepage.audit.training import Trainer
from seepage.cases.world import World
from seepage.core.attack import Attack
from seepage.core.canaries import Canaries, Claim
from seepage.core.defense import Defense
from seepage.core.errors import ConfigError, did_you_mean
from seepage.core.progress import Listener
from seepage.core.record import AuditRecord
from seepage.core.records import Splits
from seepage.core.secrets import Judge
from seepage.core.seeds import derive
from seepage.core.spec import InputSpec
from seepage.core.victim import Model, TextEncoder
from seepage.core.vocabulary import Access, Task
from seepage.data import Reading, as_splits
from seepage.data.profile import known_columns
from seepage.data.texts import are_texts
from seepage.store.where import index_url
from seepage.targets import infer_spec, takes_tables, task_told, wrap

_OVERLAPS = ("refuse", "drop")


def setting_of_file(
    file: Path | str,
    settings: Sequence[str] = (),
    *,
    out: Path | None = None,
    trust_pickle: bool = False,
) -> tuple[Setting, AuditConfig]:
    """The setting of an audit file. Import paths in it may name modules beside the file or in the working folder.

    Raises:
        SeepageError: for what cannot be used.
    """
    path = Path(file)
    config, content = read(path, settings)
    if config.sweep is not None:
        raise ConfigError(
            f"{path} has a [sweep] of many audits: run `seepage sweep {path}`; for a single audit, leave [sweep] out"
        )
    base = path.resolve().parent
    import_from(base)
    setting = from_config(
        config,
        content,
        base=base,
        out=out,
        trust_pickle=trust_pickle,
        text=path.read_text(encoding="utf-8"),
        index_url=index_url(),
    )
    return setting, config


def import_from(base: Path) -> None:
    """Let import paths name modules in the working folder and in `base`."""
    for place in (str(Path.cwd()), str(base)):
        if place not in sys.path:
            sys.path.append(place)


def audit_file(
    file: Path | str,
    settings: Sequence[str] = (),
    *,
    out: Path | None = None,
    trust_pickle: bool = False,
    fresh: bool = False,
    processes: int | None = None,
    progress: Listener | None = None,
) -> tuple[AuditRecord, AuditConfig]:
    """Carry out the audit that a TOML file describes.

    Args:
        file: the audit file.
        settings: changes to it, as "a.b=c".
        out: folder of the runs, instead of the file's.
        trust_pickle: whether pickled models may be loaded; a pickle runs code.
        fresh: take up no unfinished run and use no earlier finding.
        processes: worker processes, instead of the file's; the record does not depend on it.
        progress: called with progress.

    Returns:
        The record, and the configuration it came from.

    Raises:
        SeepageError: for what cannot be used. An attack that fails is a finding, not an error.
    """
    setting, config = setting_of_file(file, settings, out=out, trust_pickle=trust_pickle)
    if processes is not None:
        setting = replace(setting, processes=processes)
    return execute(setting, progress, fresh), config


def audit(
    model: Any,
    *,
    members: Any,
    nonmembers: Any = None,
    public: Any = None,
    recipe: Callable[..., Any] | str | None = None,
    references: int | None = None,
    attacks: Attack | Named | Sequence[Attack | Named] = "auto",
    defenses: Defense | Named | Sequence[Defense | Named] = (),
    access: Access | str = "scores",
    budget: int | None = None,
    top_k: int = 5,
    seed: int = 0,
    out: Path | str = "runs",
    progress: Listener | None = None,
    judge: Judge | None = None,
    prior: Any = None,
    canaries: Canaries | Mapping[str, Any] | Path | str | None = None,
    claim: Claim | Mapping[str, Any] | float | None = None,
    property: Mapping[str, Any] | None = None,
    input: InputSpec | None = None,
    target: str | Sequence[str] | None = None,
    task: Task | str | None = None,
    reading: Reading | None = None,
    overlap: str = "refuse",
    gate: Mapping[str, float] | None = None,
    groups: Sequence[str] = (),
    tolerance: float = 0.10,
    title: str = "",
    trust_pickle: bool = False,
    fresh: bool = False,
    **options: Any,
) -> AuditRecord:
    """Measure what a model gives away about the records it was trained on.

    Args:
        model: a victim, or anything `seepage.targets.wrap` knows: a torch module, a scikit-learn
            estimator, the path of a model file, a URL, a function from records to scores. Where the members are
            texts: the folder of a sentence encoder, or a function from texts to vectors. None trains one by the
            recipe.
        members: what it was trained on: `(x, y)` arrays or tensors, a DataFrame, a torch Dataset, a
            folder of images, a CSV, Parquet or `.npz` file, a Hugging Face dataset on disk. For an encoder, a
            list of the texts whose vectors have leaked.
        nonmembers: records of the same kind and classes that it was not trained on. Needed for
            membership, and to train the judge of inversion.
        public: what the adversary may own: other people's records, with or without classes.
        recipe: how the model was trained, `(x, y, seed) -> model`, or the name of a built-in recipe;
            the null twin is trained with it. Without one, that control is named as missing.
        references: how many reference models the adversary trains with the recipe, an even number; they serve all
            attacks on membership that need them. None trains 16 where such an attack is named, and none otherwise.
        attacks: "auto" for all that access, modality and knowledge allow and that take seconds, "all" for the
            thorough ones too (they train generators: minutes); or names, `{"name": ...,
            parameter: value}` tables, or attacks.
        defenses: each is one more arm: the victim behind it, attacked by an adversary who knows it.
        access: what the adversary is granted: "labels", "top_k", "scores", "logits", "embeddings", "weights".
        budget: the greatest number of queries an attack may ask, or None.
        top_k: how many classes an adversary sees who is granted "top_k" of a model that gives all.
        seed: decides every draw; the same seed gives the same record.
        out: folder in which the run gets a folder of its own.
        progress: called with `seepage.core.progress.Progress`.
        judge: who recognises reconstructions, when there is one at hand that is independent of the model.
        prior: what the adversary knows of records in general, when it is brought along: the path of an artefact
            of `seepage prior train`, or a prior (`seepage.models.priors.own_prior` wraps a generator).
        canaries: records that fair coins put into the training data: the manifest of `seepage corpus canaries` (the
            members are then the data that it wrote), `{"count": 500, "kind": "mislabelled"}` to insert some where
            the recipe trains the victim (`model` None), or `Canaries` of your own.
        claim: the privacy that is claimed of the training, held against what the canaries show: epsilon, or
            `{"epsilon": 8, "delta": 1e-5, "family": "any"}`.
        property: a group of records whose share of the members is asked about: a table with the keys of `[property]`,
            or with one truth value a record for each split, `{"members": flags, "public": flags}`. Needs a recipe and
            public records.
        input: shape, value range and preprocessing of one input; read off the records when not given.
        target: for tables, the column that holds the class, or the columns of what the model predicts.
        task: what the model predicts: "classes", "values" (numbers) or "labels" (for each label whether it applies);
            told from a scikit-learn estimator when not given, else classes.
        reading: further options of how records are read (`drop`, `encode`, `missing`, `size`, ...).
        overlap: what is done with non-members that equal a member: "refuse", or "drop" to leave them out.
        gate: leak -> leakage whose upper bound must not be exceeded.
        groups: columns of a table whose values are groups of records that membership is looked at in.
        tolerance: upper bound of leakage below which "no leak found" is said.
        title: of the report.
        trust_pickle: whether pickled models may be loaded; a pickle runs code.
        fresh: take up no unfinished run and use no earlier finding.
        options: further arguments of the adapter (`classes=`, `outputs=`, `headers=`, ...).

    Returns:
        The record; it lies in `record.folder`, where `seepage.report.write_reports` puts the report.

    Raises:
        SeepageError: for what cannot be used. An attack that fails is a finding, not an error.
    """
    try:
        granted = Access(access)
    except ValueError as error:
        raise ConfigError(f"access: unknown '{access}': {did_you_mean(str(access), list(Access))}") from error
    check_numbers(budget, seed, tolerance, top_k)
    check_references(references, recipe)
    if overlap not in _OVERLAPS:
        raise ConfigError(f"overlap: unknown {overlap!r}: {did_you_mean(str(overlap), _OVERLAPS)}")
    if are_texts(members) or isinstance(model, TextEncoder):
        unused = {"nonmembers": nonmembers, "recipe": recipe, "judge": judge, "prior": prior, "property": property}
        for name, given in {**unused, "canaries": canaries, "claim": claim}.items():
            if given is not None:
                raise ConfigError(f"{name}: the audit of an encoder of texts has no use for it: leave it out")
        live = sentences.from_python(model, members, public, seed, reading or Reading(), options, granted)
    else:
        wanted, flags = (None, {}) if property is None else table_of(property)
        whole = None if wanted is not None and wanted.dropped else input
        read_as = replace(reading or Reading(), **({} if target is None else {"target": target}))
        read_as = replace(read_as, task=task or read_as.task or (None if model is None else task_told(model)))
        own = model is not None and takes_tables(model)
        splits = as_splits(members, nonmembers, public, spec=whole, reading=read_as, own=own)
        found = None if wanted is None else asked(wanted, splits, flags, seed, trains=model is None)
        splits = splits if found is None else found.splits
        spec = input or infer_spec(splits)
        splits = checked(splits, spec, overlap)
        found = None if found is None else found.after(splits)
        trainer = _trainer(recipe)
        told = told_of(canaries, claim, Given(splits, members, input, spec, read_as, seed), trainer, model is None)
        splits, spec = told.splits, told.spec
        if model is None and trainer is None:
            raise ConfigError("model: a model was wanted, or a recipe that trains one (recipe=), got neither")
        if model is None and options:
            raise ConfigError(f"unknown argument '{next(iter(options))}': a model that the recipe trains takes none")
        victim = None if model is None else wrap(model, spec, like=splits, trust_pickle=trust_pickle, **options)
        brought = from_python(prior, spec, Path(out) / "priors")
        models = models_for(references, attacks_of(attacks))
        live = _of_records(
            victim, splits, spec, input, trainer, found, models, judge, brought, Path(out), seed, granted, groups, told
        )
    named = str(model) if isinstance(model, str | Path) else type(model).__name__
    if model is None:
        named = recipe if isinstance(recipe, str) else getattr(recipe, "__qualname__", type(recipe).__name__)
    setting = live_setting(
        replace(live, name=named),
        {"model": named, "access": str(granted), "budget": budget, "seed": seed, **written(canaries, claim)},
        attacks=attacks,
        defenses=defenses,
        budget=budget,
        top_k=top_k,
        seed=seed,
        out=Path(out),
        gate=gate,
        tolerance=tolerance,
        title=title or f"Audit of {named}",
    )
    return execute(setting, progress, fresh)


def live_setting(
    live: Staged,
    written: Mapping[str, Any],
    *,
    attacks: Attack | Named | Sequence[Attack | Named],
    defenses: Defense | Named | Sequence[Defense | Named],
    budget: int | None,
    top_k: int,
    seed: int,
    out: Path,
    gate: Mapping[str, float] | None,
    tolerance: float,
    title: str,
) -> Setting:
    """The setting of a call: a scene of live objects, which no other process can rebuild.

    Args:
        live: the scene.
        written: what the call said of it, for the record.
        attacks: as for `audit`.
        defenses: as for `audit`.
        budget: as for `audit`.
        top_k: as for `audit`.
        seed: as for `audit`.
        out: as for `audit`.
        gate: as for `audit`.
        tolerance: as for `audit`.
        title: of the report.

    Raises:
        ConfigError: for an attack, defense or gate that cannot be used.
    """
    wanted, arms = attacks_of(attacks), arms_of(defenses)
    whole = {
        **written,
        "attack": [{"name": w.attack.name, **w.attack.model_dump(mode="json")} for w in wanted],
        "defense": [{"name": a.name, **a.params} for arm in arms for a in arm.applied],
        "gate": dict(gate or {}),
        "verdict": {"tolerance": tolerance},
    }
    return Setting(
        title=title,
        seed=seed,
        access=live.access,
        budget=budget,
        wanted=wanted,
        arms=arms,
        gates=gates_of(gate or {}),
        tolerance=tolerance,
        out=out,
        processes=1,
        scene=live.scene,
        offers=live.offers,
        identity=live.identity,
        victim_facts={"name": live.name, "kind": live.kind, **live.victim_facts},
        data_facts=live.data_facts,
        as_written=whole,
        as_resolved=whole,
        reusable=live.known,
        resumable=live.known,
        index_url=index_url(),
        brought=live.brought,
        most=top_k,
    )


def _of_records(
    victim: Model | None,
    splits: Splits,
    spec: InputSpec,
    declared: InputSpec | None,
    trainer: Trainer | None,
    found: Asked | None,
    models: int,
    judge: Judge | None,
    brought: Brought,
    out: Path,
    seed: int,
    access: Access,
    groups: Sequence[str],
    told: Told,
) -> Staged:
    recipe = None if trainer is None else trainer.recipe(spec, splits.members, out / "models")

    def open_it() -> Model:
        if victim is not None or recipe is None:
            return wrap(victim, spec)
        whole = recipe if told.canaries is None else told.canaries.into(recipe)
        return wrap(whole.fit(np.arange(len(splits.members)), derive(seed, "victim")), spec)

    if found is not None and recipe is None:
        raise ConfigError("property: models are trained at other shares of the group: give the recipe of the model")
    group = None if found is None or recipe is None else group_of(found, recipe, seed)
    world = World(
        open_victim=open_it,
        spec=spec,
        members=splits.members,
        nonmembers=splits.nonmembers,
        public=splits.public,
        recipe=recipe,
        own_judge=judge,
        adversary_spec=known_spec(declared, splits, spec),
        priors=brought.shelf,
        references=references_of(trainer, spec, splits, models, seed, out, os.cpu_count() or 1),
        groups=known_columns(groups, splits.members),
        canaries=told.canaries,
        claim=told.claim,
        group=group,
        seed=seed,
    )
    # A victim that is yet to be trained is told by its recipe.
    fingerprint = "recipe" if victim is None else getattr(victim, "fingerprint", None)
    identity = {
        "packages": packages(),
        **splits_identity(splits),
        "spec": spec_identity(spec),
        "victim": fingerprint,
        # A live callable is nobody's but this call's.
        "recipe": None if trainer is None else trainer.identity or f"live {uuid4().hex}",
        "references": models,
        "groups": list(groups),
        "judge": "auto" if judge is None else "own",
        "prior": brought.identity,
        **canaries_identity(told.canaries, told.claim),
        **({} if found is None else {"property": found.identity}),
    }
    known = fingerprint is not None and (trainer is None or trainer.identity is not None) and judge is None
    kind = "recipe" if victim is None else type(victim).__name__
    facts = {**data_facts(splits), **canary_facts(told.canaries), **({} if group is None else told_of_group(group))}
    return Staged(world, kind, kind, identity, access, facts, known=known, brought=brought)


def _trainer(recipe: Callable[..., Any] | str | None) -> Trainer | None:
    if recipe is None:
        return None
    if isinstance(recipe, str):
        return Trainer.named(recipe, {})
    if not callable(recipe):
        raise ConfigError(f"recipe: a function (x, y, seed) -> model was wanted, got a {type(recipe).__name__}")
    return Trainer.of(recipe)
