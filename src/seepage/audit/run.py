"""An audit carried out: cells that are not in the store yet are played, the record is written last."""

import logging
import os
import platform
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

from threadpoolctl import threadpool_limits

from seepage import __version__
from seepage.audit.facts import FITS
from seepage.audit.limits import limits
from seepage.audit.plan import Plan
from seepage.audit.priors import PRIOR, TRAINING
from seepage.audit.priors import confounded as mark_confounded
from seepage.audit.priors import wanted as wanted_priors
from seepage.audit.references import untrained
from seepage.audit.setting import Setting
from seepage.audit.tracker import Tracker
from seepage.audit.workers import Desk, Pool, one_thread
from seepage.core.errors import ModelError, StoreError
from seepage.core.progress import Listener
from seepage.core.record import AuditRecord, Config, Finding, Run, Tool, Verdict
from seepage.core.vocabulary import Access, Leak
from seepage.scoring.claims import epsilon_verdict, of_canaries
from seepage.scoring.verdicts import gate, verdict
from seepage.store.files import RunFolder, parse_finding, write_bytes, write_json
from seepage.store.index import Index

log = logging.getLogger(__name__)

# What training and judging cost, in the unit of the tracker (queries), before anything was measured.
PREPARING = {"victim": 30_000, "twin": 30_000, "checks": 10_000, "preflight": 3_000, "facts": 10_000}
PACKAGES = ("numpy", "scipy", "scikit-learn", "torch", "pydantic", "pandas")


def environment() -> dict[str, str]:
    """Versions and machine, for the record."""
    found = {"python": platform.python_version(), "platform": platform.platform(), "cpus": str(os.cpu_count())}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def execute(setting: Setting, listener: Listener | None = None, fresh: bool = False) -> AuditRecord:
    """Carry out an audit, taking up an unfinished run of the same configuration.

    Args:
        setting: the checked configuration with its records.
        listener: called with progress.
        fresh: start anew: no unfinished run is taken up, no finding of an earlier run used.

    Raises:
        SeepageError: bad input, an unusable victim, a folder that cannot be written to. An attack
            that fails does not raise: its finding says so.
    """
    begun = time.monotonic()
    plan = setting.plan()
    folder = None if fresh or not setting.resumable else RunFolder.unfinished(setting.out, plan.key)
    folder = folder or RunFolder.create(setting.out, plan.key)
    with folder.locked():
        if setting.text is not None:
            write_bytes(folder.path / "audit.toml", setting.text.encode())
        write_json(folder.path / "plan.json", _plan_file(setting, plan))
        folder.log("started", version=__version__)
        started = datetime.now(UTC)
        cached = _adopt(setting, plan, folder, fresh)
        processes = _play(setting, plan, folder, listener)
        record = _record(setting, plan, folder, started, time.monotonic() - begun, processes, len(cached))
        folder.write_record(record)
        folder.log("finished")
    try:
        with Index(setting.out, setting.index_url) as index:
            index.add(record, str(folder.path), reusable=setting.reusable)
    except StoreError as error:
        # The files are the truth; an index that cannot be written costs convenience only.
        log.warning("%s", error)
    return record.in_folder(str(folder.path))


def _plan_file(setting: Setting, plan: Plan) -> dict[str, object]:
    return {
        "key": plan.key,
        "config": setting.as_resolved,
        "cells": [
            {
                "id": cell.id,
                "key": cell.key,
                "attack": cell.attack.name,
                "params": cell.attack.model_dump(mode="json"),
                "defenses": [a.model_dump(mode="json") for a in cell.arm.applied],
                "budget": cell.budget,
                "cost": cell.cost,
            }
            for cell in plan.cells
        ],
        "left_out": [left.model_dump(mode="json") for left in plan.left_out],
    }


