"""What searches within a prior share: which prior, what is likely in it, and what can be said of it beforehand."""

from typing import Literal

import torch
from torch import Tensor

from seepage.attacks.gradient.matching import Penalty, Solved
from seepage.attacks.gradient.objectives import total_variation
from seepage.attacks.gradient.outlooks import matching_obstacle, matching_outlook
from seepage.core.knowledge import GradientKnowledge, Knowledge
from seepage.core.outlook import Outlook
from seepage.core.victim import Update
from seepage.core.vocabulary import Modality
from seepage.models.priors import Prior, prior_for
from seepage.models.priors.gan_nets import LEAST_SIDE

PriorName = Literal["pca", "gan", "own"]


def prior_named(knowledge: GradientKnowledge, name: PriorName, components: int) -> Prior:
    """The prior that is searched; `components` are those of a linear one at the most."""
    return prior_for(knowledge, name, **({"components": components} if name == "pca" else {}))


def likely(weight: float) -> Penalty:
    """The mean square of the latents."""

    def penalty(x: Tensor, numbers: Tensor, clients: Tensor) -> Tensor:
        return weight * numbers.pow(2).mean(dim=(1, 2))

    return penalty


def smooth(weight: float) -> Penalty:
    """Total variation of the records."""

    def penalty(x: Tensor, numbers: Tensor, clients: Tensor) -> Tensor:
        return weight * total_variation(x)

    return penalty


def normal(weight: float) -> Penalty:
    """How far the numbers of each latent, taken as a sample, are from standard normal ones.

    The divergence of a normal distribution of their mean m and variance s² from the standard one,
    (m² + s² - 1 - log s²) / 2, summed over the records of a problem (Li et al. 2022, in its published code).
    """

    def penalty(x: Tensor, numbers: Tensor, clients: Tensor) -> Tensor:
        mean, spread = numbers.mean(dim=2).pow(2), numbers.var(dim=2, unbiased=False)
        return weight * 0.5 * (mean + spread - 1 - torch.log(spread + 1e-10)).sum(dim=1)

    return penalty


def prior_obstacle(knowledge: Knowledge, name: PriorName) -> str | None:
    """Why no update can be simulated, or no such prior be learned; None where both can."""
    why = matching_obstacle(knowledge)
    if why is not None or name != "gan" or not isinstance(knowledge, GradientKnowledge):
        return why
    shape = knowledge.spec.shape
    if knowledge.spec.modality is Modality.IMAGE and min(shape[1:]) >= LEAST_SIDE:
        return None
    return (
        f"a GAN draws pictures of at least {LEAST_SIDE} x {LEAST_SIDE}, and the records are a "
        f"{knowledge.spec.modality} of shape {shape}: take prior = 'pca'"
    )


def prior_facts(prior: Prior) -> dict[str, float | str | None]:
    """What a finding says of the prior."""
    return {f"prior_{name}": value for name, value in prior.facts.items()}


def moved_on(solved: Solved) -> dict[str, float | str | None]:
    """The share of clients whose result was found after the latents alone."""
    return {"kept_after_latents": None if solved.leg is None else float((solved.leg > 0).mean())}


def latent_outlook(
    knowledge: GradientKnowledge, update: Update, evaluations: int, restarts: int, most: int, beyond: str
) -> Outlook | None:
    """What a search within a prior can do: as matching, where what the prior draws is what can be found.

    Args:
        knowledge: the adversary's.
        update: one that was sent.
        evaluations: of each problem.
        restarts: problems a client.
        most: up to how many records an update published results are of.
        beyond: what of the records that the prior does not draw can be found, in a sentence.
    """
    plain = matching_outlook(knowledge, update, evaluations, restarts, most)
    if plain is None or plain.prospect == "impossible":
        return plain
    public = 0 if knowledge.public is None else len(knowledge.public)
    return plain.model_copy(
        update={
            "why": f"{plain.why}; {public} public records to learn a prior from: {beyond}",
            "change": f"{plain.change}; public records of another kind than the private ones help nobody",
        }
    )
