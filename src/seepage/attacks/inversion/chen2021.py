"""KED-MI: a GAN taught by the target, and a distribution of latents for each class."""

from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import nn

from seepage.attacks.inversion import taught
from seepage.attacks.inversion.parts import OBJECTIVES, ObjectiveName, torch_rng
from seepage.attacks.inversion.taught_nets import Sketch, Warm, begun
from seepage.core.attack import InversionAttack
from seepage.core.guess import Reconstruction
from seepage.core.knowledge import InversionKnowledge, Knowledge
from seepage.core.target import Target, WhiteBox
from seepage.core.vocabulary import Access, Modality
from seepage.models.priors.gan_nets import Critic, Generator, augmented

Array = np.ndarray
Tensor = torch.Tensor


class TaughtCritic(nn.Module):
    """A critic of k + 1 classes, the last of them "generated", whose logit is fixed at 0.

    Calling it gives the features on its coarsest grid (n, d) and the k logits (n, k).

    Args:
        body: sees the pictures.
        classes: k, those of the target; 1 makes an ordinary critic that knows real from generated alone.
    """

    def __init__(self, body: Critic, classes: int):
        super().__init__()
        self.body = body
        self.head = nn.Linear(body.features_width, classes)

    def forward(self, x: Float[Tensor, " n c h w"]) -> tuple[Float[Tensor, " n d"], Float[Tensor, " n k"]]:
        maps = self.body.maps(x)
        return maps.flatten(1), self.head(self.body.features_of(maps))

    def unlikely(self, x: Float[Tensor, " n c h w"]) -> Float[Tensor, " n"]:
        """-log P(real): what a search pays for leaving what records look like."""
        return nn.functional.softplus(-taught.real_log_odds(self(x)[1]))