def _adopt(setting: Setting, plan: Plan, folder: RunFolder, fresh: bool) -> set[str]:
    """Copy findings of earlier runs that this run would only repeat."""
    adopted: set[str] = set()
    if fresh or not setting.reusable:
        return adopted
    try:
        with Index(setting.out, setting.index_url) as index:
            known = {cell.id: index.known(cell.key) for cell in plan.cells}
    except StoreError as error:
        log.warning("no earlier finding is used: %s", error)
        return adopted
    for cell in plan.cells:
        earlier = known[cell.id]
        if earlier is None or folder.read_finding(cell.id, cell.key) is not None:
            continue
        source = RunFolder(setting.out / earlier.run)
        try:
            finding = parse_finding(source.finding_path(earlier.id))
            if finding.key != cell.key or finding.id != cell.id:
                continue
            folder.adopt(finding.model_copy(update={"title": cell.title}), source)
        except StoreError as error:
            log.warning("'%s' is done anew: %s", cell.id, error)
            continue
        folder.log("adopted", cell=cell.id, run=earlier.run)
        adopted.add(cell.id)
    return adopted


def _paces(setting: Setting, plan: Plan) -> dict[str, float | None]:
    if not (setting.out / "index.sqlite").is_file() and setting.index_url is None:
        return {}
    try:
        with Index(setting.out, setting.index_url) as index:
            return {cell.id: index.pace(cell.attack.name) for cell in plan.cells}
    except StoreError:
        return {}


def _play(setting: Setting, plan: Plan, folder: RunFolder, listener: Listener | None) -> int:
    """Do every task whose result is not in the folder yet; returns how many processes were used."""
    # An attack that failed is tried again: an endpoint may have come back, memory may be free by now.
    there = {
        cell.id
        for cell in plan.cells
        if (found := folder.read_finding(cell.id, cell.key)) is not None and found.status == "done"
    }
    cells = sorted((cell for cell in plan.cells if cell.id not in there), key=lambda cell: -cell.cost)
    preparing = [name for name in ("victim", "twin") if cells and setting.trains(name)]
    priors = [PRIOR + kind for kind in wanted_priors([cell.attack for cell in cells], setting.scene)]
    preparing += priors
    references = untrained(cells, setting.scene)
    preparing += references
    if setting.has_preflight:
        # Told before the first attack, and anew each time: an update of defenses or attacks may have changed it.
        preparing.append("preflight")
    if not (folder.path / "checks.json").is_file():
        preparing.append("checks")
    playing = [cell.id for cell in cells]
    if not (folder.path / "facts.json").is_file():
        playing.append("facts")
    weights = {cell.id: cell.cost for cell in plan.cells}
    weights |= {name: PREPARING[name] for name in (*preparing, *playing) if name in PREPARING}
    weights |= dict.fromkeys(priors, TRAINING) | references
    processes = setting.processes or min(os.cpu_count() or 1, max(len(playing), 1))
    if setting.respawn is None:
        processes = 1
    heavy = {cell.id for cell in plan.cells if Access.WEIGHTS in cell.attack.needs}
    tracker = Tracker(weights, heavy, _paces(setting, plan), processes, listener, setting.has_judge)
    for name in there:
        tracker.ended(name, "cached")

    def ended(task: str, state: str) -> None:
        folder.log("done" if state == "done" else "failed_task", task=task)
        message = ""
        if state == "failed":
            finding = parse_finding(folder.finding_path(task))
            message = finding.error.message if finding.error is not None else ""
        tracker.ended(task, state, message, setting.read_preflight(folder) if task == "preflight" else ())

    if processes == 1 or not cells:
        _in_this_process(Desk.open(setting, plan, folder), [*preparing, *playing], tracker, ended)
    else:
        with Pool(setting, folder, processes) as pool:
            pool.do(preparing, tracker.started, tracker.moved, ended)
            pool.do(playing, tracker.started, tracker.moved, ended)
    return processes


def _in_this_process(desk: Desk, tasks: list[str], tracker: Tracker, ended: Callable[[str, str], None]) -> None:
    import torch

    threads = torch.get_num_threads()
    with threadpool_limits(1):
        one_thread()
        try:
            for task in tasks:
                tracker.started(task)
                ended(task, desk.do(task, lambda spent, task=task: tracker.moved(task, spent)))
        finally:
            torch.set_num_threads(threads)


