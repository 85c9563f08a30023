"""Plug & Play: a generator that knows nothing of the target, and selection at both ends."""

from typing import ClassVar

import numpy as np
import torch
from pydantic import Field

from seepage.attacks.inversion.optimisers import Adam, box
from seepage.attacks.inversion.parts import OBJECTIVES, ObjectiveName, torch_rng
from seepage.attacks.inversion.search import (
    Frames,
    Hunt,
    PriorName,
    WeightsSearch,
    candidates,
    decoded,
    facts_of,
    latent_norm,
    prior_named,
    screened,
    steps_within,
    sureness,
    surest,
    views_of,
)
from seepage.core.guess import Reconstruction
from seepage.core.knowledge import InversionKnowledge, Knowledge
from seepage.core.target import Target
from seepage.core.vocabulary import Access, Modality

Array = np.ndarray


def sloped(objective: ObjectiveName, classes: int) -> tuple[ObjectiveName, str]:
    """The objective to use with so many classes, and a note where it is not the one asked for.

    Logits scaled to L1 norm 1 say with two classes little more than which is greater: the Poincare loss is then
    all but flat, and the margin takes its place.
    """
    if objective == "poincare" and classes < 3:
        return "margin", "two classes: the margin in place of the Poincare loss, which has no slope there"
    return objective, f"objective: {objective}"


class PlugAndPlay(WeightsSearch):
    """Adam on a target-independent generator's latents under the Poincare loss, with selection at both ends.

    Many draws of the prior are shown to the victim under flips and crops; the surest few of each class are
    searched, every record moved at random before each step, and those that the victim still recognises
    under stronger random moves are returned. The published space is StyleGAN's W, with its truncation;
    here it is the latents of whatever prior is given, kept within `limit` standard deviations.
    """

    name: ClassVar[str] = "plug-and-play"
    title: ClassVar[str] = "Plug & Play, Poincare loss and robust selection"
    needs: ClassVar[frozenset[Access]] = frozenset({Access.WEIGHTS})
    published: ClassVar[PriorName] = "gan"
    cites: ClassVar[tuple[str, ...]] = (
        "Struppek, Hintersdorf, De Almeida Correia, Adler, Kersting 2022, Plug & Play Attacks: Towards Robust and "
        "Flexible Model Inversion Attacks, ICML",
    )
    modalities: ClassVar[frozenset[Modality]] = frozenset({Modality.IMAGE, Modality.TABLE})
    needs_public: ClassVar[bool] = True
    thorough: ClassVar[bool] = True

    prior: PriorName = Field(default="auto", description="which prior is searched; 'auto': the user's own, or 'gan'")
    components: int = Field(default=100, ge=1, description="size of a 'pca' prior at the most")
    screened: int = Field(default=2000, ge=1, description="draws of the prior the starts are chosen from")
    views: int = Field(default=2, ge=1, le=4, description="flips and crops a draw is shown under")
    candidates: int = Field(default=8, ge=1, description="starts a class that are searched, all in one batch")
    draws: int = Field(default=1, ge=1, description="reconstructions of a class that are returned, surest first")
    steps: int = Field(default=70, ge=1, description="gradient steps, as the budget permits")
    rate: float = Field(default=0.1, gt=0, description="learning rate, in standard deviations of a latent")
    momenta: tuple[float, float] = Field(default=(0.1, 0.1), description="Adam's betas, each in [0, 1)")
    objective: ObjectiveName = Field(default="poincare", description="what the victim's logits are asked for")
    prior_weight: float = Field(default=0.0, ge=0, description="pull of each latent towards the mean record")
    limit: float = Field(default=2.0, gt=0, description="greatest latent, in standard deviations")
    moves: float = Field(default=0.06, ge=0, lt=0.5, description="greatest shift and zoom before each step")
    checks: int = Field(default=32, ge=1, description="random moves the final selection averages over")
    check_moves: float = Field(default=0.1, ge=0, lt=0.5, description="greatest shift and zoom of those")

    def _fixed(self, knowledge: InversionKnowledge) -> tuple[int, int]:
        """Queries beside the steps, and those of one step."""
        rows = len(knowledge.classes) * self.candidates
        return self.screened * views_of(knowledge, self.views) + rows * self.checks, rows

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        if self.draws > self.candidates:
            return f"it returns {self.draws} reconstructions a class out of {self.candidates} candidates"
        return super().obstacle(knowledge, budget)

    def run(self, target: Target, knowledge: InversionKnowledge, rng: np.random.Generator) -> Reconstruction:
        prior = prior_named(knowledge, self.prior, self.published, self.components)
        net, decode, draws = target.weights(), prior.decoder(), torch_rng(rng)
        name, note = sloped(self.objective, target.classes or 2)
        objective = OBJECTIVES[name]
        classes = torch.from_numpy(knowledge.classes)
        steps = steps_within(self.steps, target.remaining, *self._fixed(knowledge))
        hunt = Hunt(
            decode,
            identity=lambda x, wanted: objective(net(x), wanted),
            penalty=(lambda z, x: self.prior_weight * latent_norm(z, x)) if self.prior_weight else None,
            optimiser=lambda like: Adam(like, self.rate, box(-self.limit, self.limit), self.momenta),
            steps=steps,
            draws=draws,
            amount=self.moves,
            cosine=True,
        )
        pool = candidates(prior, None, self.screened, self.limit, draws)
        starts = screened(net, decode, pool, classes, self.candidates, views_of(knowledge, self.views))
        frames = Frames(steps)
        found = hunt.run(starts, classes, frames, knowledge.spec.size).flatten(0, 1)
        x = decoded(decode, found)
        wanted = classes.repeat_interleave(self.candidates)
        sure = sureness(net, x, wanted, self.checks, draws, self.check_moves)
        keep = surest(sure, self.candidates, self.draws)
        final = prior.decode(found[keep.reshape(-1)].numpy())
        shown, at = frames.arrays(final[:: self.draws], np.argsort(knowledge.classes))
        labels = np.repeat(knowledge.classes, self.draws)
        confidence = np.exp(sure[keep.reshape(-1)])
        return Reconstruction(final, labels, confidence, notes=(facts_of(prior), note), frames=shown, frame_at=at)
