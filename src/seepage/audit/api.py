"""`seepage.audit`: the product. The command line calls `audit_file`, which is the same on an audit file."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from pydantic import BaseModel, ValidationError

from seepage.audit import sentences
from seepage.audit.asked import wanted_by
from seepage.audit.config import AuditConfig, explain, make_defense, read
from seepage.audit.plan import Arm, Wanted
from seepage.audit.priors import Brought, from_python
from seepage.audit.records import checked, data_facts, known_spec, packages, spec_identity, splits_identity
from seepage.audit.run import execute
from seepage.audit.scenery import Staged
from seepage.audit.setting import Setting, from_config
from seepage.audit.tables import AttackTable, DefenseTable
from seepage.audit.training import Trainer
from seepage.cases.world import World
from seepage.core.attack import Attack
from seepage.core.defense import Defense
from seepage.core.errors import ConfigError, did_you_mean
from seepage.core.progress import Listener
from seepage.core.record import AuditRecord
from seepage.core.records import Splits
from seepage.core.secrets import Judge
from seepage.core.spec import InputSpec
from seepage.core.victim import Model, TextEncoder
from seepage.core.vocabulary import Access, Leak, Task
from seepage.data import Reading, as_splits
from seepage.data.texts import are_texts
from seepage.store.where import index_url
from seepage.targets import infer_spec, takes_tables, task_told, wrap

Named = str | Mapping[str, Any]
T = TypeVar("T", bound=BaseModel)
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
    input: InputSpec | None = None,
    target: str | Sequence[str] | None = None,
    task: Task | str | None = None,
    reading: Reading | None = None,
    overlap: str = "refuse",
    gate: Mapping[str, float] | None = None,
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
            texts: the folder of a sentence encoder, or a function from texts to vectors.
        members: what it was trained on: `(x, y)` arrays or tensors, a DataFrame, a torch Dataset, a
            folder of images, a CSV, Parquet or `.npz` file, a Hugging Face dataset on disk. For an encoder, a
            list of the texts whose vectors have leaked.
        nonmembers: records of the same kind and classes that it was not trained on. Needed for
            membership, and to train the judge of inversion.
        public: what the adversary may own: other people's records, with or without classes.
        recipe: how the model was trained, `(x, y, seed) -> model`, or the name of a built-in recipe;
            the null twin is trained with it. Without one, that control is named as missing.
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
        input: shape, value range and preprocessing of one input; read off the records when not given.
        target: for tables, the column that holds the class, or the columns of what the model predicts.
        task: what the model predicts: "classes", "values" (numbers) or "labels" (for each label whether it applies);
            told from a scikit-learn estimator when not given, else classes.
        reading: further options of how records are read (`drop`, `encode`, `missing`, `size`, ...).
        overlap: what is done with non-members that equal a member: "refuse", or "drop" to leave them out.
        gate: leak -> leakage whose upper bound must not be exceeded.
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
    if overlap not in _OVERLAPS:
        raise ConfigError(f"overlap: unknown {overlap!r}: {did_you_mean(str(overlap), _OVERLAPS)}")
    if are_texts(members) or isinstance(model, TextEncoder):
        for name, given in (("nonmembers", nonmembers), ("recipe", recipe), ("judge", judge), ("prior", prior)):
            if given is not None:
                raise ConfigError(f"{name}: the audit of an encoder of texts has no use for it: leave it out")
        live = sentences.from_python(model, members, public, seed, reading or Reading(), options, granted)
    else:
        told = replace(reading or Reading(), **({} if target is None else {"target": target}))
        told = replace(told, task=task or told.task or task_told(model))
        splits = as_splits(members, nonmembers, public, spec=input, reading=told, own=takes_tables(model))
        spec = input or infer_spec(splits)
        splits = checked(splits, spec, overlap)
        victim = wrap(model, spec, like=splits, trust_pickle=trust_pickle, **options)
        brought = from_python(prior, spec, Path(out) / "priors")
        live = _of_records(victim, splits, spec, input, _trainer(recipe), judge, brought, Path(out), seed, granted)
    named = str(model) if isinstance(model, str | Path) else type(model).__name__
    setting = live_setting(
        replace(live, name=named),
        {"model": named, "access": str(granted), "budget": budget, "seed": seed},
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
    victim: Model,
    splits: Splits,
    spec: InputSpec,
    declared: InputSpec | None,
    trainer: Trainer | None,
    judge: Judge | None,
    brought: Brought,
    out: Path,
    seed: int,
    access: Access,
) -> Staged:
    world = World(
        open_victim=lambda: victim,
        spec=spec,
        members=splits.members,
        nonmembers=splits.nonmembers,
        public=splits.public,
        recipe=None if trainer is None else trainer.recipe(spec, splits.members, out / "models"),
        own_judge=judge,
        adversary_spec=known_spec(declared, splits, spec),
        priors=brought.shelf,
        seed=seed,
    )
    fingerprint = getattr(victim, "fingerprint", None)
    identity = {
        "packages": packages(),
        **splits_identity(splits),
        "spec": spec_identity(spec),
        "victim": fingerprint,
        # A live callable is nobody's but this call's.
        "recipe": None if trainer is None else trainer.identity or f"live {uuid4().hex}",
        "judge": "auto" if judge is None else "own",
        "prior": brought.identity,
    }
    known = fingerprint is not None and (trainer is None or trainer.identity is not None) and judge is None
    kind = type(victim).__name__
    return Staged(world, kind, kind, identity, access, data_facts(splits), known=known, brought=brought)


def check_numbers(budget: Any, seed: Any, tolerance: Any, top_k: Any) -> None:
    """The same limits that an audit file has."""
    for name, value, least in (("budget", budget, 1), ("seed", seed, 0), ("top_k", top_k, 1)):
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not (name == "budget" and value is None) and not (whole and value >= least):
            raise ConfigError(f"{name}: a whole number, {least} or more, was wanted, got {value!r}")
    if not _share(tolerance) or tolerance in (0, 1):
        raise ConfigError(f"tolerance: a number between 0 and 1 was wanted, got {tolerance!r}")


def _share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _trainer(recipe: Callable[..., Any] | str | None) -> Trainer | None:
    if recipe is None:
        return None
    if isinstance(recipe, str):
        return Trainer.named(recipe, {})
    if not callable(recipe):
        raise ConfigError(f"recipe: a function (x, y, seed) -> model was wanted, got a {type(recipe).__name__}")
    return Trainer.of(recipe)


def attacks_of(attacks: Attack | Named | Sequence[Attack | Named]) -> list[Wanted]:
    """The attacks asked for, by name, table or object."""
    if isinstance(attacks, str):
        attacks = [attacks]
    if isinstance(attacks, Attack | Mapping):
        attacks = [attacks]
    found: list[Wanted] = []
    for one in attacks:
        if isinstance(one, Attack):
            found.append(Wanted(one))
        else:
            found.extend(wanted_by(_table(AttackTable, one, "attacks")))
    return found


def arms_of(defenses: Defense | Named | Sequence[Defense | Named]) -> list[Arm]:
    """The bare victim, then one arm a defense."""
    listed = [defenses] if isinstance(defenses, str | Mapping | Defense) else defenses
    return [Arm(), *(_arm(defense) for defense in listed)]


def _arm(defense: Defense | Named) -> Arm:
    if isinstance(defense, Defense):
        return Arm(defense)
    table = _table(DefenseTable, defense, "defenses")
    return Arm(make_defense(table), table.aware)


def _table(kind: type[T], named: Any, where: str) -> T:
    if not isinstance(named, str | Mapping):
        raise ConfigError(f"{where}: a name, a table with a name, or an object was wanted, got {named!r}")
    try:
        return kind.model_validate({"name": named} if isinstance(named, str) else dict(named))
    except ValidationError as error:
        raise explain(error, where, {"": kind}) from error


def gates_of(gates: Mapping[str, float]) -> dict[Leak, float]:
    """Thresholds by leak, checked."""
    found: dict[Leak, float] = {}
    for name, threshold in gates.items():
        if name not in set(Leak):
            raise ConfigError(f"gate: unknown leak '{name}': {did_you_mean(name, list(Leak))}")
        if not _share(threshold):
            raise ConfigError(f"gate: a threshold lies between 0 and 1, got {name} = {threshold!r}")
        found[Leak(name)] = threshold
    return found
