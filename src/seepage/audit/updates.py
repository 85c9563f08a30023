"""`seepage.audit_update`: what a server could read out of one update that a client of federated learning sent."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from seepage.audit import captured, captured_texts
from seepage.audit.api import live_setting
from seepage.audit.asked import Named, check_numbers
from seepage.audit.client_texts import text_facts
from seepage.audit.priors import Brought, from_python
from seepage.audit.records import Facts, data_facts, packages, spec_identity, splits_identity
from seepage.audit.round import Round
from seepage.audit.run import execute
from seepage.audit.scenery import Staged
from seepage.audit.sent import Sent, read
from seepage.core.attack import Attack
from seepage.core.defense import Defense
from seepage.core.errors import ConfigError
from seepage.core.progress import Listener
from seepage.core.record import AuditRecord
from seepage.core.records import Splits
from seepage.core.spec import InputSpec
from seepage.core.vocabulary import Access
from seepage.data import Reading
from seepage.models.text_clients import TextNet
from seepage.targets.update_files import Tensors


def audit_update(
    net: nn.Module | TextNet,
    update: Tensors | tuple[Tensors, Tensors],
    *,
    input: InputSpec | None = None,
    kind: str | None = None,
    records: int | None = None,
    clients: int = 1,
    summed: bool = False,
    local_batch: int | None = None,
    epochs: int | None = None,
    rate: float | None = None,
    mode: str | None = None,
    knows: Sequence[str] | None = None,
    classes: int | None = None,
    class_names: Sequence[str] | None = None,
    batch: Any = None,
    nonmembers: Any = None,
    public: Any = None,
    reading: Reading | None = None,
    attacks: Attack | Named | Sequence[Attack | Named] = "auto",
    defenses: Defense | Named | Sequence[Defense | Named] = (),
    prior: Any = None,
    seed: int = 0,
    out: str | Path = "runs",
    progress: Listener | None = None,
    gate: Mapping[str, float] | None = None,
    tolerance: float = 0.10,
    title: str = "",
    trust_pickle: bool = False,
    fresh: bool = False,
) -> AuditRecord:
    """Say whether one update can be read, read it, and say how well what was read explains it.

    Everything about the round that is left out is *not known*: the pre-flight of the record says what follows from
    that, attacks guess it, and their findings say what they guessed.

    Args:
        net: the model, from prepared records (n, *input.shape) to logits (n, classes), at the weights that the server
            sent. Of a pair, the weights before are put into a copy of it. Of texts, a
            `seepage.models.text_clients.TextNet`: a model of the transformers library with its tokenizer and its task.
        update: gradients of the mean loss, or changes of the weights, by parameter: a mapping to tensors or arrays, a
            `.safetensors`, `.pt` or `.npz` file, or a list of arrays in the order of the model (as Flower has it).
            Or a tuple (before, after) of two such: the weights before and after the client trained.
        input: shape, value range and normalisation of one record; not of texts.
        kind: "gradient" or "delta" (after minus before); a pair is a delta, else "gradient" unless said.
        records: how many records the client trained on; each, where it is of several.
        clients: how many clients' updates were put together into it, as a server behind secure aggregation has them.
        summed: whether they were added up; averaged otherwise.
        local_batch: records a local step (a delta); 0 for all of them.
        epochs: passes over the records (a delta).
        rate: learning rate of the local steps (a delta).
        mode: "train" or "eval": how batch normalisation and dropout computed.
        knows: the rungs of the assumption ladder that the adversary is told, of those given here; all of them when
            left out. "labels" and "counts" can be granted where there is a `batch`.
        classes: how many classes; as many as the model answers when left out.
        class_names: what they are called, in the model's order.
        batch: the true records with their classes, numbered as the model numbers them (of texts: a list of them, or
            `(texts, classes)`): then findings are scored as in a simulation. None where nobody here has them: then
            nothing is scored, the verdict is "inconclusive", and each finding says how well its reconstruction
            explains the update (`facts["consistency"]`).
        nonmembers: records like those of the batch, for the control of another batch's update.
        public: what the adversary may own.
        reading: how records are read from files.
        attacks: as for `seepage.audit`: "auto", "all", names, tables or attacks.
        defenses: update defenses, each put before the captured update as one more arm.
        prior: as for `seepage.audit`.
        seed: decides every draw.
        out: folder in which the run gets a folder of its own.
        progress: called with progress, and with the pre-flight once it is known.
        gate: leak -> leakage whose upper bound must not be exceeded.
        tolerance: upper bound of leakage below which "no leak found" is said.
        title: of the report.
        trust_pickle: whether pickled files may be loaded; a pickle runs code.
        fresh: take up no unfinished run and use no earlier finding.

    Returns:
        The record: `record.preflight` answers whether this could work, `record.findings` what came out.

    Raises:
        SeepageError: names or shapes that do not fit the model (the first is named), NaN or infinite values, an
            update of zeros, weights before that are not the model's. An attack that fails is a finding.
    """
    check_numbers(None, seed, tolerance, 1)
    pair = isinstance(update, tuple)
    if pair and kind == "gradient":
        raise ConfigError("kind: weights before and after give a 'delta', not a 'gradient'")
    known = Round(
        kind=kind or ("delta" if pair else "gradient"),
        records=records,
        clients=clients,
        summed=summed,
        local_batch=local_batch,
        epochs=epochs,
        rate=rate,
        mode=mode,
        knows=None if knows is None else tuple(knows),
    )
    given = _Given(
        update, known, batch, nonmembers, public, reading or Reading(), classes, class_names, trust_pickle, seed
    )
    if isinstance(net, TextNet):
        if input is not None or prior is not None:
            raise ConfigError("input and prior are for records that are arrays: a model of texts needs neither")
        live = _of_texts(net, given)
    elif input is not None:
        live = _of_arrays(net, given, input, from_python(prior, input, Path(out) / "priors"))
    else:
        raise ConfigError(_no_input(net))
    setting = live_setting(
        live,
        {
            "net": live.name,
            "kind": known.kind,
            "records": records,
            "clients": clients,
            "summed": summed,
            "local_batch": local_batch,
            "epochs": epochs,
            "rate": rate,
            "mode": mode,
            "seed": seed,
        },
        attacks=attacks,
        defenses=defenses,
        budget=None,
        top_k=5,
        seed=seed,
        out=Path(out),
        gate=gate,
        tolerance=tolerance,
        title=title or f"Audit of an update of {live.name}",
    )
    return execute(setting, progress, fresh)


@dataclass(frozen=True)
class _Given:
    """What an update and its records were given as."""

    update: Tensors | tuple[Tensors, Tensors]
    known: Round
    batch: Any
    nonmembers: Any
    public: Any
    reading: Reading
    classes: int | None
    class_names: Sequence[str] | None
    trust_pickle: bool
    seed: int

    def sent(self, module: nn.Module) -> Sent:
        """The update, held against the module; of a pair, the weights before are put into it."""
        update = read(module, self.update, self.known.kind, weights=False, trust_pickle=self.trust_pickle)
        return Sent(module, update, self.known)


def _of_arrays(net: nn.Module, given: _Given, spec: InputSpec, brought: Brought) -> Staged:
    sent = given.sent(copy.deepcopy(net))
    found = captured.scene_of(
        sent,
        spec,
        captured.names_of(sent.module, spec, given.classes, given.class_names),
        batch=given.batch,
        nonmembers=given.nonmembers,
        public=given.public,
        reading=given.reading,
        priors=brought.shelf,
        seed=given.seed,
    )
    more = {"spec": spec_identity(spec), "prior": brought.identity}
    return replace(_staged(found, type(net).__name__, data_facts, more), brought=brought)


def _of_texts(net: TextNet, given: _Given) -> Staged:
    if given.classes not in (None, net.classes):
        raise ConfigError(f"classes: the model tells {net.classes} apart, and {given.classes} was said")
    sent = given.sent(net.module)
    own = TextNet(sent.module, net.task, net.tokenizer, net.length)
    names = captured_texts.class_names_of(own, given.class_names)
    batch, nonmembers, public = (
        captured_texts.texts_of(texts, names, given.reading, what)
        for texts, what in ((given.batch, "batch"), (given.nonmembers, "nonmembers"), (given.public, "public"))
    )
    found = captured_texts.scene_of(sent, own, batch, nonmembers, public, class_names=names, seed=given.seed)
    return _staged(found, type(sent.module).__name__, text_facts, {})


def _staged(
    found: captured.Captured, name: str, facts: Callable[[Splits], Facts], identity: Mapping[str, Any]
) -> Staged:
    scene = found.scene
    splits = Splits(scene.members, scene.nonmembers, scene.public)
    return Staged(
        scene,
        name,
        "update",
        {"packages": packages(), **splits_identity(splits), **identity, "captured": found.digest},
        Access.UPDATES,
        facts(splits),
        victim_facts=found.facts,
    )


def _no_input(net: nn.Module) -> str:
    if hasattr(net, "get_input_embeddings"):
        return (
            "a model of the transformers library reads texts: give it with its tokenizer and what it is trained for, "
            'as seepage.models.text_clients.TextNet(model, "causal-lm", tokenizer), or "classification"'
        )
    return "input: what one record looks like was wanted, as in seepage.InputSpec((1, 28, 28))"
