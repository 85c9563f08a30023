"""`seepage.audit_update`: what a server could read out of one update that a client of federated learning sent."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from seepage.audit.api import Named, check_numbers, live_setting
from seepage.audit.captured import names_of, scene_of
from seepage.audit.priors import from_python
from seepage.audit.records import data_facts, packages, spec_identity, splits_identity
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
from seepage.targets.update_files import Tensors


def audit_update(
    net: nn.Module,
    update: Tensors | tuple[Tensors, Tensors],
    *,
    input: InputSpec,
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
            sent. Of a pair, the weights before are put into a copy of it.
        update: gradients of the mean loss, or changes of the weights, by parameter: a mapping to tensors or arrays, a
            `.safetensors`, `.pt` or `.npz` file, or a list of arrays in the order of the model (as Flower has it).
            Or a tuple (before, after) of two such: the weights before and after the client trained.
        input: shape, value range and normalisation of one record.
        kind: "gradient" or "delta" (after minus before); a pair is a delta, else "gradient" unless said.
        records: how many records the client trained on; each, where it is of several.
        clients: how many clients' updates were put together into it, as a server behind secure aggregation has them.
        summed: whether they were added up; averaged otherwise.
        local_batch: records a local step (a delta); 0 for all of them.
        epochs: passes over the records (a delta).
        rate: learning rate of the local steps (a delta).
        mode: "train" or "eval": how batch normalisation computed.
        knows: the rungs of the assumption ladder that the adversary is told, of those given here; all of them when
            left out. "labels" and "counts" can be granted where there is a `batch`.
        classes: how many classes; as many as the model answers when left out.
        class_names: what they are called, in the model's order.
        batch: the true records with their classes, numbered as the model numbers them: then findings are scored as
            in a simulation. None where nobody here has them: then nothing is scored, the verdict is "inconclusive",
            and each finding says how well its reconstruction explains the update (`facts["consistency"]`).
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
    own = copy.deepcopy(net)
    sent = read(own, update, known.kind, weights=False, trust_pickle=trust_pickle)
    brought = from_python(prior, input, Path(out) / "priors")
    found = scene_of(
        Sent(own, sent, known),
        input,
        names_of(own, input, classes, class_names),
        batch=batch,
        nonmembers=nonmembers,
        public=public,
        reading=reading,
        priors=brought.shelf,
        seed=seed,
    )
    scene, name = found.scene, type(net).__name__
    splits = Splits(scene.members, scene.nonmembers, scene.public)
    identity = {
        "packages": packages(),
        **splits_identity(splits),
        "spec": spec_identity(input),
        "prior": brought.identity,
        "captured": found.digest,
    }
    setting = live_setting(
        Staged(
            scene,
            name,
            "update",
            identity,
            Access.UPDATES,
            data_facts(splits),
            victim_facts=found.facts,
            brought=brought,
        ),
        {
            "net": name,
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
        title=title or f"Audit of an update of {name}",
    )
    return execute(setting, progress, fresh)
