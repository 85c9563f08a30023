"""What a setting costs: a federation trained behind it, kept by everything that decides the result."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from seepage.audit.plan import Arm
from seepage.audit.setting import Setting
from seepage.audit.tables import SweepTraining
from seepage.audit.training import source_digest
from seepage.cases.federation import Federation
from seepage.cases.text_federation import TextFederation
from seepage.core.defense import AggregateDefense, Defense
from seepage.core.errors import ConfigError, StoreError
from seepage.core.frontier import Cost
from seepage.core.seeds import derive
from seepage.models.federated_training import Schedule, Trained, train_federation
from seepage.scoring.stats import paired_difference, unit_mean
from seepage.store.files import digest, read_json, write_json

Facts = Mapping[str, float | str | None]
# Of a value that is sent with its place: both in 32 bits. Of a scale a tensor: as many.
WORD = 4
# Tables of the file that say nothing of how the model is trained, and keys of `[federated]` that do not.
_OF_AUDITS = ("attack", "gate", "verdict", "title", "report")
_ASIDE = ("trained", "knows", "clients")


class TrainedCost(BaseModel):
    """What came of the federations behind one setting.

    Attributes:
        key: hash of everything that decides it.
        hits: for each held-out record, the share of the federations whose last model classifies it rightly (of a
            text, how much of its next tokens they name, where that is what the clients train for).
        seconds: CPU seconds of a client in a round.
        values, tensors: numbers and arrays in an update.
        diverged: how many of the federations.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    key: str
    hits: list[float]
    seconds: float
    values: int
    tensors: int
    diverged: int
    repeats: int


def trained_cost(setting: Setting, arm: Arm, training: SweepTraining, fresh: bool = False) -> TrainedCost:
    """Train the federations of a setting behind a defense, or read what came of them earlier.

    Args:
        setting: of an audit, at the model before the first round.
        arm: the defense.
        training: `[sweep.training]`.
        fresh: train anew in any case.

    Raises:
        SeepageError: where such a federation cannot be trained.
    """
    scene = setting.scene
    if not isinstance(scene, Federation | TextFederation):
        raise ConfigError("a federation of clients with records was wanted: only its training is known here")
    if scene.nonmembers is None or (scene.net.classes and scene.nonmembers.y is None):
        raise ConfigError("accuracy is measured on held-out records with classes: give [data] nonmembers")
    clients = training.clients or scene.clients
    defense = _acting(arm.defense, scene.clients)
    key = digest(_decides(setting, defense, training, clients))
    path = setting.out / "costs" / f"{key[:32]}.json"
    if not fresh and (known := _read(path, key)) is not None:
        return known
    schedule = Schedule(training.rounds, clients, scene.records, scene.local, training.rate)
    runs = [
        train_federation(
            scene.net, scene.members, scene.nonmembers, schedule, defense, derive(scene.seed, "cost", str(k))
        )
        for k in range(training.repeats)
    ]
    found = _mean(key, runs)
    write_json(path, found.model_dump(mode="json"))
    return found


def _acting(defense: Defense | None, clients: int) -> Defense | None:
    """The defense, or None for one that leaves the mean over the clients as it is."""
    if isinstance(defense, AggregateDefense) and sum(map(len, defense.groups(clients))) == clients:
        return None
    return defense


def _decides(setting: Setting, defense: Defense | None, training: SweepTraining, clients: int) -> dict[str, Any]:
    table = {name: value for name, value in setting.identity["federated"].items() if name not in _ASIDE}
    applied = None
    if defense is not None:
        # Over how many rounds epsilon is counted changes nothing in them.
        params = {name: v for name, v in defense.model_dump(mode="json").items() if name not in ("rounds", "delta")}
        applied = {"name": defense.name, "version": defense.version, "source": source_digest(type(defense)), **params}
    return {
        "training": {**training.model_dump(mode="json"), "clients": clients},
        "source": [source_digest(train_federation), source_digest(trained_cost)],
        "seed": setting.seed,
        "defense": applied,
        **{**setting.identity, "federated": table},
    }


def _read(path: Path, key: str) -> TrainedCost | None:
    if not path.is_file():
        return None
    try:
        found = TrainedCost.model_validate(read_json(path))
    except (StoreError, ValidationError):
        return None
    return found if found.key == key else None


def _mean(key: str, runs: Sequence[Trained]) -> TrainedCost:
    hits = np.mean([run.hits for run in runs], axis=0)
    return TrainedCost(
        key=key,
        hits=[round(float(share), 6) for share in hits],
        seconds=float(np.mean([run.seconds for run in runs])),
        values=runs[0].values,
        tensors=runs[0].tensors,
        diverged=sum(run.diverged is not None for run in runs),
        repeats=len(runs),
    )


