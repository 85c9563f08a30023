"""Surrogates: small networks taught by the labels a target gave, and the answers they learn from."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import nn
from torch.nn import functional

from seepage.attacks.inversion.parts import Array, jittered
from seepage.core.spec import InputSpec
from seepage.core.vocabulary import Modality
from seepage.models import nets

Tensor = torch.Tensor
# Most answers that are kept; beyond it, some drawn at random are forgotten.
MEMORY = 100_000
HIDDEN = 256
BATCH = 64
PASS = 512


class Answers:
    """Records as they were asked, with the labels given.

    Pictures are kept in bytes of unit scale: a step of 1/255 tells a surrogate nothing, and a hundred thousand
    of them then fit in memory. Other records are kept as they are.

    Args:
        unit: records (torch, in the input's bounds) to unit scale.
        rng: chooses what is forgotten once `memory` answers are kept.
        memory: most answers kept.
    """

    def __init__(self, unit: Callable[[Tensor], Tensor], rng: np.random.Generator, memory: int = MEMORY):
        self._unit = unit
        self._rng = rng
        self._memory = memory
        self._x: Tensor | None = None
        self._y = torch.zeros(0, dtype=torch.long)

    def __len__(self) -> int:
        return len(self._y)

    def add(self, x: Float[Array, " n ..."], y: Int[Array, " n"]) -> None:
        """Enter records in the input's bounds (n, *shape) and their labels (n,)."""
        seen = self._unit(torch.from_numpy(x)).float()
        seen = (seen * 255).round().to(torch.uint8) if seen.dim() == 4 else seen
        self._x = seen if self._x is None else torch.cat([self._x, seen])
        self._y = torch.cat([self._y, torch.from_numpy(y).long()])
        # Thinned only when well beyond, so that it happens seldom.
        if len(self._y) > self._memory * 1.2:
            kept = torch.from_numpy(np.sort(self._rng.permutation(len(self._y))[: self._memory]))
            self._x, self._y = self._x[kept], self._y[kept]

    def weights(self) -> Float[Tensor, " n"]:
        """How often each answer should be learned from: one over the square root of its label's number."""
        counts = torch.bincount(self._y).clamp_min(1).double()
        return counts.rsqrt()[self._y]

    def rows(self, chosen: Int[Tensor, " m"]) -> tuple[Tensor, Tensor]:
        """Records in unit scale (m, *shape) and labels (m,).

        Raises:
            ValueError: when nothing was entered yet.
        """
        if self._x is None:
            raise ValueError("there are no answers to learn from yet")
        x = self._x[chosen]
        return (x.float() / 255 if x.dtype == torch.uint8 else x), self._y[chosen]


class Copies:
    """Several surrogates of one victim, alike but for the weights they start from; their word is their mean.

    Convolutional for pictures, one hidden layer of sigmoids for anything else. New weights come from torch's
    global generator, dropout too: make and teach them under `seepage.models.recipes.seeded`.

    Args:
        spec: one input.
        classes: how many classes the victim has.
        count: how many surrogates.
        width: channels of the first convolution.
        unit: records in the input's bounds to unit scale.
    """

    def __init__(self, spec: InputSpec, classes: int, count: int, width: int, unit: Callable[[Tensor], Tensor]):
        self._unit = unit
        if spec.modality is Modality.IMAGE:
            self.nets: list[nn.Module] = [nets.cnn(spec.shape, classes, width).eval() for _ in range(count)]
        else:
            self.nets = [nets.mlp(spec.shape, classes, HIDDEN).eval() for _ in range(count)]

    def learn(self, answers: Answers, steps: int, rng: torch.Generator, rate: float = 5e-3) -> None:
        """Train each on hard labels: AdamW, one cycle of the rate, rare labels drawn more often.

        Records are learned as they were asked, random moves and all: the label is then the victim's own.

        Args:
            answers: at least one.
            steps: batches.
            rng: draws the batches.
            rate: greatest learning rate.
        """
        weights = answers.weights()
        for net in self.nets:
            optimiser = torch.optim.AdamW(net.parameters(), rate, weight_decay=1e-4)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=max(steps, 2))
            net.train()
            for _ in range(steps):
                x, y = answers.rows(torch.multinomial(weights, BATCH, replacement=True, generator=rng))
                optimiser.zero_grad()
                functional.cross_entropy(net(x), y).backward()
                optimiser.step()
                schedule.step()
            net.eval()

    def cost(self, objective: Callable[[Tensor, Tensor], Tensor], x: Tensor, wanted: Tensor) -> Float[Tensor, " n"]:
        """An objective of the logits, averaged over the surrogates; differentiable in the records x."""
        unit = self._unit(x)
        return torch.stack([objective(net(unit), wanted) for net in self.nets]).mean(dim=0)

    def logs(self, x: Float[Array, " n ..."]) -> Float[Array, " n c"]:
        """Mean log-probability of every class, of records in the input's bounds."""
        with torch.no_grad():
            parts = [self._unit(part) for part in torch.from_numpy(x).split(PASS)]
            said = [torch.stack([net(part).log_softmax(dim=1) for net in self.nets]).mean(dim=0) for part in parts]
        return torch.cat(said).numpy()

    def sureness(
        self, x: Float[Array, " n ..."], wanted: Int[Array, " n"], checks: int, rng: torch.Generator, moves: float
    ) -> Float[Array, " n"]:
        """Mean log-probability of each record's own class, over `checks` random moves by up to `moves`."""
        seen = np.zeros(len(x))
        for _ in range(checks):
            shown = jittered(torch.from_numpy(x), rng, moves).numpy() if moves > 0 else x
            seen += self.logs(shown)[np.arange(len(x)), wanted]
        return seen / max(checks, 1)
