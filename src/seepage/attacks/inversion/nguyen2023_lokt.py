"""LOKT: labels teach surrogates what the victim knows, and the surrogates are inverted with their weights."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field

from seepage.attacks.inversion.labelled import (
    MOVES,
    WIDER,
    Film,
    Ledger,
    Questions,
    draws_of,
    screen,
    unnamed,
)
from seepage.attacks.inversion.optimisers import Adam, box
from seepage.attacks.inversion.parts import OBJECTIVES, Array, ObjectiveName, best_of, torch_rng
from seepage.attacks.inversion.search import (
    Frames,
    Hunt,
    PriorName,
    facts_of,
    kind_of,
    latent_norm,
    prior_named,
    unit_scale,
)
from seepage.attacks.inversion.surrogates import Answers, Copies
from seepage.core.attack import InversionAttack
from seepage.core.guess import Reconstruction
from seepage.core.knowledge import InversionKnowledge, Knowledge
from seepage.core.target import Target
from seepage.core.vocabulary import Access, Modality
from seepage.models.priors import Prior
from seepage.models.training import seeded

CHECKS = 8
# Most answers that starts are chosen from.
CANDIDATES = 1500
# Answers that the surrogates' agreement is measured on.
TRIED = 500
# Queries near what was found: its latent blended with another draw by up to this share, with so much noise.
AWAY, NOISE = 0.8, 0.2


class KnowledgeTransfer(InversionAttack):
    """Surrogates learn the victim's labels of public records and draws of the prior; then they are inverted.

    The first part of the queries labels candidates, once for all classes. Then, in `rounds`: the surrogates
    train on all answers, the latents that they take for each class are sought with their weights, and further
    queries are asked where it matters, between what was found for each class and other draws. At the end the
    search is run once more, and its starts are blended by how sure the surrogates are and how often the victim
    itself labels them as the class.

    The paper trains a conditional GAN under the victim's labels (T-ACGAN), whose discriminator is a surrogate,
    for want of generated data that is labelled evenly. Here the prior makes the data and active queries even it
    out. The search is a gradient descent over latents, as in the paper (which takes KED-MI, PLG-MI or LOMMA).
    """

    name: ClassVar[str] = "lokt"
    title: ClassVar[str] = "Surrogates taught by labels, then inverted (LOKT)"
    needs: ClassVar[frozenset[Access]] = frozenset({Access.LABELS})
    cites: ClassVar[tuple[str, ...]] = (
        "Nguyen, Chandrasegaran, Abdollahzadeh, Cheung 2023, Label-Only Model Inversion Attacks via Knowledge "
        "Transfer, NeurIPS",
        "Tramer, Zhang, Juels, Reiter, Ristenpart 2016, Stealing Machine Learning Models via Prediction APIs, "
        "USENIX Security (queries where the copy is unsure)",
    )
    modalities: ClassVar[frozenset[Modality]] = frozenset({Modality.IMAGE, Modality.TABLE})
    needs_public: ClassVar[bool] = True

    queries_per_class: int = Field(default=2500, ge=1, description="queries a class at the most, budget permitting")
    prior: PriorName = Field(default="pca", description="which prior is searched")
    components: int = Field(default=100, ge=1, description="size of a 'pca' prior at the most")
    surrogates: int = Field(default=2, ge=1, description="surrogates, trained alike from different weights")
    width: int = Field(default=8, ge=1, description="channels of a surrogate's first convolution")
    training: int = Field(default=400, ge=1, description="training steps of each surrogate, all rounds together")
    rounds: int = Field(default=1, ge=0, description="rounds of queries near what the surrogates take for a class")
    active: float = Field(default=0.4, gt=0, lt=1, description="share of the queries asked in the rounds")
    starts: int = Field(default=4, ge=1, description="starts a class, all in one batch")
    steps: int = Field(default=100, ge=1, description="gradient steps of the last search; half as many in a round")
    rate: float = Field(default=0.08, gt=0, description="greatest learning rate, in whitened latents")
    objective: ObjectiveName = Field(default="margin", description="what the surrogates' logits are asked for")
    prior_weight: float = Field(default=0.03, ge=0, description="pull of each latent towards the mean record")
    limit: float = Field(default=2.5, gt=0, description="greatest latent, in standard deviations")
    moves: float = Field(default=MOVES, ge=0, lt=0.5, description="random move of pictures at each question and step")

    def _allowed(self, classes: int, budget: int | None) -> int:
        wanted = self.queries_per_class * classes
        return wanted if budget is None else min(wanted, budget)

    def cost(self, knowledge: InversionKnowledge, budget: int | None) -> int:
        return self._allowed(len(knowledge.classes), budget)

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        if isinstance(knowledge, InversionKnowledge) and budget is not None and budget < len(knowledge.classes):
            return f"it needs a query a class at the least: {len(knowledge.classes)}, and the budget is {budget}"
        return super().obstacle(knowledge, budget)

    def _plan(self, classes: int, allowed: int) -> tuple[int, int, int]:
        """Queries for candidates, for the rounds, and questions about each start at the end."""
        checks = min(CHECKS, allowed // (20 * classes * self.starts))
        room = allowed - checks * classes * self.starts
        screened = max(int(room * (1 - self.active)), 1) if self.rounds else room
        return screened, room - screened, checks

    def priors(self, knowledge: InversionKnowledge) -> tuple[str, ...]:
        return (kind_of(knowledge, self.prior, "pca"),)

    def run(self, target: Target, knowledge: InversionKnowledge, rng: np.random.Generator) -> Reconstruction:
        if knowledge.public is None:
            raise ValueError("public records are needed; `obstacle` says so")
        prior = prior_named(knowledge, self.prior, "pca", self.components)
        classes = np.sort(knowledge.classes)
        allowed = self._allowed(len(classes), target.remaining)
        screened, active, checks = self._plan(len(classes), allowed)
        draws = torch_rng(rng)
        answers = Answers(unit_scale(knowledge), np.random.default_rng(rng.integers(2**62)))
        questions = Questions(target, prior, draws, self.moves, answers.add)
        known = np.clip(prior.encode(knowledge.public.x), -self.limit, self.limit)
        film = Film(target, prior, allowed)
        ledger = screen(questions, known, classes, screened, self.limit, rng)
        for part in (screened // 8, screened // 4, screened // 2):
            film.show(ledger.first(part).centres(classes), target.queries - screened + part)
        agreement: list[float] = []
        trained = self.training // (self.rounds + 1)
        with seeded(int(rng.integers(2**62))):
            count = int(target.classes or classes.max() + 1)
            copies = Copies(knowledge.spec, count, self.surrogates, self.width, unit_scale(knowledge))
            near = _Near(self, copies, prior, ledger, classes, draws, rng)
            for each in np.diff(np.linspace(0, active, self.rounds + 1).astype(int)):
                copies.learn(answers, trained, draws)
                found, sure = near.seek(max(self.steps // 2, 1))
                film.show(blended(found, sure))
                z = near.queries(found, int(each))
                said = questions.labels(z)
                ledger.add(z, said)
                if len(said):
                    agreement.append(_agreement(copies, prior, z, said, rng))
            copies.learn(answers, self.training - self.rounds * trained, draws)
            found, sure = near.seek(self.steps)
        wanted = np.repeat(classes, self.starts)
        often = questions.frequency(found.reshape(len(wanted), -1), wanted, checks)
        # One imagined hit among the checks, so that bad luck rules no start out.
        sure = sure + np.log((often * checks + 1) / (checks + 1))
        hit, best = ledger.hit(classes), best_of(sure, self.starts)
        x = prior.decode(np.where(hit[:, None], blended(found, sure), 0).astype(np.float32))
        frames, frame_at = film.arrays(x)
        order = np.argsort(np.argsort(knowledge.classes))
        return Reconstruction(
            x[order],
            knowledge.classes,
            np.where(hit, often[best] if checks else np.exp(sure[best]), 0.0)[order],
            notes=(facts_of(prior), *unnamed(classes, hit)),
            trace={"agreement": np.array(agreement)},
            frames=frames,
            frame_at=frame_at,
        )


@dataclass(frozen=True)
class _Near:
    """What the surrogates take for each class, and what to ask about it."""

    a: KnowledgeTransfer
    copies: Copies
    prior: Prior
    ledger: Ledger
    classes: Array
    draws: torch.Generator
    rng: np.random.Generator

    def seek(self, steps: int) -> tuple[Float[Array, " c s k"], Float[Array, " n"]]:
        """Latents that the surrogates take for each class, and their mean log-probability of it, start by start."""
        objective = OBJECTIVES[self.a.objective]
        hunt = Hunt(
            self.prior.decoder(),
            identity=lambda x, wanted: self.copies.cost(objective, x, wanted),
            penalty=lambda z, x: self.a.prior_weight * latent_norm(z, x),
            optimiser=lambda like: Adam(like, self.a.rate, box(-self.a.limit, self.a.limit)),
            steps=steps,
            draws=self.draws,
            amount=self.a.moves,
            cosine=True,
        )
        classes = torch.from_numpy(self.classes)
        found = hunt.run(torch.from_numpy(self._starts()), classes, Frames(steps), self.prior.spec.size).numpy()
        wanted = np.repeat(self.classes, self.a.starts)
        x = self.prior.decode(found.reshape(len(wanted), -1))
        return found, self.copies.sureness(x, wanted, CHECKS, self.draws, self.a.moves)

    def _starts(self) -> Float[Array, " c s k"]:
        """The mean of what was labelled as each class, then the answers the surrogates take for it most readily."""
        pool = self.ledger.z[-CANDIDATES:]
        logs = self.copies.logs(self.prior.decode(pool))[:, self.classes]
        best = np.argsort(-logs, axis=0, kind="stable")[: self.a.starts - 1].T
        centres = self.ledger.centres(self.classes)[:, None]
        # With fewer answers than starts the mean fills up.
        more = np.repeat(centres, self.a.starts - 1 - best.shape[1], axis=1)
        return np.concatenate([centres, pool[best], more], axis=1).astype(np.float32)

    def queries(self, found: Float[Array, " c s k"], count: int) -> Float[Array, " n k"]:
        """`count` latents to ask about: an even share a class, between what was found for it and other draws.

        For a class that no answer has named yet, what the surrogates say is no guide: of wide draws, those that
        they are least sure about are asked.
        """
        each = np.diff(np.linspace(0, count, len(self.classes) + 1).round().astype(int)).tolist()
        parts = [np.zeros((0, self.prior.size), dtype=np.float32)]
        for starts, n, named in zip(found, each, self.ledger.hit(self.classes), strict=True):
            if named:
                here = starts[self.rng.integers(self.a.starts, size=n)]
                away = self.rng.uniform(0, AWAY, size=(n, 1))
                there = draws_of(self.prior, n, self.rng, self.a.limit)
                near = (1 - away) * here + away * there + NOISE * self.rng.standard_normal(here.shape)
                parts.append(np.clip(near, -self.a.limit, self.a.limit).astype(np.float32))
            elif n:
                wide = draws_of(self.prior, 4 * n, self.rng, self.a.limit, WIDER**2)
                unsure = self.copies.logs(self.prior.decode(wide)).max(axis=1)
                parts.append(wide[np.argsort(unsure, kind="stable")[:n]])
        return np.concatenate(parts)


def _agreement(copies: Copies, prior: Prior, z: Array, said: Array, rng: np.random.Generator) -> float:
    """How often the surrogates say what the victim said, of some answers they have not learned from yet."""
    rows = rng.permutation(len(z))[:TRIED]
    return float((copies.logs(prior.decode(z[rows])).argmax(axis=1) == said[rows]).mean())


def blended(found: Float[Array, " c s k"], sure: Float[Array, " n"]) -> Float[Array, " c k"]:
    """Each class's starts averaged with weights proportional to exp(sure); `sure` lies class by class."""
    per_class = sure.reshape(found.shape[:2])
    weights = np.exp(per_class - per_class.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    return (found * weights[..., None]).sum(axis=1).astype(np.float32)