def cost_of(
    mine: TrainedCost | str, bare: TrainedCost | str, facts: Facts | None, training: SweepTraining, clients: int
) -> Cost:
    """A row's costs.

    Args:
        mine: what came of the federation behind the row's defense; or why there is none.
        bare: the same without a defense.
        facts: what the defense states of itself; None where no attack was played behind it.
        training: `[sweep.training]`.
        clients: in every round.
    """
    if isinstance(mine, str):
        return _stated(Cost(missing={"accuracy": mine, "seconds": mine, "bytes": mine}), facts)
    accuracy = unit_mean(np.array(mine.hits))
    # Encryption is measured by the defense itself: the training takes the mean without it.
    sealing = None if facts is None else facts.get("encrypt_seconds_a_client")
    spent = mine.seconds + (sealing if isinstance(sealing, int | float) else 0.0)
    loss, ratio = None, None
    if not isinstance(bare, str):
        loss = paired_difference(np.array(bare.hits), np.array(mine.hits))
        ratio = spent / bare.seconds if bare.seconds > 0 else None
    sent, note = sent_bytes(mine.values, mine.tensors, facts)
    missing = {} if sent is not None else {"bytes": note}
    found = Cost(
        accuracy=accuracy,
        loss=loss,
        held_out=len(mine.hits),
        rounds=training.rounds,
        clients=clients,
        repeats=mine.repeats,
        bytes_dense=float(WORD * mine.values),
        bytes_a_round=sent,
        bytes_note=note if sent is not None else "",
        seconds_a_round=spent,
        seconds_ratio=ratio,
        diverged=mine.diverged > 0,
        missing=missing,
    )
    return _stated(found, facts)


def _stated(cost: Cost, facts: Facts | None) -> Cost:
    """With the guarantee that the defense's noise gives, as it states it."""
    if facts is None or "dp_delta" not in facts:
        return cost
    epsilon, delta, rounds, unit = (facts.get(f"dp_{name}") for name in ("epsilon", "delta", "rounds", "unit"))
    missing = dict(cost.missing)
    if not isinstance(epsilon, int | float):
        missing["dp_epsilon"] = str(facts.get("dp_epsilon_missing") or "the defense states none")
    return replace_part(
        cost,
        dp_epsilon=float(epsilon) if isinstance(epsilon, int | float) else None,
        dp_delta=float(delta) if isinstance(delta, int | float) else None,
        dp_rounds=int(rounds) if isinstance(rounds, int | float) else None,
        dp_unit=str(unit) if unit else None,
        missing=missing,
    )


def replace_part(cost: Cost, **changes: Any) -> Cost:
    """The same costs with some fields changed, checked again."""
    return Cost.model_validate({**cost.model_dump(), **changes})


def sent_bytes(values: int, tensors: int, facts: Facts | None) -> tuple[float | None, str]:
    """Bytes that a client sends in one round, and how they are counted; None, and why, where it is not known.

    By what a defense states of itself: `encrypted_bytes_a_client`; `bits_per_value` (with one 32-bit scale a tensor
    below 16 bits); `share_of_values_sent` (each with its place, 32 bits both); otherwise 32 bits a value.
    """
    if facts is None:
        return None, "no attack could be played behind the defense, so that it stated nothing"
    sealed, bits, share = (
        facts.get(name) for name in ("encrypted_bytes_a_client", "bits_per_value", "share_of_values_sent")
    )
    if isinstance(sealed, int | float):
        return float(sealed), "ciphertexts, measured"
    if isinstance(bits, int | float):
        scales = WORD * tensors if bits < 16 else 0
        return float(np.ceil(values * bits / 8) + scales), f"{bits:g} bits a value" + (
            ", a scale a tensor" * (scales > 0)
        )
    if isinstance(share, int | float):
        return float(np.ceil(share * values) * 2 * WORD), "values with their places, 32 bits each"
    return float(WORD * values), "32 bits a value"


def at_the_start(content: Mapping[str, Any], conditions: Sequence[str]) -> dict[str, Any]:
    """The file of a point without what is not the federation's choice: the model before the first round is trained."""
    plain = {name: value for name, value in content.items() if name not in _OF_AUDITS}
    for key in ("federated.trained", *conditions):
        table, _, name = key.partition(".")
        if key != "seed" and isinstance(plain.get(table), dict):
            plain[table] = {k: v for k, v in plain[table].items() if k != name}
    return plain
