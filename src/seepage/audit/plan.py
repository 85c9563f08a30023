"""What an audit will run: every attack on every arm that allows it, and what is left out and why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seepage.audit.leaks import LEAKS, knowledge, obstacle, row
from seepage.audit.training import source_digest
from seepage.cases.scene import Scene
from seepage.core.attack import Attack
from seepage.core.defense import Defense, OutputDefense
from seepage.core.errors import ConfigError
from seepage.core.record import Applied, LeftOut
from seepage.core.registry import ATTACKS, attack_class
from seepage.core.vocabulary import Access, Leak, allows, closure
from seepage.store.files import digest


@dataclass(frozen=True)
class Wanted:
    """One attack asked for: by the user, or by "auto".

    Attributes:
        attack: with its parameters.
        label: what the report calls it; its title when empty.
        budget: queries it may ask; None stands for the audit's.
        auto: chosen by "auto" or "all": left out, not refused, where it cannot run.
        thorough: chosen by "all".
        skipped: why it is not run although it was looked at.
    """

    attack: Attack
    label: str = ""
    budget: int | None = None
    auto: bool = False
    thorough: bool = False
    skipped: str | None = None


@dataclass(frozen=True)
class Arm:
    """The victim as it is (`defense` None) or behind a defense."""

    defense: Defense | None = None
    aware: bool = True

    @property
    def applied(self) -> list[Applied]:
        if self.defense is None:
            return []
        return [Applied(name=self.defense.name, params=self.defense.model_dump(mode="json"))]


@dataclass(frozen=True)
class Cell:
    """One attack on one arm: what a finding comes from.

    Attributes:
        id: readable and unique within the run; names the finding's files.
        key: hash of everything that decides the result.
        cost: queries it will ask at the most, the null twin's included.
        opens: the accesses its target opens.
        form: which form of its leak's case is played.
    """

    id: str
    key: str
    attack: Attack
    title: str
    arm: Arm
    budget: int | None
    cost: int
    opens: frozenset[Access]
    form: str = ""


@dataclass(frozen=True)
class Plan:
    """All cells of an audit, and what was left out."""

    key: str
    cells: tuple[Cell, ...]
    left_out: tuple[LeftOut, ...]


# Forms whose control is no twin: the same attack given other records' answers, or on models of the public's share.
_OWN_CONTROL = {(Leak.INVERSION, "record"), (Leak.INVERSION, "text"), (Leak.MEMBERSHIP, "property")}
# Forms of membership that need no twin either: fair coins are their control.
_OF_CANARIES = ("canaries", "gradients")
# Attacks that a message names before it counts the rest.
_NAMED = 3
_MINUTES = "it takes minutes: ask for '{}' by name, or for all attacks"


def everything(thorough: bool = False) -> list[Wanted]:
    """Every attack in the catalogue with its plain defaults: what "auto" chooses from, and with `thorough` "all"."""
    found = [attack_class(name) for name in ATTACKS]
    return [
        Wanted(
            cls(),
            auto=True,
            thorough=thorough,
            skipped=None if thorough or not cls.thorough else _MINUTES.format(cls.name),
        )
        for cls in found
    ]


def describe(attack: Attack, label: str) -> str:
    """What a report calls this attack: its title, and the parameters that are not the default."""
    if label:
        return label
    plain = type(attack)().model_dump(mode="json")
    changed = {k: v for k, v in attack.model_dump(mode="json").items() if plain[k] != v}
    told = ", ".join(f"{k}={v}" for k, v in changed.items())
    return f"{attack.title} ({told})" if told else attack.title


def make_plan(
    scene: Scene,
    wanted: Sequence[Wanted],
    arms: Sequence[Arm],
    *,
    access: Access,
    offers: frozenset[Access],
    budget: int | None,
    identity: Mapping[str, Any],
    seed: int,
    most: int | None = None,
) -> Plan:
    """The cells that can be played.

    An attack named by the user that cannot run on the bare victim is an error; one that "auto" chose,
    or that a defense stands in the way of, is left out with the reason.

    Args:
        scene: the records and what is known of the victim.
        wanted: the attacks asked for.
        arms: the bare victim first, then one arm a defense.
        access: what the adversary is granted.
        offers: what the victim can give.
        budget: queries an attack may ask, unless it has a budget of its own.
        identity: what the result depends on besides attack and arm (victim, data, recipe, judge).
        seed: of the audit.
        most: classes seen by an adversary who is granted the top k.

    Raises:
        ConfigError: when an attack named by the user cannot run, or nothing is left to run.
    """
    if not allows(offers, [access]):
        raise ConfigError(
            f"access '{access}' was granted, but this victim offers {', '.join(sorted(offers))}: grant one of these"
        )
    cells: list[Cell] = []
    left_out: list[LeftOut] = []
    ids: dict[str, int] = {}
    forms = {
        (want.attack.leak, form)
        for want in wanted
        if want.attack.leak in LEAKS
        for form in (want.attack.form, *want.attack.also)
    }
    # A leak that is not audited in such a scene at all has no obstacle of a form.
    obstacles = {(leak, form): obstacle(leak, scene, form if row(leak, scene) else None) for leak, form in forms}
    for arm in arms:
        granted = closure([access]) & closure(offers)
        if isinstance(arm.defense, OutputDefense):
            granted &= closure(arm.defense.leaves)
        for want, form in _played(wanted, scene):
            attack, limit = want.attack, want.budget or budget
            if want.auto and row(attack.leak, scene) is None:
                # Said once for the whole leak, by what the record says was not tried.
                continue
            if want.auto and form in _OF_CANARIES and obstacle(attack.leak, scene, form) is not None:
                # Without canaries there is nothing that it was left out of.
                continue
            unfit = _unfit(arm, scene)
            reason = unfit or _obstacle(attack, form, granted, scene, obstacles, limit) or want.skipped
            if reason is not None:
                if not want.auto and arm.defense is None and form == attack.form and not _elsewhere(attack, scene):
                    raise ConfigError(f"the attack '{attack.name}' cannot run here: {reason}")
                left_out.append(LeftOut(attack=attack.name, leak=attack.leak, reason=reason, defenses=arm.applied))
                continue
            again = [form] if form != attack.form else []
            base = "-".join([str(attack.leak), attack.name, *again, *([arm.defense.name] if arm.defense else [])])
            base += f"-{want.budget}" if want.budget is not None else ""
            ids[base] = ids.get(base, 0) + 1
            name = base if ids[base] == 1 else f"{base}-{ids[base]}"
            decides = {
                "attack": attack.name,
                "version": attack.version,
                "source": source_digest(type(attack)),
                "params": attack.model_dump(mode="json"),
                "form": form,
                "defenses": [
                    {
                        "name": arm.defense.name,
                        "version": arm.defense.version,
                        "source": source_digest(type(arm.defense)),
                        "aware": arm.aware,
                        **arm.defense.model_dump(mode="json"),
                    }
                ]
                if arm.defense
                else [],
                "access": access,
                "top_k": most if Access.TOP_K in attack.opens(granted) else None,
                "budget": limit,
                "seed": seed,
                **identity,
            }
            asked = attack.cost(knowledge(attack.leak, scene, form), limit)
            asked = asked if limit is None else min(asked, limit)
            cells.append(
                Cell(
                    id=name,
                    key=digest(decides),
                    attack=attack,
                    title=describe(attack, want.label) + (f", on {form}" if again else ""),
                    arm=arm,
                    budget=limit,
                    cost=asked
                    * (2 if (scene.twin_missing is None and form not in _OF_CANARIES) or _own_control(attack) else 1),
                    opens=attack.opens(granted),
                    form=form,
                )
            )
    if not cells and Access.UPDATES not in offers:
        # Of updates it can still be said why nothing can be run: their pre-flight does.
        raise ConfigError(f"nothing can be run: {_why(left_out) or 'no attack was asked for'}")
    return Plan(digest([cell.key for cell in cells]), tuple(cells), tuple(left_out))


def _played(wanted: Sequence[Wanted], scene: Scene) -> list[tuple[Wanted, str]]:
    """Each attack in its own form, and in the others that it plays and that can be had here."""
    return [
        (want, form)
        for want in wanted
        for form in (want.attack.form, *sorted(want.attack.also))
        if form == want.attack.form or obstacle(want.attack.leak, scene, form) is None
    ]


def _elsewhere(attack: Attack, scene: Scene) -> bool:
    """Whether an attack that cannot be played in its own form is in another."""
    return any(obstacle(attack.leak, scene, form) is None for form in attack.also)


def _own_control(attack: Attack) -> bool:
    return (attack.leak, attack.form) in _OWN_CONTROL


def _why(left_out: Sequence[LeftOut]) -> str:
    """Each reason once, that of the fewest attacks first: it is the one a user can mend."""
    by_reason: dict[str, list[str]] = {}
    for left in left_out:
        names = by_reason.setdefault(left.reason, [])
        if left.attack not in names:
            names.append(left.attack)
    told = [
        f"{', '.join(names[:_NAMED])}{f' and {len(names) - _NAMED} more' if len(names) > _NAMED else ''}: {reason}"
        for reason, names in sorted(by_reason.items(), key=lambda pair: len(pair[1]))
    ]
    return "; ".join(told)


def _unfit(arm: Arm, scene: Scene) -> str | None:
    """Why a defense does not act on such a victim, or None when it does."""
    if not isinstance(arm.defense, OutputDefense) or scene.members.task in arm.defense.tasks:
        return None
    works = ", ".join(sorted(arm.defense.tasks))
    return f"the defense '{arm.defense.name}' acts on answers of {works}; this victim answers {scene.members.task}"


def _obstacle(
    attack: Attack,
    form: str,
    granted: frozenset[Access],
    scene: Scene,
    obstacles: Mapping[tuple[Leak, str], str | None],
    budget: int | None,
) -> str | None:
    if attack.leak not in LEAKS:
        return f"the leak '{attack.leak}' cannot be audited yet"
    if scene.modality not in attack.modalities:
        return f"it works on {', '.join(sorted(attack.modalities))}, not on {scene.modality}"
    task = scene.members.task
    if task not in attack.tasks:
        return f"it works on victims that answer {', '.join(sorted(attack.tasks))}; this one answers {task}"
    reason = obstacles[attack.leak, form]
    if reason is not None and row(attack.leak, scene) is not None and row(attack.leak, scene, form) is None:
        return reason
    if not allows(granted, attack.opens(granted)):
        needs, has = ", ".join(sorted(attack.needs)), ", ".join(sorted(granted)) or "nothing"
        return f"it needs {needs}; the adversary has {has}"
    if reason is not None:
        return reason
    return attack.obstacle(knowledge(attack.leak, scene, form), budget)
