"""LOMMA: the logit itself, features held to the public mean, and copies of the victim asked beside it."""

from collections.abc import Callable
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import nn

from seepage.attacks.inversion.optimisers import Adam, Nesterov, Optimiser, box
from seepage.attacks.inversion.parts import logit, torch_rng
from seepage.attacks.inversion.search import (
    PASS,
    Frames,
    Hunt,
    PriorName,
    WeightsSearch,
    candidates,
    decoded,
    facts_of,
    latent_norm,
    prior_named,
    realism,
    screened,
    steps_within,
    sureness,
    surest,
    unit_scale,
)
from seepage.attacks.inversion.students import agreement, answered, distilled, lesson
from seepage.core.errors import AccessDenied, ModelError
from seepage.core.guess import Reconstruction
from seepage.core.knowledge import InversionKnowledge
from seepage.core.target import Target, WhiteBox
from seepage.core.vocabulary import Access, Modality

Array = np.ndarray
CHECKS = 8
MOVES = 0.06


class FeaturePull:
    """What LOMMA asks of the victim: the logit, with features held to those of public records.

    loss(x, c) = -f_c(x) + weight * mean_i (h_i(x) - m_i)^2 / v, with h the penultimate features, m their mean over
    public records and v their mean variance there. Published without v: features of any victim are then
    of one scale. A victim whose network shows no such features is asked for the logit alone.

    Args:
        net: the victim; the public records are asked once.
        public: (m, ...) public records in the input's bounds.
        weight: of the features.
    """

    def __init__(self, net: WhiteBox, public: Float[torch.Tensor, " m ..."], weight: float):
        self._net = net
        self._weight = weight
        self.mean: torch.Tensor | None = None
        self._variance = 1.0
        self.missing = ""
        try:
            with torch.no_grad():
                seen = torch.cat([net.features(part)[0] for part in public.split(PASS)])
        except (AccessDenied, ModelError) as error:
            self.missing = str(error)
        else:
            self.mean = seen.mean(dim=0)
            self._variance = max(float(seen.var(dim=0).mean()), 1e-8)

    def parts(self, x: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Minus the logit, and the weighted distance of the features, (n,) each; one query a record."""
        if self.mean is None:
            own = logit(self._net(x), wanted)
            return own, torch.zeros_like(own)
        features, logits = self._net.features(x)
        apart = ((features - self.mean) ** 2).mean(dim=1) / self._variance
        return logit(logits, wanted), self._weight * apart


class LOMMA(WeightsSearch):
    """The logit loss with a feature regulariser, over the victim and copies distilled from its answers.

    Copies are small networks of other sizes, taught on the victim's logits for public records and draws of
    the prior; the loss is the mean over victim and copies of minus the class's logit, plus the
    regulariser, which is the victim's alone. It replaces the identity loss of another search: "gmi" (random
    starts, Nesterov, the critic's realism, the surest restart) or "latent" (screened starts, Adam, random
    moves, the start that is surest over moves).
    """

    name: ClassVar[str] = "lomma"
    title: ClassVar[str] = "LOMMA, logit loss and distilled copies"
    needs: ClassVar[frozenset[Access]] = frozenset({Access.WEIGHTS})
    published: ClassVar[PriorName] = "gan"
    cites: ClassVar[tuple[str, ...]] = (
        "Nguyen, Chandrasegaran, Abdollahzadeh, Cheung 2023, Re-thinking Model Inversion Attacks Against Deep Neural "
        "Networks, CVPR",
        "Hinton, Vinyals, Dean 2015, Distilling the Knowledge in a Neural Network (the copies)",
    )
    modalities: ClassVar[frozenset[Modality]] = frozenset({Modality.IMAGE, Modality.TABLE})
    needs_public: ClassVar[bool] = True
    thorough: ClassVar[bool] = True

    search: Literal["gmi", "latent"] = Field(default="gmi", description="the search whose identity loss is replaced")
    prior: PriorName = Field(default="auto", description="which prior is searched; 'auto': the user's own, or 'gan'")
    components: int = Field(default=100, ge=1, description="size of a 'pca' prior at the most")
    copies: int = Field(default=1, ge=0, description="distilled copies asked beside the victim (3 as published)")
    taught_on: int = Field(default=2000, ge=2, description="records the victim is asked to teach the copies")
    lessons: int = Field(default=200, ge=1, description="batches each copy learns from")
    heat: float = Field(default=2.0, gt=0, description="temperature of the distillation")
    feature_weight: float = Field(default=1.0, ge=0, description="weight of the feature regulariser")
    starts: int = Field(default=5, ge=1, description="starts a class, all in one batch")
    steps: int = Field(default=100, ge=1, description="gradient steps, as the budget permits")
    identity_weight: float = Field(default=100.0, gt=0, description="'gmi': weight of the loss against the critic")
    rate: float = Field(default=0.002, gt=0, description="'gmi': length of a step, per unit of a row's gradient")
    limit: float = Field(default=1.0, gt=0, description="'gmi': greatest latent, in standard deviations")
    adam_rate: float = Field(default=0.08, gt=0, description="'latent': greatest learning rate")
    adam_limit: float = Field(default=2.5, gt=0, description="'latent': greatest latent, in standard deviations")
    prior_weight: float = Field(default=0.03, ge=0, description="'latent': pull towards the mean record")
    screened: int = Field(default=1000, ge=1, description="'latent': prior draws the starts are chosen from")

    def _fixed(self, knowledge: InversionKnowledge) -> tuple[int, int]:
        """Queries beside the steps, and those of one step."""
        rows = len(knowledge.classes) * self.starts
        public = 0 if knowledge.public is None else len(knowledge.public)
        taught = self.taught_on if self.copies else 0
        chosen = rows if self.search == "gmi" else rows * CHECKS + public + self.screened
        return public + taught + chosen, rows

    def run(self, target: Target, knowledge: InversionKnowledge, rng: np.random.Generator) -> Reconstruction:
        if knowledge.public is None:
            raise ValueError("public records are needed; `obstacle` says so")
        prior = prior_named(knowledge, self.prior, self.published, self.components)
        net, decode, draws = target.weights(), prior.decoder(), torch_rng(rng)
        public = torch.from_numpy(np.asarray(knowledge.public.x, dtype=np.float32))
        classes = torch.from_numpy(knowledge.classes)
        steps = steps_within(self.steps, target.remaining, *self._fixed(knowledge))
        plain = self.search == "gmi"
        unit = unit_scale(knowledge)
        pull = FeaturePull(net, public, self.feature_weight)
        pool = candidates(prior, None if plain else knowledge.public.x, self.screened, self.adam_limit, draws)
        drawn = decoded(decode, pool[-self.screened :])
        copies, notes = self._copies(net, public, drawn, unit, draws)
        against, has_critic = realism(prior, decode)
        notes = (*notes, *([f"no feature regulariser: {pull.missing}"] if pull.missing else []))
        if plain:
            notes = (*notes, "held by the critic" if has_critic else "no critic: held by the latent's norm")

        def identity(x: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
            own, apart = pull.parts(x, wanted)
            shown = unit(x)
            asked = [own, *(logit(copy(shown), wanted) for copy in copies)]
            loss = torch.stack(asked).mean(dim=0) + apart
            return self.identity_weight * loss if plain else loss

        def optimiser(like: torch.Tensor) -> Optimiser:
            if plain:
                return Nesterov(like, self.rate, box(-self.limit, self.limit))
            return Adam(like, self.adam_rate, box(-self.adam_limit, self.adam_limit))

        hunt = Hunt(
            decode,
            identity,
            penalty=against if plain else lambda z, x: self.prior_weight * latent_norm(z, x),
            optimiser=optimiser,
            steps=steps,
            draws=draws,
            amount=0.0 if plain else MOVES,
            cosine=not plain,
        )
        if plain:
            starts = torch.randn(len(classes), self.starts, prior.size, generator=draws)
            starts = starts.clamp(-self.limit, self.limit)
        else:
            starts = screened(net, decode, pool, classes, self.starts)
        frames = Frames(steps)
        found = hunt.run(starts, classes, frames, knowledge.spec.size).flatten(0, 1)
        wanted = classes.repeat_interleave(self.starts)
        x = decoded(decode, found)
        sure = sureness(net, x, wanted, 1 if plain else CHECKS, draws, 0.0 if plain else MOVES)
        keep = surest(sure, self.starts)[:, 0]
        final = prior.decode(found[keep].numpy())
        shown, at = frames.arrays(final, np.argsort(knowledge.classes))
        return Reconstruction(
            final, knowledge.classes, np.exp(sure[keep]), notes=(facts_of(prior), *notes), frames=shown, frame_at=at
        )

    def _copies(
        self,
        net: WhiteBox,
        public: torch.Tensor,
        drawn: torch.Tensor,
        unit: Callable[[torch.Tensor], torch.Tensor],
        draws: torch.Generator,
    ) -> tuple[list[nn.Module], tuple[str, ...]]:
        """The copies, and how well they agree with the victim on what they were taught."""
        if not self.copies:
            return [], ()
        x = lesson(public, drawn, self.taught_on, draws)
        logits = answered(net, x)
        x = unit(x)
        made: list[nn.Module] = []
        for number in range(self.copies):
            seed = int(torch.randint(2**62, (1,), generator=draws))
            made.append(distilled(x, logits, number, seed=seed, steps=self.lessons, heat=self.heat))
        agree = ", ".join(f"{agreement(copy, x, logits):.2f}" for copy in made)
        return made, (f"copies name the victim's class of what they were taught on: {agree}",)
