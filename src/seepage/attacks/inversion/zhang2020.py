"""GMI: latents of a generative adversarial network, held realistic by its critic."""

from typing import ClassVar

import numpy as np
import torch
from pydantic import Field

from seepage.attacks.inversion.optimisers import Nesterov, box
from seepage.attacks.inversion.parts import OBJECTIVES, ObjectiveName, torch_rng
from seepage.attacks.inversion.search import (
    Frames,
    Hunt,
    PriorName,
    WeightsSearch,
    decoded,
    facts_of,
    prior_named,
    realism,
    steps_within,
    sureness,
    surest,
)
from seepage.core.guess import Reconstruction
from seepage.core.knowledge import InversionKnowledge
from seepage.core.target import Target
from seepage.core.vocabulary import Access, Modality

Array = np.ndarray


class GMI(WeightsSearch):
    """Nesterov descent on latents of a GAN learned from public records: realism plus identity.

    For every class, from several random latents: minimise -critic(G(z)) + identity_weight * CE(f(G(z)), c),
    z kept in [-limit, limit]; the restart that the victim is surest of is kept. All classes and restarts
    go in one batch; the published code averages the loss over a batch of 60, so that a rate there is sixty
    here. A prior without a critic is held by the latent's norm, |z|^2 / 2, instead.
    """

    name: ClassVar[str] = "gmi"
    title: ClassVar[str] = "GMI, generative model inversion"
    needs: ClassVar[frozenset[Access]] = frozenset({Access.WEIGHTS})
    published: ClassVar[PriorName] = "gan"
    cites: ClassVar[tuple[str, ...]] = (
        "Zhang, Jia, Pei, Wang, Li, Song 2020, The Secret Revealer: Generative Model-Inversion Attacks "
        "Against Deep Neural Networks, CVPR",
    )
    modalities: ClassVar[frozenset[Modality]] = frozenset({Modality.IMAGE, Modality.TABLE})
    needs_public: ClassVar[bool] = True
    thorough: ClassVar[bool] = True

    prior: PriorName = Field(default="auto", description="which prior is searched; 'auto': the user's own, or 'gan'")
    components: int = Field(default=100, ge=1, description="size of a 'pca' prior at the most")
    restarts: int = Field(default=5, ge=1, description="random starts a class, all in one batch")
    steps: int = Field(default=100, ge=1, description="gradient steps (1500 as published), as the budget permits")
    rate: float = Field(default=0.002, gt=0, description="length of a step, per unit of a row's gradient")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Nesterov's momentum")
    identity_weight: float = Field(default=100.0, gt=0, description="lambda: weight of the victim against the critic")
    limit: float = Field(default=1.0, gt=0, description="greatest latent, in standard deviations")
    objective: ObjectiveName = Field(default="cross-entropy", description="what the victim's logits are asked for")

    def _fixed(self, knowledge: InversionKnowledge) -> tuple[int, int]:
        """Queries beside the steps, and those of one step."""
        rows = len(knowledge.classes) * self.restarts
        return rows, rows

    def run(self, target: Target, knowledge: InversionKnowledge, rng: np.random.Generator) -> Reconstruction:
        prior = prior_named(knowledge, self.prior, self.published, self.components)
        net, decode, draws = target.weights(), prior.decoder(), torch_rng(rng)
        objective = OBJECTIVES[self.objective]
        against, has_critic = realism(prior, decode)
        classes = torch.from_numpy(knowledge.classes)
        steps = steps_within(self.steps, target.remaining, *self._fixed(knowledge))
        hunt = Hunt(
            decode,
            identity=lambda x, wanted: self.identity_weight * objective(net(x), wanted),
            penalty=against,
            optimiser=lambda like: Nesterov(like, self.rate, box(-self.limit, self.limit), self.momentum),
            steps=steps,
            draws=draws,
        )
        starts = torch.randn(len(classes), self.restarts, prior.size, generator=draws).clamp(-self.limit, self.limit)
        frames = Frames(steps)
        found = hunt.run(starts, classes, frames, knowledge.spec.size).flatten(0, 1)
        x = decoded(decode, found)
        sure = sureness(net, x, classes.repeat_interleave(self.restarts), 1, draws, 0.0)
        keep = surest(sure, self.restarts)[:, 0]
        final = prior.decode(found[keep].numpy())
        shown, at = frames.arrays(final, np.argsort(knowledge.classes))
        notes = (facts_of(prior), "held by the critic" if has_critic else "no critic: held by the latent's norm")
        return Reconstruction(final, knowledge.classes, np.exp(sure[keep]), notes=notes, frames=shown, frame_at=at)
