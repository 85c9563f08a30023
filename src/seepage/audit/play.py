"""One cell played: case, target, guess, scores, finding. Runs in this process or in a worker."""

import logging
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from seepage.audit.leaks import Row, row
from seepage.audit.plan import Arm, Cell
from seepage.cases.scene import Scene
from seepage.core.attack import Attack
from seepage.core.case import Case
from seepage.core.errors import DataError, SeepageError
from seepage.core.guess import Guess, Reconstruction
from seepage.core.knowledge import InversionKnowledge, Knowledge
from seepage.core.memory import less_memory, out_of_memory
from seepage.core.record import Artifact, Failure, Finding
from seepage.core.scorer import Controls, Scored
from seepage.core.seeds import stream
from seepage.core.spec import InputSpec
from seepage.core.target import Target
from seepage.core.victim import Captured, Victim
from seepage.core.vocabulary import Leak
from seepage.store.files import canonical

log = logging.getLogger(__name__)
# Numbers held at a time below which it is no use to hold fewer.
LEAST = 2**12
Arrays = dict[str, dict[str, np.ndarray]]


@dataclass(frozen=True)
class Played:
    """What playing a cell gave: the finding, the arrays it names, and for a failure its traceback."""

    finding: Finding
    arrays: Arrays
    traceback: str | None = None


class Stage:
    """Plays cells in one scene; cases and defended cases are built once and kept."""

    def __init__(self, scene: Scene, seed: int, most: int | None = None):
        self._scene = scene
        self._most = most
        self._seed = seed
        self._cases: dict[tuple[Leak, str, str], Case] = {}

    def case(self, leak: Leak, form: str, arm: Arm) -> Case:
        """The case of a form of a leak on an arm."""
        bare = (leak, form, "")
        if bare not in self._cases:
            self._cases[bare] = self._row(leak, form).build(self._scene, form)
        if arm.defense is None:
            return self._cases[bare]
        place = (leak, form, canonical([a.model_dump() for a in arm.applied]) + str(arm.aware))
        if place not in self._cases:
            self._cases[place] = self._cases[bare].defended(arm.defense, arm.aware)
        return self._cases[place]

    def _row(self, leak: Leak, form: str) -> Row:
        found = row(leak, self._scene, form)
        if found is None:
            raise ValueError(f"the leak '{leak}' is not audited on such a victim")
        return found

    def play(self, cell: Cell, moved: Callable[[int], None] | None = None) -> Played:
        """Play one cell. Whatever goes wrong in the attack becomes a failed finding."""
        begun = time.monotonic()
        attack = cell.attack
        asked = _Asked()
        # A case that cannot be built is the fault of the configuration, not of the attack: it is raised.
        case = self.case(attack.leak, attack.form, cell.arm)
        try:
            scored, guess = self._attack(case, cell, asked, moved)
            arrays, artifacts = _arrays(cell.id, scored, guess, self._scene.spec)
            finding = _finding(
                cell,
                self._seed,
                asked,
                time.monotonic() - begun,
                headline=scored.headline or None,
                scores=dict(scored.scores),
                exposed=list(scored.exposed),
                artifacts=artifacts,
                facts={**case.facts, **guess.facts, **scored.facts, **_fingerprints(case)},
                notes=[*guess.notes, *scored.notes],
                case=case.name,
                adversary=case.adversary,
            )
        except (KeyboardInterrupt, SystemExit):
            raise
        except Exception as error:  # noqa: BLE001 - an attack may fail in any way; each one is a finding
            log.info("%s failed: %s", cell.id, error)
            shown = _shown(error, attack)
            finding = _finding(
                cell,
                self._seed,
                asked,
                time.monotonic() - begun,
                status="failed",
                error=Failure(type=type(error).__name__, message=shown),
            )
            return Played(finding, {}, traceback.format_exc())
        return Played(finding, arrays)

    def _attack(
        self, case: Case, cell: Cell, asked: "_Asked", moved: Callable[[int], None] | None
    ) -> tuple[Scored, Guess]:
        attack = cell.attack

        def run(victim: Victim, knowledge: Knowledge, before: int, captured: Captured | None) -> tuple[Guess, Target]:
            def on_charge(spent: int) -> None:
                if moved is not None:
                    moved(before + spent)

            # The stream is named by what the attack is, not by its place: order and workers change nothing.
            name = ("attack", attack.leak, attack.name, attack.model_dump_json())
            own, note = attack, ()
            while True:
                target = Target(victim, cell.opens, cell.budget, on_charge, captured, self._most)
                asked.target = target
                try:
                    guess = own.run(target, knowledge, stream(self._seed, *name))
                except (MemoryError, RuntimeError) as error:
                    smaller = _smaller(own) if out_of_memory(error) else None
                    if smaller is None:
                        raise
                    own, note = smaller, (f"Memory ran out: it was worked on in chunks of {smaller.chunk:,}.",)
                    continue
                return replace(guess, notes=(*guess.notes, *note)), target

        guess, target = run(case.victim, case.knowledge, 0, case.captured)
        _check_classes(guess, case.knowledge)
        asked.own, asked.by_access = target.queries, {str(k): v for k, v in target.meter.by_access.items()}
        null_guess, missing = None, dict(case.missing)
        if case.null is not None:
            try:
                known = case.null_knowledge or case.knowledge
                null_guess, null_target = run(case.null, known, asked.own, case.null_captured)
                asked.control = null_target.queries
            except Exception as error:  # noqa: BLE001 - without its control the finding still stands, uncontrolled
                missing["null_model"] = f"a twin that the attack can be run on (it failed: {error})"
        controls = Controls(no_model=case.baselines, null_model=null_guess, missing=missing)
        return self._row(attack.leak, attack.form).score(guess, case.secret, controls), guess


