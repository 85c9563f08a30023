"""What the rows of a frontier amount to, in words, by rules that are stated with them.

Nothing is called safe because attacks failed: a setting is recommended for the upper end of what it may give away to
the attacks that were tried, and the sentence says which those were and how small an effect they could have shown.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from seepage.core.frontier import Advice, Axis, Cost, Row, Strongest
from seepage.store.files import canonical

# What a frontier is drawn by where it was measured: whose record it is, then what is in a text.
MEASURES = ("record_identified", "token_recall")
# Above it, by common consent, a guarantee is one in name only: the odds may change by a factor of 22,000.
MEANT = 10.0


@dataclass(frozen=True)
class Choice:
    """What a federation can choose: a setting without its conditions, behind a defense; a row for each condition."""

    rows: tuple[Row, ...]
    label: str

    @property
    def first(self) -> Row:
        return self.rows[0]

    @property
    def cost(self) -> Cost | None:
        return self.first.cost

    def leaks(self, measure: str) -> list[Strongest]:
        """What was measured under each condition."""
        return [row.leaks[measure] for row in self.rows if measure in row.leaks]

    def state(self, measure: str, tolerance: float) -> str:
        """leaks, within, inconclusive or failed: by the worst condition."""
        found = self.leaks(measure)
        if any(leak.ruling == "leaks" for leak in found):
            return "leaks"
        if len(found) < len(self.rows) or any(row.status == "failed" for row in self.rows):
            return "failed"
        settled = all(leak.ruling == "no leak found" or leak.upper <= tolerance for leak in found)
        whole = not any(row.failed for row in self.rows)
        return "within" if settled and whole and self.upper(measure) <= tolerance else "inconclusive"

    def upper(self, measure: str) -> float:
        """The greatest upper end under any condition."""
        return max((leak.upper for leak in self.leaks(measure)), default=1.0)

    def worst(self, measure: str) -> Strongest:
        """What leaks most."""
        return max(self.leaks(measure), key=lambda leak: leak.leakage.value)

    def order(self) -> tuple[float, float]:
        """Cheapest first: by accuracy, then bytes; what was not measured comes last.

        Not by seconds: they differ from run to run, and what is recommended must not.
        """
        cost = self.cost
        if cost is None or cost.accuracy is None:
            return (1.0, 0.0)
        return (-cost.accuracy.value, float("inf") if cost.bytes_a_round is None else cost.bytes_a_round)


def rules(tolerance: float, source: str) -> list[str]:
    """How the recommendation is made, for the report."""
    return [
        "A choice is what the federation decides: the settings that are no condition, and the defense. It is held to "
        "its worst condition (how far the model is trained, what the adversary knows).",
        "A choice leaks when the verdict of any of its audits is 'leaks'.",
        f"It is within the tolerance when every attack was played under every condition and the greatest upper end of "
        f"the 95 % intervals of the leakage is {tolerance:g} ({source}) or below. Otherwise it is inconclusive.",
        "Of the choices within the tolerance the one with the highest held-out accuracy is recommended; where that is "
        "the same, the one that sends fewer bytes, then the first of the file. Rows of an unaware adversary are left "
        "out.",
        "It was chosen by its figures, so it is audited again with other clients; both figures stand here.",
        "Each interval is a 95 % one by itself: of many settings some upper ends are too low by luck.",
        "An epsilon is stated where noise gives one, never because an attack failed.",
    ]


def main_measure(rows: Sequence[Row]) -> str | None:
    """The score that the recommendation rests on."""
    there = [measure for row in rows for measure in row.leaks]
    return next((measure for measure in MEASURES if measure in there), there[0] if there else None)


def choices(rows: Sequence[Row], axes: Sequence[Axis]) -> list[Choice]:
    """The rows by what the federation can choose, in their order."""
    own = [axis for axis in axes if axis.role == "choice"]
    groups: dict[str, list[Row]] = {}
    for row in rows:
        place = [[row.setting.get(axis.key) for axis in own], row.defense_label, row.adversary]
        groups.setdefault(canonical(place), []).append(row)
    return [Choice(tuple(group), _label(group[0], own)) for group in groups.values()]


def _label(row: Row, own: Sequence[Axis]) -> str:
    told = ", ".join(f"{axis.title} = {row.setting.get(axis.key)}" for axis in own)
    return told or "the settings of the file"


def chosen(rows: Sequence[Row], axes: Sequence[Axis], tolerance: float) -> Choice | None:
    """The choice that is recommended, or None where none stays within the tolerance."""
    measure = main_measure(rows)
    if measure is None:
        return None
    fit = [
        choice
        for choice in choices(rows, axes)
        if choice.first.adversary == "adaptive" and choice.state(measure, tolerance) == "within"
    ]
    return min(fit, key=Choice.order, default=None)


def advise(rows: Sequence[Row], again: Sequence[Row], axes: Sequence[Axis], tolerance: float) -> list[Advice]:
    """All that can be said, the recommendation first."""
    measure = main_measure(rows)
    if measure is None:
        return [Advice(kind="none", text="Nothing was measured: no attack gave a result at any setting.")]
    every = choices(rows, axes)
    states = [(choice, choice.state(measure, tolerance)) for choice in every]
    best = chosen(rows, axes, tolerance)
    found = [_none(states, measure, tolerance)] if best is None else [_best(best, every, again, measure, tolerance)]
    found += _recoverable(states, measure)
    found += _inconclusive(states, measure, tolerance)
    found += _labels(rows, measure)
    found += _privacy(every)
    found += _failed(rows)
    return [*found, _limits(rows, measure)]


def _best(best: Choice, every: Sequence[Choice], again: Sequence[Row], measure: str, tolerance: float) -> Advice:
    worst = best.worst(measure)
    behind = "without a defense" if best.first.defense is None else f"behind {best.first.defense_label}"
    held = f" under all {len(best.rows)} conditions" if len(best.rows) > 1 else ""
    parts = [
        f"Recommended: {best.label}, {behind}.",
        f"What it gives away to the attacks tried is {best.upper(measure):.2f} at the most{held} (upper end of the "
        f"95 % interval; tolerance {tolerance:g}): {worst.title.lower()} {worst.value:.2f}, strongest {worst.attack}.",
        *_cost_words(best, every),
    ]
    exact = [leak.facts.get("exact_most") for leak in best.leaks(measure)]
    most = max((value for value in exact if isinstance(value, float)), default=0.0)
    if most > 0:
        parts.append(
            f"Yet {most:.3f} of the records came out exactly: too few to tell from chance as a share, and a leak for "
            "whoever they belong to."
        )
    parts += _beside(best, measure)
    parts.append(_again_words(again, measure, tolerance))
    parts.append(_effect_words(best, measure))
    return Advice(kind="recommended", text=" ".join(part for part in parts if part), rows=[row.id for row in best.rows])


def _cost_words(best: Choice, every: Sequence[Choice]) -> list[str]:
    cost = best.cost
    if cost is None or cost.accuracy is None:
        why = "" if cost is None else cost.missing.get("accuracy", "")
        return [f"What it costs in accuracy was not measured ({why})." if why else "Its cost was not measured."]
    said = [
        f"It costs: accuracy {cost.accuracy.value:.3f} [{cost.accuracy.low:.3f}, {cost.accuracy.high:.3f}] after "
        f"{cost.rounds} rounds"
    ]
    if cost.loss is not None and best.first.defense is not None:
        ends = f"[{cost.loss.low:+.3f}, {cost.loss.high:+.3f}]"
        said.append(f", of which the defense costs {cost.loss.value:+.3f} {ends}")
    bare = [c for c in every if c.first.defense is None and c.cost is not None and c.cost.accuracy is not None]
    top = min(bare, key=Choice.order, default=None)
    if top is not None and top.cost is not None and top.cost.accuracy is not None and top.first.id != best.first.id:
        said.append(f"; the best without a defense reaches {top.cost.accuracy.value:.3f} ({top.label})")
    said.append(".")
    if cost.bytes_a_round is not None and cost.bytes_dense:
        share = cost.bytes_a_round / cost.bytes_dense
        said.append(f" A client sends {cost.bytes_a_round / 1000:,.1f} kB a round ({share:.2f} of a dense update)")
        if cost.seconds_a_round is not None:
            ratio = "" if cost.seconds_ratio is None else f", {cost.seconds_ratio:.1f} times as long as without"
            said.append(f" and computes {1000 * cost.seconds_a_round:,.1f} ms{ratio}")
        said.append(".")
    return ["".join(said)]


def _range(values: Sequence[float]) -> str:
    ends = [f"{min(values):.2f}", f"{max(values):.2f}"]
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def _beside(best: Choice, measure: str) -> list[str]:
    """What else is to be said of a recommended choice: other things that it gives away, and what it guarantees."""
    said: list[str] = []
    for name in dict.fromkeys(name for row in best.rows for name in row.leaks if name != measure):
        found = [row.leaks[name] for row in best.rows if name in row.leaks]
        if any(leak.ruling == "leaks" for leak in found):
            values = [leak.leakage.value for leak in found]
            said.append(f"It does give away something else: {found[0].title.lower()}, leakage {_range(values)}.")
    cost = best.cost
    if cost is not None and cost.dp_delta is not None and cost.dp_epsilon is None:
        said.append(f"Its noise guarantees nothing: no epsilon below 10,000 over {cost.dp_rounds} rounds.")
    elif cost is not None and cost.dp_epsilon is not None:
        said.append(f"Its noise guarantees {_epsilon_words(cost)} ({cost.dp_unit}).")
    return said


def _again_words(again: Sequence[Row], measure: str, tolerance: float) -> str:
    if not again:
        return "It was chosen by these figures and not audited again."
    seeds = ", ".join(sorted({str(row.seed) for row in again}))
    lost = [row for row in again if measure not in row.leaks]
    if lost:
        return f"Audited again with other clients (seed {seeds}) it could not be measured."
    found = [row.leaks[measure] for row in again]
    upper = max(leak.upper for leak in found)
    if any(leak.ruling == "leaks" for leak in found):
        return f"NOT CONFIRMED: audited again with other clients (seed {seeds}) it leaks."
    ruled = "confirmed" if upper <= tolerance else "NOT CONFIRMED, though no leak was found"
    return f"Audited again with other clients (seed {seeds}): {upper:.2f} at the most, {ruled}."


def _effect_words(choice: Choice, measure: str) -> str:
    effects = [leak.smallest_effect for leak in choice.leaks(measure) if leak.smallest_effect is not None]
    tried = sorted({attack for leak in choice.leaks(measure) for attack in leak.tried})
    said = f"This is no proof of safety. Tried: {', '.join(tried)}"
    return said + (f"; a leakage of {max(effects):.2f} would have been noticed four times in five." if effects else ".")


def _none(states: Sequence[tuple[Choice, str]], measure: str, tolerance: float) -> Advice:
    measured = [choice for choice, state in states if state != "failed" and choice.leaks(measure)]
    text = f"No setting can be recommended: none was shown to stay within {tolerance:g}."
    quiet = [choice for choice, state in states if state == "inconclusive"]
    nearest = min(quiet or measured, key=lambda c: (round(c.upper(measure), 2), *c.order()), default=None)
    if nearest is None:
        return Advice(kind="none", text=text)
    upper = nearest.upper(measure)
    text += f" Nearest comes {nearest.label}, behind {nearest.first.defense_label}: {upper:.2f} at the most. "
    text += "More clients narrow the interval; more noise or larger sums lower what is found."
    return Advice(kind="none", text=text, rows=[row.id for row in nearest.rows])


def _recoverable(states: Sequence[tuple[Choice, str]], measure: str) -> list[Advice]:
    """For each defense, where records came out."""
    found: list[Advice] = []
    for label in dict.fromkeys(choice.first.defense_label for choice, _ in states):
        rows = [row for choice, _ in states if choice.first.defense_label == label for row in choice.rows]
        measured = [row for row in rows if measure in row.leaks]
        leaking = [row for row in measured if row.leaks[measure].ruling == "leaks"]
        if not leaking:
            continue
        values = [row.leaks[measure].value for row in leaking]
        attacks = sorted({row.leaks[measure].attack for row in leaking})
        worst = max(leaking, key=lambda row: row.leaks[measure].leakage.value)
        behind = "Without a defense" if label == "none" else f"Behind {label}"
        text = (
            f"{behind}: records can be recovered in {len(leaking)} of {len(measured)} settings; "
            f"{worst.leaks[measure].title.lower()} {_range(values)} ({', '.join(attacks)}); "
            f"most at {worst.label}."
        )
        found.append(Advice(kind="recoverable", text=text, rows=[row.id for row in leaking]))
    return found


def _inconclusive(states: Sequence[tuple[Choice, str]], measure: str, tolerance: float) -> list[Advice]:
    open_ = [choice for choice, state in states if state == "inconclusive"]
    if not open_:
        return []
    leaks = [leak for choice in open_ for leak in choice.leaks(measure)]
    wide = max(leaks, key=lambda leak: leak.upper)
    fewest = min(leaks, key=lambda leak: leak.n)
    text = (
        f"Inconclusive: {len(open_)} of {len(states)} choices, no leak found and none within {tolerance:g} either: up "
        f"to {wide.upper:.2f} cannot be excluded. The fewest {fewest.unit}s that an interval is over are {fewest.n} (a "
        "sum over clients counts once); more [federated] clients narrow it."
    )
    if any(row.failed for choice in open_ for row in choice.rows):
        text += " In some, attacks failed that might have found something."
    return [Advice(kind="inconclusive", text=text, rows=[row.id for choice in open_ for row in choice.rows])]


def _labels(rows: Sequence[Row], measure: str) -> list[Advice]:
    """What leaks besides the records themselves."""
    found: list[Advice] = []
    for name in dict.fromkeys(name for row in rows for name in row.leaks if name != measure):
        measured = [row for row in rows if name in row.leaks]
        leaking = [row for row in measured if row.leaks[name].ruling == "leaks"]
        quiet = [row for row in leaking if measure in row.leaks and row.leaks[measure].ruling != "leaks"]
        title = measured[0].leaks[name].title
        text = f"{title}: told by the update in {len(leaking)} of {len(measured)} settings"
        text += f", {len(quiet)} of which were not shown to give records away." if quiet else "."
        if leaking:
            held = sorted({row.defense_label for row in measured} - {row.defense_label for row in leaking})
            text += f" Nowhere shown behind {', '.join(held)}." if held else " No defense tried here keeps them."
        found.append(Advice(kind="labels", text=text, rows=[row.id for row in leaking]))
    return found


def _privacy(every: Sequence[Choice]) -> list[Advice]:
    noisy = [c for c in every if c.cost is not None and c.cost.dp_delta is not None]
    if not noisy:
        return [Advice(kind="privacy", text="No defense here adds noise that guarantees: there is no epsilon.")]
    with_one = [c for c in noisy if c.cost is not None and c.cost.dp_epsilon is not None]
    if not with_one:
        text = "The noise tried here guarantees nothing worth the name over all rounds: no epsilon below 10,000."
        return [Advice(kind="privacy", text=text)]
    least = min(with_one, key=lambda choice: _epsilon(choice.cost))
    cost = least.cost
    accuracy = "" if cost is None or cost.accuracy is None else f", accuracy {cost.accuracy.value:.3f}"
    text = (
        f"Guarantees hold by noise alone. The strongest: {_epsilon_words(cost)}, {least.label}, behind "
        f"{least.first.defense_label}{accuracy}. {len(noisy) - len(with_one)} of {len(noisy)} noisy choices have none "
        "below 10,000, whatever attacks found."
    )
    return [Advice(kind="privacy", text=text, rows=[row.id for row in least.rows])]


def _epsilon_words(cost: Cost | None) -> str:
    """An epsilon with its delta and rounds, and whether it means anything."""
    if cost is None or cost.dp_epsilon is None or cost.dp_delta is None:
        return "none"
    size = f"{cost.dp_epsilon:,.0f}" if cost.dp_epsilon >= 100 else f"{cost.dp_epsilon:.3g}"
    little = " (so great an epsilon protects next to nothing)" if cost.dp_epsilon > MEANT else ""
    return f"epsilon {size} at delta {cost.dp_delta:g} over {cost.dp_rounds} rounds{little}"


def _epsilon(cost: Cost | None) -> float:
    return float("inf") if cost is None or cost.dp_epsilon is None else cost.dp_epsilon


def _failed(rows: Sequence[Row]) -> list[Advice]:
    lost = [row for row in rows if row.status == "failed"]
    if not lost:
        return []
    first = lost[0]
    why = "" if first.error is None else f" First: {first.label}, behind {first.defense_label}: {first.error.message}"
    text = f"{len(lost)} of {len(rows)} points could not be measured.{why}"
    return [Advice(kind="failed", text=text, rows=[row.id for row in lost])]


def _limits(rows: Sequence[Row], measure: str) -> Advice:
    tried: set[str] = {attack for row in rows for leak in row.leaks.values() for attack in leak.tried}
    effects = [leak.smallest_effect for row in rows if (leak := row.leaks.get(measure)) and leak.smallest_effect]
    left: dict[str, Any] = {name: why for row in rows for name, why in row.left_out.items() if name not in tried}
    text = f"Tried: {', '.join(sorted(tried))}; an attack that is not among them, or tries longer, may find more."
    if effects:
        text += (
            f" The smallest leakage that would have been noticed four times in five lies between {min(effects):.2f} "
            f"and {max(effects):.2f}, by setting."
        )
    if left:
        text += f" Not played anywhere: {', '.join(sorted(left))}."
    text += " One model, one data set, one way of training: another federation is another frontier."
    return Advice(kind="limits", text=text)
