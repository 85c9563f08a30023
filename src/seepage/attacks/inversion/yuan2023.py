"""PLG-MI: a conditional GAN on public records that the target labelled, taught by its margins."""

from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch.nn import functional

from seepage.attacks.inversion import taught
from seepage.attacks.inversion.parts import OBJECTIVES, ObjectiveName, best_of, torch_rng
from seepage.attacks.inversion.taught_nets import Sketch, Warm, begun
from seepage.core.attack import InversionAttack
from seepage.core.guess import Reconstruction
from seepage.core.knowledge import InversionKnowledge, Knowledge
from seepage.core.target import Target, WhiteBox
from seepage.core.vocabulary import Access, Modality
from seepage.models.priors.gan_nets import Generator, augmented

Array = np.ndarray
Tensor = torch.Tensor
CHECKS = 8


class PLGMI(InversionAttack):
    """A conditional GAN of pseudo-labelled public records, then a search of its latents for each class.

    For each wanted class the public records that the target takes for it most readily are its pseudo-labelled
    examples, whether or not it is their likeliest class. A conditional GAN (projection critic, hinge loss) is
    trained on them; its generator also pays `alpha` times the target's max-margin loss on what it draws for a
    class, seen under random transformations. The classes are so kept apart, and each one's search, with the same
    loss over transformed views, begins where its own pictures lie.
    """

    name: ClassVar[str] = "plg-mi"
    title: ClassVar[str] = "PLG-MI, a conditional GAN of pseudo-labelled public records"
    needs: ClassVar[frozenset[Access]] = frozenset({Access.WEIGHTS})
    cites: ClassVar[tuple[str, ...]] = (
        "Yuan, Chen, Zhang, Zhang, Yu, Zhang 2023, Pseudo Label-Guided Model Inversion Attack via Conditional "
        "Generative Adversarial Network, AAAI",
        "Miyato, Koyama 2018, cGANs with Projection Discriminator, ICLR (the critic)",
    )
    modalities: ClassVar[frozenset[Modality]] = frozenset({Modality.IMAGE})
    needs_public: ClassVar[bool] = True
    thorough: ClassVar[bool] = True

    steps: int = Field(default=150, ge=1, description="steps of the generator's training")
    critic_steps: int = Field(default=1, ge=1, description="steps of the critic for one of the generator")
    warm: Warm = Field(
        default="pca",
        description="what the generator begins as: principal components, the public GAN prior, or nothing",
    )
    batch: int = Field(default=16, ge=2, description="records a step")
    rate: float = Field(default=5e-4, gt=0, description="learning rate of the training")
    top: int = Field(
        default=30, ge=1, description="pseudo-labelled records a class; fewer when there are few public ones"
    )
    pseudo_labels: bool = Field(default=True, description="let the target label; off, classes are dealt at random")
    alpha: float = Field(
        default=0.2, ge=0, description="weight of the target's loss in the generator's; 0 leaves it out"
    )
    size: int = Field(default=100, ge=1, description="numbers in a latent, at the most")
    width: int = Field(default=16, ge=8, multiple_of=4, description="channels of the generator and the critic")
    iterations: int = Field(default=100, ge=1, description="steps of the search")
    search_rate: float = Field(default=0.1, gt=0, description="learning rate of the search")
    views: int = Field(default=2, ge=1, description="random transformations a step of the search")
    objective: ObjectiveName = Field(
        default="margin", description="what the target's logits are asked for, in both parts"
    )
    pull: float = Field(default=0.03, ge=0, description="pull of each latent towards 0, the middle of its class")
    starts: int = Field(default=3, ge=1, description="searches a class")
    selection: Literal["best", "all"] = Field(default="best", description="return the surest start of a class, or all")

    def cost(self, knowledge: InversionKnowledge, budget: int | None) -> int:
        public = 0 if knowledge.public is None or not self.pseudo_labels else 2 * len(knowledge.public)
        training = self.steps * self.batch if self.alpha > 0 else 0
        return public + training + len(knowledge.classes) * self.starts * (self.iterations * self.views + CHECKS)

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        if isinstance(knowledge, InversionKnowledge) and (why := taught.undrawable(knowledge.spec)):
            return why
        return super().obstacle(knowledge, budget)

    def priors(self, knowledge: InversionKnowledge) -> tuple[str, ...]:
        return ("gan",) if self.warm == "gan" else ()

    def run(self, target: Target, knowledge: InversionKnowledge, rng: np.random.Generator) -> Reconstruction:
        net, draws = target.weights(), torch_rng(rng)
        mirror = taught.mirrors(knowledge)
        public = taught.in_unit(knowledge, mirror)
        rows, places = self._labelled(net, public, knowledge, draws)
        generator = self._train(net, public[rows], places, knowledge, mirror, draws)
        found = self._search(net, generator, knowledge, mirror, draws)
        note = f"{len(rows) // len(knowledge.classes)} pseudo-labelled records a class, {len(rows.unique())} in all"
        return Reconstruction(
            found.x, found.labels, found.confidence, notes=(note,), frames=found.frames, frame_at=found.frame_at
        )

    def _labelled(
        self, net: WhiteBox, public: Float[Tensor, " n c h w"], knowledge: InversionKnowledge, draws: torch.Generator
    ) -> tuple[Int[Tensor, " m"], Int[Tensor, " m"]]:
        """Rows of `public`, and for each the place in the wanted classes that it stands for."""
        classes = knowledge.classes
        count = taught.share(len(public), len(classes), self.top)
        if not self.pseudo_labels:
            dealt = torch.cat([torch.randperm(len(public), generator=draws)[:count] for _ in classes])
            return dealt, torch.arange(len(classes)).repeat_interleave(count)
        logs = taught.answers(net, public, taught.Bounded(knowledge.spec)).numpy()
        rows, places = taught.top_n(logs, classes, count)
        return torch.from_numpy(rows), torch.from_numpy(places)

    def _train(
        self,
        net: WhiteBox,
        real: Float[Tensor, " m c h w"],
        places: Int[Tensor, " m"],
        knowledge: InversionKnowledge,
        mirror: bool,
        draws: torch.Generator,
    ) -> Sketch | Generator:
        bounded, classes = taught.Bounded(knowledge.spec), torch.from_numpy(knowledge.classes)
        with taught.beginning(draws):
            generator, critic = begun(knowledge, self.warm, self.size, self.width, mirror, len(classes))
        if isinstance(generator, Sketch):
            generator.centre(real, places)
        objective = OBJECTIVES[self.objective]
        at = taught.batches(len(real), self.batch, draws)

        def drawn() -> tuple[Tensor, Tensor]:
            wanted = torch.randint(len(classes), (self.batch,), generator=draws)
            return generator(torch.randn(self.batch, generator.size, generator=draws), wanted), wanted

        def critic_loss() -> Tensor:
            rows = next(at)
            with torch.no_grad():
                fake, wanted = drawn()
            shown = augmented(real[rows], draws)
            maps = critic.maps(shown)
            redrawn, small = critic.redrawn(maps, shown)
            kept = functional.relu(1 - critic.verdict(critic.features_of(maps), places[rows])).mean()
            fooled = functional.relu(1 + critic(augmented(fake, draws), wanted)).mean()
            return kept + fooled + (redrawn - small).abs().mean()

        def generator_loss() -> Tensor:
            fake, wanted = drawn()
            loss = -critic(augmented(fake, draws), wanted).mean()
            if self.alpha > 0:
                seen = net(bounded(taught.seen_anew(fake, draws, mirror)))
                loss = loss + self.alpha * objective(seen, classes[wanted]).mean()
            return loss

        return taught.duel(
            generator, critic, critic_loss, generator_loss,
            steps=self.steps, rate=self.rate, critic_steps=self.critic_steps, keep=0.99, who=self.name,
        )  # fmt: skip

    def _search(
        self,
        net: WhiteBox,
        generator: Sketch | Generator,
        knowledge: InversionKnowledge,
        mirror: bool,
        draws: torch.Generator,
    ) -> Reconstruction:
        """All starts of all classes in one batch, class by class."""
        bounded, objective = taught.Bounded(knowledge.spec), OBJECTIVES[self.objective]
        labels = np.repeat(knowledge.classes, self.starts)
        wanted = torch.from_numpy(labels)
        places = torch.arange(len(knowledge.classes)).repeat_interleave(self.starts)
        z = torch.randn(len(labels), generator.size, generator=draws).requires_grad_(True)
        optimiser = torch.optim.Adam([z], self.search_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.iterations, self.search_rate * 0.05)
        watch = taught.Frames(self.iterations)
        for step in range(1, self.iterations + 1):
            x = generator(z, places)
            loss = self.pull * self.views * z.square().sum()
            for _ in range(self.views):
                loss = loss + objective(net(bounded(taught.seen_anew(x, draws, mirror))), wanted).sum()
            (z.grad,) = torch.autograd.grad(loss, z)
            optimiser.step()
            schedule.step()
            watch.see(step, lambda: bounded(generator(z[:: self.starts], places[:: self.starts])))
        with torch.no_grad():
            unit = generator(z, places)
            seen = [net(bounded(taught.seen_anew(unit, draws, mirror))).log_softmax(dim=1) for _ in range(CHECKS)]
            sure = torch.stack(seen).mean(dim=0).gather(1, wanted[:, None])[:, 0].exp().numpy()
        keep = best_of(sure, self.starts) if self.selection == "best" else np.arange(len(labels))
        return Reconstruction(
            bounded(unit).numpy()[keep], labels[keep], sure[keep], frames=watch.frames, frame_at=watch.at
        )