class KEDMI(InversionAttack):
    """A GAN whose discriminator the target teaches, then one Gaussian of latents for each class.

    Training: the discriminator has k + 1 outputs. On public records it is to answer as the target does
    (soft labels), and to tell them from generated ones; the generator is to match its mean features, and
    to draw records that show one clear class. So the generator spends itself on what the target tells
    apart. Search: for each class the mean and variance of a Gaussian of latents, by reparameterised draws,
    lower the identity loss of the class + realism * -log P(real); several draws of it are the answer.
    """

    name: ClassVar[str] = "ked-mi"
    title: ClassVar[str] = "KED-MI, a GAN taught by the target, a distribution a class"
    needs: ClassVar[frozenset[Access]] = frozenset({Access.WEIGHTS})
    cites: ClassVar[tuple[str, ...]] = (
        "Chen, Kahla, Jia, Qi 2021, Knowledge-Enriched Distributional Model Inversion Attacks, ICCV",
        "Salimans, Goodfellow, Zaremba, Cheung, Radford, Chen 2016, Improved Techniques for Training GANs, NeurIPS "
        "(k + 1 classes, feature matching)",
    )
    modalities: ClassVar[frozenset[Modality]] = frozenset({Modality.IMAGE})
    needs_public: ClassVar[bool] = True
    thorough: ClassVar[bool] = True

    steps: int = Field(default=250, ge=1, description="steps of the generator's training")
    warm: Warm = Field(
        default="pca",
        description="what the generator begins as: principal components, the public GAN prior, or nothing",
    )
    batch: int = Field(default=16, ge=2, description="records a step")
    rate: float = Field(default=5e-4, gt=0, description="learning rate of the training")
    taught: bool = Field(
        default=True, description="teach the critic the target's soft labels; off to measure what it gives"
    )
    adversarial: float = Field(default=1.0, ge=0, description="weight of -log P(real) in the generator's loss")
    matching: float = Field(default=1.0, ge=0, description="weight of feature matching in the generator's loss")
    clarity: float = Field(default=0.01, ge=0, description="weight of the entropy in the generator's loss")
    size: int = Field(default=100, ge=1, description="numbers in a latent")
    width: int = Field(default=16, ge=8, multiple_of=4, description="channels of the generator and the critic")
    iterations: int = Field(default=150, ge=1, description="steps of the search")
    search_rate: float = Field(default=0.05, gt=0, description="learning rate of the search")
    pull: float = Field(default=0.0, ge=0, description="pull of each mean latent towards 0")
    spread: float = Field(default=-2.0, description="log-variance of every latent at first")
    realism: float = Field(default=1.0, ge=0, description="weight of -log P(real) against the identity loss")
    objective: ObjectiveName = Field(default="margin", description="the identity loss; the paper's is cross-entropy")
    augment: bool = Field(default=True, description="move and light pictures at random before each step of the search")
    recover: Literal["distribution", "point"] = Field(default="distribution", description="what is sought for a class")
    draws: int = Field(default=5, ge=1, description="records returned for a class; its score is their mean")

    def cost(self, knowledge: InversionKnowledge, budget: int | None) -> int:
        public = 0 if knowledge.public is None or not self.taught else 2 * len(knowledge.public)
        sought = 1 if self.recover == "distribution" else self.draws
        return public + len(knowledge.classes) * (self.iterations * sought + self.draws)

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        if isinstance(knowledge, InversionKnowledge) and (why := taught.undrawable(knowledge.spec)):
            return why
        return super().obstacle(knowledge, budget)

    def priors(self, knowledge: InversionKnowledge) -> tuple[str, ...]:
        return ("gan",) if self.warm == "gan" else ()

    def run(self, target: Target, knowledge: InversionKnowledge, rng: np.random.Generator) -> Reconstruction:
        net, draws = target.weights(), torch_rng(rng)
        mirror = taught.mirrors(knowledge)
        generator, critic = self._train(net, target.classes or 1, knowledge, mirror, draws)
        return self._search(net, generator, critic, knowledge, mirror, draws)

    def _train(
        self, net: WhiteBox, classes: int, knowledge: InversionKnowledge, mirror: bool, draws: torch.Generator
    ) -> tuple[Sketch | Generator, TaughtCritic]:
        public = taught.in_unit(knowledge, mirror)
        with taught.beginning(draws):
            generator, body = begun(knowledge, self.warm, self.size, self.width, mirror)
            critic = TaughtCritic(body, classes if self.taught else 1)
        said = taught.answers(net, public, taught.Bounded(knowledge.spec)).exp() if self.taught else None
        rows = taught.batches(len(public), self.batch, draws)
        fresh = (self.batch, generator.size)

        def critic_loss() -> Tensor:
            at = next(rows)
            real = augmented(public[at], draws)
            with torch.no_grad():
                fake = augmented(generator(torch.randn(fresh, generator=draws)), draws)
            maps = critic.body.maps(real)
            redrawn, small = critic.body.redrawn(maps, real)
            logits = critic.head(critic.body.features_of(maps))
            loss = 2 * taught.real_or_fake(logits, critic(fake)[1]) + (redrawn - small).abs().mean()
            return loss if said is None else loss + taught.soft_cross_entropy(logits, said[at])

        def generator_loss() -> Tensor:
            features, logits = critic(augmented(generator(torch.randn(fresh, generator=draws)), draws))
            loss = self.adversarial * nn.functional.softplus(-taught.real_log_odds(logits)).mean()
            if self.matching > 0:
                with torch.no_grad():
                    wanted = critic(augmented(public[next(rows)], draws))[0]
                loss = loss + self.matching * taught.mean_feature_gap(wanted, features)
            return loss + (self.clarity * taught.entropy(logits) if self.taught else 0.0)

        average = taught.duel(
            generator, critic, critic_loss, generator_loss,
            steps=self.steps, rate=self.rate, critic_steps=1, keep=0.995, who=self.name,
        )  # fmt: skip
        return average, critic

    def _search(
        self,
        net: WhiteBox,
        generator: Sketch | Generator,
        critic: TaughtCritic,
        knowledge: InversionKnowledge,
        mirror: bool,
        draws: torch.Generator,
    ) -> Reconstruction:
        bounded, wide = taught.Bounded(knowledge.spec), self.recover == "distribution"
        # A point is sought from several starts, one for each record returned; a distribution is sought once.
        asked = knowledge.classes if wide else np.tile(knowledge.classes, self.draws)
        classes = torch.from_numpy(asked)
        mean = torch.zeros(len(classes), generator.size)
        if not wide:
            mean = torch.randn(mean.shape, generator=draws)
        mean.requires_grad_(True)
        log_variance = torch.full(mean.shape, self.spread, requires_grad=wide)
        free = [mean, log_variance] if wide else [mean]
        optimiser = torch.optim.Adam(free, self.search_rate)
        objective = OBJECTIVES[self.objective]
        watch = taught.Frames(self.iterations)
        for step in range(1, self.iterations + 1):
            x = generator(drawn(mean, log_variance, draws) if wide else mean)
            shown = taught.seen_anew(x, draws, mirror) if self.augment else x
            loss = objective(net(bounded(shown)), classes).sum() + self.pull * mean.square().sum()
            if self.realism > 0:
                loss = loss + self.realism * critic.unlikely(x).sum()
            for weight, slope in zip(free, torch.autograd.grad(loss, free), strict=True):
                weight.grad = slope
            optimiser.step()
            watch.see(step, lambda: bounded(generator(mean[: len(knowledge.classes)])))
        with torch.no_grad():
            latents = torch.cat([drawn(mean, log_variance, draws) for _ in range(self.draws)]) if wide else mean
            x = bounded(generator(latents))
            labels = np.tile(knowledge.classes, self.draws)
            sure = net(x).softmax(dim=1).gather(1, torch.from_numpy(labels)[:, None])[:, 0]
        return Reconstruction(x.numpy(), labels, sure.numpy(), frames=watch.frames, frame_at=watch.at)


def drawn(
    mean: Float[Tensor, " n k"], log_variance: Float[Tensor, " n k"], rng: torch.Generator
) -> Float[Tensor, " n k"]:
    """One draw of each Gaussian, differentiable in its mean and log-variance (Kingma & Welling 2014)."""
    return mean + torch.exp(0.5 * log_variance) * torch.randn(mean.shape, generator=rng)