def _smaller(attack: Attack) -> Any:
    """The same attack holding half as much at a time, where that is a matter of memory and not of results, or None."""
    chunk = getattr(attack, "chunk", None)
    if not isinstance(chunk, int) or chunk <= LEAST:
        return None
    return attack.model_copy(update={"chunk": max(chunk // 2, LEAST)})


def _shown(error: Exception, attack: Attack) -> str:
    if isinstance(error, SeepageError):
        return str(error)
    if out_of_memory(error):
        return less_memory(error, type(attack).model_fields)
    return f"{type(error).__name__}: {error}"


@dataclass
class _Asked:
    own: int = 0
    control: int = 0
    target: Target | None = None

    def __post_init__(self) -> None:
        self.by_access: dict[str, int] = {}


def _fingerprints(case: Case) -> dict[str, float | str | None]:
    """What tells this victim and this twin from others, where something does: one record speaks of one victim."""
    if case.training is None or case.knowledge.defenses:
        return {}
    told = {"victim_fingerprint": case.victim, "twin_fingerprint": case.null}
    found = {name: getattr(victim, "fingerprint", None) for name, victim in told.items()}
    return {name: print_ for name, print_ in found.items() if print_ is not None}


def _check_classes(guess: Guess, knowledge: Knowledge) -> None:
    """An attack that leaves out the hard classes would be scored on the easy ones."""
    if isinstance(guess, Reconstruction) and isinstance(knowledge, InversionKnowledge) and guess.labels is not None:
        left = np.setdiff1d(knowledge.classes, guess.labels)
        if len(left):
            raise DataError(
                f"the attack returned nothing for {len(left)} of {len(knowledge.classes)} classes (first {left[0]}); "
                "it must return a reconstruction for every class it was asked about"
            )


def _finding(cell: Cell, seed: int, asked: _Asked, seconds: float, **told: Any) -> Finding:
    attack: Attack = cell.attack
    queries = asked.own or (asked.target.queries if asked.target is not None else 0)
    known: dict[str, Any] = {
        "id": cell.id,
        "key": cell.key,
        "leak": attack.leak,
        "attack": attack.name,
        "title": cell.title,
        "version": attack.version,
        "cites": list(attack.cites),
        "params": attack.model_dump(mode="json"),
        "needs": sorted(cell.opens),
        "access": sorted(asked.target.access) if asked.target is not None else [],
        "budget": cell.budget,
        "queries": queries,
        "queries_by_access": asked.by_access,
        "control_queries": asked.control,
        "seconds": round(seconds, 3),
        "seed": seed,
        "case": str(attack.leak),
        "victim": "victim",
        "defenses": cell.arm.applied,
        "adversary": "adaptive" if cell.arm.aware else "unaware",
        "status": "done",
    }
    return Finding.model_validate({**known, **told})


def _arrays(name: str, scored: Scored, guess: Guess, spec: InputSpec | None) -> tuple[Arrays, list[Artifact]]:
    arrays: Arrays = {}
    artifacts: list[Artifact] = []
    if scored.gallery:
        # With the range of the values, without which pictures cannot be drawn.
        bounds = {} if spec is None else {"low": spec.bounds.low, "high": spec.bounds.high}
        arrays[name] = {**scored.gallery, **bounds}
        artifacts.append(Artifact(kind="gallery", path=f"arrays/{name}.npz", private=True, keys=sorted(arrays[name])))
    curves: Mapping[str, np.ndarray] = {
        **scored.curves,
        **{f"trace_{key}": np.asarray(value) for key, value in guess.trace.items()},
    }
    if curves:
        arrays[f"{name}.curves"] = dict(curves)
        artifacts.append(Artifact(kind="curves", path=f"arrays/{name}.curves.npz", private=False, keys=sorted(curves)))
    return arrays, artifacts
