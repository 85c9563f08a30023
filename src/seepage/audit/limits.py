"""What an audit could not see, in words: beside every verdict, so that silence is not taken for safety."""

from collections.abc import Mapping

from seepage.audit.plan import Plan
from seepage.audit.setting import Setting
from seepage.cases.capture import Capture
from seepage.cases.federation import Federation
from seepage.cases.inversion_texts import CAPTURED
from seepage.cases.sentences import Sentences
from seepage.cases.text_capture import TextCapture
from seepage.cases.text_federation import TextFederation
from seepage.core.record import Verdict
from seepage.core.vocabulary import Leak

_UNTRIED = {
    Leak.INVERSION: "class inversion: recovering what the records of a class look like",
    Leak.GRADIENT: "gradient inversion: recovering records from updates sent in federated learning",
    Leak.MEMBERSHIP: "membership: telling records that were trained on from others",
    Leak.ATTRIBUTE: "attribute inference: recovering a hidden column of a known record",
    Leak.EXTRACTION: "extraction: making a language model recite its training text",
    Leak.STEALING: "stealing: copying the victim from its answers",
}


def limits(setting: Setting, plan: Plan, verdicts: Mapping[Leak, Verdict]) -> list[str]:
    """Sentences on what was not tried and how small an effect would have gone unseen."""
    said: list[str] = []
    untried = [text for leak, text in _UNTRIED.items() if leak not in verdicts]
    if untried:
        said.append("Not tried: " + "; ".join(untried) + ".")
    budgets = sorted({cell.budget for cell in plan.cells if cell.budget is not None})
    asked = f" within {', '.join(f'{b:,}' for b in budgets)} queries an attack" if budgets else ""
    said.append(
        f"The adversary was granted {setting.access}{asked}. More access, more queries or a better prior "
        "may recover more; an attack that failed proves nothing about the next one."
    )
    for leak, found in verdicts.items():
        if found.smallest_effect is not None:
            said.append(
                f"The smallest {leak} leakage that this audit would have noticed four times in five is "
                f"{found.smallest_effect:.2f}; anything smaller could have gone unseen."
            )
        if found.uncontrolled:
            said.append(
                f"The {leak} findings lack a control ({', '.join(found.uncontrolled)}): "
                "part of what was recovered may be had without the model."
            )
    members = setting.scene.members
    classes = len(members.class_names)
    unaware: list[str] = []
    if any(not cell.arm.aware for cell in plan.cells):
        unaware.append("One adversary was told nothing of the defense before it: such figures flatter the defense.")
    if isinstance(setting.scene, Capture | TextCapture):
        said.append(
            "There is no true batch to hold anything against: what was recovered may be the client's records or others "
            "that make the same update. Neither a leak nor its absence is shown here."
        )
        return said + unaware
    if isinstance(setting.scene, Federation | TextFederation):
        scene = setting.scene
        said.append(
            f"Intervals are over {scene.clients} client{'s' if scene.clients > 1 else ''} with {scene.records} "
            f"record{'s' if scene.records > 1 else ''} each, in one round of one model: another round, another batch "
            "size or other local training may leak more or less."
        )
        return said + unaware
    if isinstance(setting.scene, Sentences):
        said.append(
            f"Intervals are over the texts attacked, {CAPTURED} of the {len(members)} members at the most. "
            "Words that no public text holds cannot be written by the attacks here: more public texts may recover more."
        )
        return said + unaware
    if any(cell.attack.form == "property" for cell in plan.cells):
        said.append(
            "Of the share of a group, intervals are over models trained for this audit on the private records given: "
            "what other records would have shown, or a victim trained in another way, they do not say."
        )
    over = f"{classes} classes and {len(members)} members" if members.targets is None else f"{len(members)} members"
    said.append(
        f"Intervals are over the {over} given, for one trained victim: "
        "another training run of the same recipe may leak more or less."
    )
    return said + unaware
