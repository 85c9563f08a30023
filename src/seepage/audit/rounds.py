"""A recorded run audited round by round: one audit for each update, and a table of what each gave away."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from seepage.audit.api import audit_file
from seepage.audit.config import AuditConfig, read
from seepage.audit.options import victim_options
from seepage.audit.recorded import ALL
from seepage.core.errors import ConfigError, SeepageError
from seepage.core.progress import Listener, Progress
from seepage.core.record import AuditRecord, Finding
from seepage.core.vocabulary import Leak
from seepage.store.files import digest, write_json
from seepage.targets.recordings import Recording


class Row(BaseModel):
    """One client's update of one round."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    round: int
    client: str = Field(description="the node's number, or 'all' for the mean over the round")
    status: Literal["done", "failed", "left out"]
    reason: str = Field(default="", description="why it was left out, or failed")
    run: str | None = Field(default=None, description="folder of the audit")
    answer: str = Field(default="", description="whether an attack can work on it, said before any was run")
    fails: list[str] = Field(default_factory=list[str], description="assumptions that fail, by name")
    verdict: str = ""
    strongest: str | None = Field(default=None, description="the attack that gave most")
    leakage: tuple[float, float, float] | None = Field(
        default=None, description="low, value, high of its headline score; null where there is no true batch"
    )
    consistency: float | None = Field(
        default=None, description="how far the update of what was recovered lies from the one sent; 0 is the same"
    )
    alone: float | None = Field(
        default=None, description="the same of a grey record, or of tokens at random: no guess at all"
    )


class Rounds(BaseModel):
    """A recorded run, audited."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_version: int = 1
    title: str
    recording: str
    rows: list[Row]


def audit_rounds(
    file: Path | str,
    settings: Sequence[str] = (),
    *,
    out: Path | None = None,
    trust_pickle: bool = False,
    fresh: bool = False,
    processes: int = 1,
    progress: Listener | None = None,
    began: Callable[[str], None] | None = None,
    told: Callable[[Row], None] | None = None,
) -> tuple[Rounds, Path]:
    """Audit every update of a recording, one after another; each has a run of its own, and is reused when it is there.

    Where the updates of single clients cannot be read (secure aggregation), the mean over the round is audited,
    which the weights of the next round give away.

    Args:
        file: an audit file with `[victim] kind = "flower"`; `round` and `client` in it are passed over.
        settings: changes to it, as "a.b=c".
        out: folder of the runs, instead of the file's.
        trust_pickle: whether pickled files may be loaded; a pickle runs code.
        fresh: use no earlier finding.
        processes: worker processes of an audit; the attacks of "auto" are over before more have started.
        progress: called with the progress of each audit; its `total` is the share of all updates.
        began: called with the name of each update before its audit.
        told: called with each row when it is there.

    Returns:
        The table, and its file; it is written anew after each row.

    Raises:
        SeepageError: for a file that cannot be used. An update that cannot is a row.
    """
    path = Path(file)
    config, _ = read(path, settings)
    if config.victim.kind != "flower":
        raise ConfigError(
            f"{path}: rounds are those of a recorded run: kind = 'flower' was wanted, got '{config.victim.kind}'"
        )
    options = victim_options(config, path.resolve().parent)
    if not isinstance(options.get("recording"), str):
        raise ConfigError(f'{path}: [victim] recording = "..." is missing: the folder that a run was recorded in')
    recording = Recording.open(Path(options["recording"]).resolve())
    key = digest([str(recording.path), config.resolved()])[:8]
    place = (out or Path(config.run.out)) / f"rounds-{key}"
    place.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    every = updates(recording)
    for at, (number, client, lost) in enumerate(every):
        if lost is not None:
            row = Row(round=number, client=client, status="left out", reason=lost)
        else:
            if began is not None:
                began(f"round {number}, client {client} ({at + 1} of {len(every)})")
            picked = [*settings, f"victim.round={number}", f'victim.client="{client}"']
            play = partial(
                audit_file,
                path,
                picked,
                out=out,
                trust_pickle=trust_pickle,
                fresh=fresh,
                processes=processes,
                progress=None if progress is None else partial(_of_all, progress, at, len(every)),
            )
            row = _row(number, client, play)
        rows.append(row)
        found = Rounds(title=config.title, recording=str(recording.path), rows=rows)
        write_json(place / "rounds.json", found.model_dump(mode="json"))
        if told is not None:
            told(row)
    if not rows:
        raise ConfigError(f"recording: '{recording.path}' holds no round yet")
    return Rounds(title=config.title, recording=str(recording.path), rows=rows), place


def updates(recording: Recording) -> list[tuple[int, str, str | None]]:
    """Round, client, and why it cannot be read; the mean of a round where nothing else is to be had of it."""
    found: list[tuple[int, str, str | None]] = []
    rounds = sorted({one.round for one in recording.exchanges})
    shown = {one.round for one in recording.exchanges if one.sent is not None}
    for number in rounds:
        here = [one for one in recording.exchanges if one.round == number]
        readable = [one for one in here if one.missing is None]
        why = {one.node: one.missing for one in here}
        there = {one.node for one in readable}
        found += [(number, node, None if node in there else reason) for node, reason in why.items()]
        if not readable and number in shown and number + 1 in shown:
            found.append((number, ALL, None))
    return found


def _of_all(progress: Listener, at: int, count: int, step: Progress) -> None:
    progress(replace(step, total=(at + step.total) / count, eta=None))


def _row(number: int, client: str, play: Callable[[], tuple[AuditRecord, AuditConfig]]) -> Row:
    try:
        record, _ = play()
    except SeepageError as error:
        return Row(round=number, client=client, status="failed", reason=str(error))
    findings = [finding for finding in record.findings if finding.status == "done"]
    looked = record.preflight[0] if record.preflight else None
    verdict = record.verdicts.get(Leak.GRADIENT)
    best = max(findings, key=_strength, default=None)
    score = None if best is None else best.score
    leakage = None if score is None or score.leakage is None else score.leakage
    return Row(
        round=number,
        client=client,
        status="done",
        run=record.folder,
        answer="" if looked is None else looked.answer,
        fails=[] if looked is None else [seen.name for seen in looked.diagnostics if seen.holds == "fails"],
        verdict="" if verdict is None else verdict.verdict,
        strongest=None if best is None else best.attack,
        leakage=None if leakage is None else (leakage.low, leakage.value, leakage.high),
        consistency=None if best is None else _number(best, "consistency"),
        alone=None if best is None else _alone(best),
    )


def _strength(finding: Finding) -> tuple[float, float]:
    """Scored findings by leakage, others by how well they explain the update."""
    score = finding.score
    leakage = -2.0 if score is None or score.leakage is None else score.leakage.value
    apart = _number(finding, "consistency")
    return leakage, -9.0 if apart is None else -apart


def _alone(finding: Finding) -> float | None:
    found = (_number(finding, f"consistency_{name}") for name in ("constant", "random_tokens"))
    return next((value for value in found if value is not None), None)


def _number(finding: Finding, name: str) -> float | None:
    value: Any = finding.facts.get(name)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