def _unless(misfit: str | None, found: Verdict) -> Verdict:
    """The verdict, but never "no leak found" of a victim that does not know its own members."""
    if misfit is None or found.verdict != "no leak found":
        return found
    return found.model_copy(update={"verdict": "inconclusive", "reasons": [misfit, *found.reasons]})


def _withheld(finding: Finding, confounded: str) -> Finding:
    """The finding as one that may not be due to the model, without flags: no group is exposed by the model then."""
    groups = [group.model_copy(update={"flagged": False}) for group in finding.groups]
    return finding.model_copy(update={"confounded": confounded, "groups": groups})


def _same_victim(findings: Sequence[Finding]) -> None:
    """One record speaks of one victim: a recipe that gives another one every time cannot be audited piecemeal."""
    for name in ("victim_fingerprint", "twin_fingerprint"):
        met = {finding.facts[name] for finding in findings if finding.facts.get(name) is not None}
        if len(met) > 1:
            raise ModelError(
                f"the recipe trained {len(met)} different models from the same records and seed, so that findings "
                "speak of different victims: use the seed that the recipe is given for everything it draws, and run "
                "with --fresh"
            )


def _record(
    setting: Setting,
    plan: Plan,
    folder: RunFolder,
    started: datetime,
    seconds: float,
    processes: int,
    cached: int,
) -> AuditRecord:
    checks = setting.read_checks(folder)
    facts = setting.read_facts(folder)
    # What the run is called may have changed since an unfinished run wrote these.
    facts["victim"].update(setting.victim_facts)
    facts["data"] = setting.data_facts
    confounded = next((c.message for c in checks if c.name == "blind baseline" and not c.passed), None)
    findings: list[Finding] = []
    for cell in plan.cells:
        finding = folder.read_finding(cell.id, cell.key)
        if finding is None:
            raise StoreError(f"the finding of '{cell.id}' is gone from {folder.path}: run the same command again")
        # Of models it is asked what they were trained on, and not of records.
        of_records = finding.leak is Leak.MEMBERSHIP and finding.case != "property" and not of_canaries(finding)
        if of_records and confounded is not None:
            finding = _withheld(finding, confounded)
        findings.append(finding)
    findings = mark_confounded(findings, checks)
    _same_victim(findings)
    looked = {Leak.GRADIENT} if setting.has_preflight else set[Leak]()
    # Canaries speak of the training's privacy, not of how exposed ordinary members are.
    spoken = [finding for finding in findings if not of_canaries(finding)]
    leaks = sorted({finding.leak for finding in spoken} | set(setting.gates) | looked)
    by_leak = {leak: [f for f in spoken if f.leak is leak] for leak in leaks}
    misfit = next((check.message for check in checks if check.name == FITS and not check.passed), None)
    verdicts = {leak: _unless(misfit, verdict(by_leak[leak], setting.tolerance)) for leak in leaks}
    return AuditRecord(
        tool=Tool(version=__version__),
        title=setting.title,
        run=Run(
            id=folder.id,
            started=started.isoformat(timespec="seconds"),
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=round(seconds, 2),
            processes=processes,
            resumed=max(folder.events("started") - 1, 0),
            cached=cached,
        ),
        environment=environment(),
        config=Config(as_written=setting.as_written, as_resolved=setting.as_resolved),
        victim=facts["victim"],
        data=facts["data"],
        judge=facts["judge"],
        checks=checks,
        preflight=setting.read_preflight(folder),
        findings=findings,
        left_out=list(plan.left_out),
        verdicts=verdicts,
        epsilon=epsilon_verdict(findings, setting.claim),
        gates=[gate(leak, threshold, by_leak[leak]) for leak, threshold in setting.gates.items()],
        limits=limits(setting, plan, verdicts),
    )
