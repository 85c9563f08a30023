"""A configuration made ready: records read, victim and recipe at hand, nothing asked or trained yet."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seepage.audit.asked import wanted_by
from seepage.audit.config import AuditConfig, make_defense, parse
from seepage.audit.facts import facts_of
from seepage.audit.plan import Arm, Plan, Wanted, make_plan
from seepage.audit.play import Stage
from seepage.audit.preflight import preflights
from seepage.audit.priors import Brought
from seepage.audit.records import Facts
from seepage.audit.reference_checks import reference_checks
from seepage.audit.staged import staged
from seepage.cases.capture import Capture
from seepage.cases.federation import Federation
from seepage.cases.membership import low_rates
from seepage.cases.scene import Scene
from seepage.cases.text_capture import TextCapture
from seepage.cases.text_federation import TextFederation
from seepage.cases.world import World
from seepage.core.canaries import Claim
from seepage.core.record import Check, Preflight
from seepage.core.records import Splits
from seepage.core.seeds import derive
from seepage.core.vocabulary import Access, Leak, closure
from seepage.data import blind_baseline, check_splits
from seepage.store.files import RunFolder, read_json, write_json


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
        if splits.nonmembers is not None and not captured and scene.spec is not None:
            checks.append(blind_baseline(splits.members, splits.nonmembers, derive(self.seed, "blind")))
            if isinstance(scene, World) and any(wanted.attack.leak is Leak.MEMBERSHIP for wanted in self.wanted):
                checks.append(low_rates(len(splits.nonmembers)))
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
    def claim(self) -> Claim | None:
        """The privacy that is claimed of the victim's training."""
        return self.scene.claim if isinstance(self.scene, World) else None

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
        texts = isinstance(self.scene, TextFederation | TextCapture)
        return preflights(lambda form, arm: stage.case(Leak.GRADIENT, form, arm), plan, self.wanted, texts)

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
        looked = reference_checks(self.scene) if isinstance(self.scene, World) else []
        facts = {
            "victim": {**self.victim_facts, **found.victim},
            "data": self.data_facts,
            "judge": found.judge,
            "checks": [check.model_dump(mode="json") for check in (*found.checks, *looked)],
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
    runs, table = out or Path(config.run.out), config.victim
    made = staged(config, base=base, runs=runs, trust_pickle=trust_pickle)
    noun = {"class_noun": config.data.noun} if config.data.noun else {}
    return Setting(
        title=config.title or f"Audit of {made.name}",
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
        identity=made.identity,
        victim_facts={"name": made.name, "kind": made.kind, **made.victim_facts},
        data_facts={**made.data_facts, **noun},
        as_written=content,
        as_resolved=config.resolved(),
        reusable=made.known,
        resumable=True,
        respawn={"content": content, "base": str(base), "out": str(runs), "trust_pickle": trust_pickle},
        text=text,
        index_url=index_url,
        brought=made.brought,
        most=table.top_k,
        kept=made.kept,
    )
