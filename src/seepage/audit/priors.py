"""Where an audit's priors come from: kept beside its runs, or brought along and then looked at."""

import hashlib
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from seepage.audit.leaks import knowledge
from seepage.audit.tables import PriorTable
from seepage.cases.capture import Capture
from seepage.cases.federation import Federation
from seepage.cases.scene import Scene
from seepage.cases.world import World
from seepage.core.attack import Attack, GradientAttack, InversionAttack
from seepage.core.errors import ConfigError, SeepageError
from seepage.core.knowledge import GradientKnowledge, InversionKnowledge
from seepage.core.progress import Progress
from seepage.core.record import Check, Finding
from seepage.core.records import Records
from seepage.core.seeds import derive, stream
from seepage.core.spec import InputSpec
from seepage.models.priors import Card, Prior, Shelf, own_prior, read_card, trained_on_private
from seepage.models.priors import load as load_prior

log = logging.getLogger(__name__)
KNOWS = "prior and private records"
# The task of a run that trains a prior, before its kind; and what it costs, in the unit of the tracker (queries).
PRIOR = "prior "
TRAINING = 500_000


@dataclass(frozen=True)
class Brought:
    """The priors of an audit.

    Attributes:
        shelf: gives them.
        identity: what tells a prior that was brought along from others; None when none was.
        card: its card, when it has one.
    """

    shelf: Shelf
    identity: Any = None
    card: Card | None = None

    def check(self, members: Records, nonmembers: Records | None, seed: int) -> Check | None:
        """Whether the prior that was brought knows the private records; None when none was brought."""
        own = self.shelf.own
        if own is None:
            return None
        found = trained_on_private(own, members, nonmembers, self.card, seed=derive(seed, "prior", "overlap"))
        if found.warning is not None:
            log.warning("%s", found.warning)
            return Check(name=KNOWS, passed=False, message=found.warning)
        looked = "its card, near copies among its draws" if self.card is not None else "near copies among its draws"
        compared = "" if found.p is None else f", members against non-members (p = {found.p:.2g})"
        return Check(
            name=KNOWS,
            passed=True,
            message=f"no private record was found in the prior that was brought ({looked}{compared}); a prior that saw "
            "other pictures of the same people, or very many records, would pass these looks too",
        )


def from_table(table: PriorTable | None, spec: InputSpec, folder: Path, base: Path) -> Brought:
    """The priors of an audit file.

    Args:
        table: its `[prior]`, when it has one.
        spec: one input of the victim.
        folder: where trained priors are kept.
        base: folder that a relative path starts from.

    Raises:
        ConfigError, ModelError: for a prior that cannot be used: what was found, and what to do.
    """
    if table is None:
        return Brought(Shelf(folder))
    if table.path is not None:
        path = Path(table.path).expanduser()
        return from_path(path if path.is_absolute() else base / path, spec, folder)
    if table.generator is None or table.size is None:
        raise ConfigError("[prior] generator needs size: how many numbers its latent has")
    low, high = table.range
    own = own_prior(table.generator, table.size, spec, (float(low), float(high)), table.resize)
    return Brought(Shelf(folder, own), [table.generator, table.size, [low, high], table.resize, _drawn(own)])


def from_path(path: Path, spec: InputSpec, folder: Path) -> Brought:
    """The priors of an audit to which the artefact at `path` was brought.

    Raises:
        ConfigError, ModelError: for an artefact that cannot be used.
    """
    own, card = load_prior(path, spec), read_card(path)
    return Brought(Shelf(folder, own), card.weights_sha256, card)


def from_python(prior: Any, spec: InputSpec, folder: Path) -> Brought:
    """The priors of a call of `seepage.audit`: none brought, an artefact's path, or a prior.

    Raises:
        ConfigError, ModelError: for something else, or a prior that cannot be used.
    """
    if prior is None:
        return Brought(Shelf(folder))
    if isinstance(prior, str | Path):
        return from_path(Path(prior), spec, folder)
    if not isinstance(prior, Prior):
        raise ConfigError(
            f"prior: the path of an artefact or a prior was wanted, got a {type(prior).__name__}; wrap a generator of "
            "your own by seepage.models.priors.own_prior(generator, size, spec)"
        )
    if prior.spec.shape != spec.shape:
        raise ConfigError(
            f"the prior draws records of shape {prior.spec.shape}, and the victim takes {spec.shape}: bring one of "
            "that shape, or let own_prior resize what it draws (resize=True)"
        )
    return Brought(Shelf(folder, prior), _drawn(prior))


def _drawn(prior: Prior) -> str:
    """A digest of a few draws: what a generator computes cannot be told from its name or its source."""
    return hashlib.sha256(prior.sample(8, stream(0, "prior", "identity")).tobytes()).hexdigest()


def wanted(attacks: Iterable[Attack], scene: Scene) -> list[str]:
    """The kinds of prior that attacks will ask for and that take long to train, each once."""
    found: list[str] = []
    for attack in attacks:
        if not isinstance(attack, InversionAttack | GradientAttack):
            continue
        known = knowledge(attack.leak, scene, attack.form)
        asked: tuple[str, ...] = ()
        if isinstance(attack, InversionAttack) and isinstance(known, InversionKnowledge):
            asked = attack.priors(known)
        if isinstance(attack, GradientAttack) and isinstance(known, GradientKnowledge):
            asked = attack.priors(known)
        found += [kind for kind in asked if kind not in ("pca", "own") and kind not in found]
    return found


def train_prior(scene: Scene, kind: str, moved: Callable[[int], None] | None) -> None:
    """Train a prior before the attacks that ask for it, or find it where it is kept.

    A training that fails is not the audit's end: every attack that needs the prior fails with the reason.
    """
    if not isinstance(scene, World | Federation | Capture):
        return
    shelf, public = scene.priors, scene.public
    spec = (scene.adversary_spec or scene.spec) if isinstance(scene, World) else scene.spec
    if not isinstance(shelf, Shelf) or public is None:
        return

    def listen(progress: Progress) -> None:
        if moved is not None:
            moved(round(progress.done * TRAINING))

    try:
        replace(shelf, listener=listen).get(kind, public, spec)
    except SeepageError as error:
        log.warning("the prior '%s' cannot be trained: %s", kind, error)


def confounded(findings: Sequence[Finding], checks: Sequence[Check]) -> list[Finding]:
    """The findings, those whose prior seems to know the private records marked as confounded."""
    why = next((check.message for check in checks if check.name == KNOWS and not check.passed), None)
    if why is None:
        return list(findings)
    return [
        finding.model_copy(update={"confounded": why}) if finding.params.get("prior") in ("own", "auto") else finding
        for finding in findings
    ]
