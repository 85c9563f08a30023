"""RLB-MI: an agent a class learns by soft actor-critic which latents the victim takes for the class."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch.nn import functional

from seepage.attacks.inversion.blackbox import Found, Oracle, Pool, ScoreSearch
from seepage.attacks.inversion.parts import torch_rng

Array = np.ndarray
LEAST_GAP = 1e-7
GAMMA = 0.99
TAU = 0.01
# Actions at the rim of (-1, 1) would have an infinite preimage under tanh.
RIM = 0.999


def published_reward(
    state: Float[Array, " n c"], action: Float[Array, " n c"], wanted: Array, floor: float
) -> Float[Array, " n"]:
    """The reward of a step from the scores of the new state's and of the action's record (Han et al. 2023).

    2 log p_y(state) + 2 log p_y(action) + 8 log max(1e-7, p_y(state) - max_{j != y} p_j(state)); scores
    are held at `floor` or above inside the first two logarithms.
    """
    rows = np.arange(len(state))
    own = state[rows, wanted].astype(np.float64)
    others = state.astype(np.float64)
    others[rows, wanted] = 0.0
    gap = np.log(np.maximum(LEAST_GAP, own - others.max(axis=1)))
    first = np.log(np.maximum(own, floor))
    second = np.log(np.maximum(action[rows, wanted].astype(np.float64), floor))
    return 2 * first + 2 * second + 8 * gap


class Stack:
    """As many small networks as there are classes, of the same form, computed as one (batched products)."""

    def __init__(self, agents: int, sizes: Sequence[int], rng: torch.Generator):
        self.layers: list[torch.Tensor] = []
        for fan_in, fan_out in pairwise(sizes):
            bound = fan_in**-0.5
            for shape in ((agents, fan_in, fan_out), (agents, 1, fan_out)):
                self.layers.append(((torch.rand(shape, generator=rng) * 2 - 1) * bound).requires_grad_(True))

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """(agents, batch, in) to (agents, batch, out)."""
        last = len(self.layers) // 2 - 1
        for i in range(last + 1):
            x = torch.baddbmm(self.layers[2 * i + 1], x, self.layers[2 * i])
            x = functional.relu(x) if i < last else x
        return x

    def copied(self, rng: torch.Generator) -> "Stack":
        """The same networks with the same weights, apart from these."""
        twin = Stack(len(self.layers[0]), [1, 1], rng)
        twin.layers = [layer.detach().clone() for layer in self.layers]
        return twin

    def follow(self, other: "Stack") -> None:
        """Move a little towards `other` (the slowly moving targets of SAC)."""
        for mine, theirs in zip(self.layers, other.layers, strict=True):
            mine.lerp_(theirs.detach(), TAU)


@dataclass
class Memory:
    """What every agent has lived through: rows of (state, action, reward, next state, whether it was the end)."""

    state: torch.Tensor
    action: torch.Tensor
    reward: torch.Tensor
    after: torch.Tensor
    ended: torch.Tensor

    def extended(self, other: "Memory") -> "Memory":
        return Memory(*(torch.cat(pair, dim=1) for pair in zip(self.parts(), other.parts(), strict=True)))

    def parts(self) -> tuple[torch.Tensor, ...]:
        return self.state, self.action, self.reward, self.after, self.ended

    def drawn(self, count: int, rng: torch.Generator) -> "Memory":
        """`count` rows an agent, each agent its own."""
        agents, held = self.reward.shape
        rows = torch.randint(held, (agents, count), generator=rng)
        at = torch.arange(agents)[:, None]
        return Memory(*(part[at, rows] for part in self.parts()))


class Agents:
    """Soft actor-critic (Haarnoja et al. 2018) for many agents at once: two critics, a learned temperature."""

    def __init__(self, agents: int, size: int, hidden: int, rate: float, rng: torch.Generator):
        self._size = size
        self._rng = rng
        self.actor = Stack(agents, [size, hidden, hidden, 2 * size], rng)
        self.critics = [Stack(agents, [2 * size, hidden, hidden, 1], rng) for _ in range(2)]
        self._slow = [critic.copied(rng) for critic in self.critics]
        self._log_alpha = torch.zeros(agents, 1, requires_grad=True)
        self._actor_step = torch.optim.Adam(self.actor.layers, rate)
        self._critic_step = torch.optim.Adam([layer for critic in self.critics for layer in critic.layers], rate)
        self._alpha_step = torch.optim.Adam([self._log_alpha], rate)

    def act(self, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Actions in (-1, 1) and their log-densities: (agents, n, k), (agents, n)."""
        mean, log_std = self.actor(state).split(self._size, dim=2)
        log_std = log_std.clamp(-20, 2)
        # One draw a coordinate; the released code draws a single number for a whole batch.
        noise = torch.randn(mean.shape, generator=self._rng)
        raw = mean + noise * log_std.exp()
        density = -0.5 * noise**2 - log_std - 0.5 * float(np.log(2 * np.pi))
        # log(1 - tanh(u)^2), in the form that does not lose digits.
        squash = 2 * (float(np.log(2.0)) - raw - functional.softplus(-2 * raw))
        return torch.tanh(raw), (density - squash).sum(dim=2)

    def surest(self, state: torch.Tensor) -> torch.Tensor:
        """The middle of the policy: (agents, n, k)."""
        with torch.no_grad():
            return torch.tanh(self.actor(state)[..., : self._size])

    def learn(self, batch: Memory) -> None:
        """One step of critics, actor and temperature; rewards should be standardised."""
        alpha = self._log_alpha.exp().detach()
        with torch.no_grad():
            ahead, density = self.act(batch.after)
            future = torch.cat([batch.after, ahead], dim=2)
            worth = torch.minimum(*(critic(future)[..., 0] for critic in self._slow)) - alpha * density
            wanted = batch.reward + GAMMA * (1 - batch.ended) * worth
        met = torch.cat([batch.state, batch.action], dim=2)
        losses = torch.stack([(critic(met)[..., 0] - wanted) ** 2 for critic in self.critics])
        # Sums over agents: each agent's gradient is then what it would be alone.
        _step(self._critic_step, 0.5 * losses.mean(dim=2).sum())
        chosen, density = self.act(batch.state)
        seen = torch.cat([batch.state, chosen], dim=2)
        worth = torch.minimum(*(critic(seen)[..., 0] for critic in self.critics))
        _step(self._actor_step, (alpha * density - worth).mean(dim=1).sum())
        surprise = (density.detach() - self._size).mean(dim=1, keepdim=True)
        _step(self._alpha_step, -(self._log_alpha * surprise).sum())
        for slow, critic in zip(self._slow, self.critics, strict=True):
            slow.follow(critic)


def _step(optimiser: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    layers = optimiser.param_groups[0]["params"]
    # Gradients of these layers alone: the actor's loss passes through the critics and should leave none there.
    for layer, gradient in zip(layers, torch.autograd.grad(loss, layers), strict=True):
        layer.grad = gradient
    optimiser.step()


class RLBMI(ScoreSearch):
    """Inversion as control (Han et al. 2023): the state is a latent, an action another one, the reward what
    the victim says of both.

    A step mixes state and action, s' = diversity * s + (1 - diversity) * a. With the released setting
    (diversity 0, episodes of one step) the new state is the action; the two records are then the same and
    are asked once, where the released code asks three times an episode. Rewards are standardised before
    the critics learn from them, and the screening shared by all classes is put into every agent's memory
    first: soft actor-critic learns from what others did. All classes' agents are trained in one batched
    computation.

    The paper spends 40,000 episodes a class. With a few thousand queries the agents have barely begun, and
    the plainer searches find more.
    """

    name: ClassVar[str] = "rlb-mi"
    title: ClassVar[str] = "RLB-MI: reinforcement learning in a prior's latent space"
    thorough: ClassVar[bool] = True
    cites: ClassVar[tuple[str, ...]] = (
        "Han, Choi, Lee, Kim 2023, Reinforcement Learning-Based Black-Box Model Inversion Attacks, CVPR",
        "Haarnoja, Zhou, Abbeel, Levine 2018, Soft Actor-Critic, ICML (and arXiv:1812.05905 for the temperature)",
    )

    limit: float = Field(default=1.5, gt=0, description="greatest latent, in standard deviations: an action's reach")
    diversity: float = Field(default=0.0, ge=0, lt=1, description="share of the old state in the new one (alpha)")
    steps: int = Field(default=1, ge=1, description="steps an episode")
    parallel: int = Field(default=10, ge=1, description="episodes a class played before each round of learning")
    updates: int = Field(default=4, ge=1, description="learning steps a round")
    hidden: int = Field(default=64, ge=1, description="width of actors and critics; 256 as published")
    batch: int = Field(default=64, ge=1, description="rows of memory a learning step; 256 as published")
    rate: float = Field(default=1e-3, gt=0, description="learning rate; 0.0005 as published")

    def asked(self) -> int:
        """Queries a step: with diversity 0 the new state's record is the action's."""
        return 1 if self.diversity == 0 else 2

    def _least(self) -> int:
        return self.steps * self.asked() + 1

    def _search(self, oracle: Oracle, pool: Pool) -> Found:
        return _Training(self, oracle, pool).run()


class _Training:
    """The agents, their memory, and what they have found so far."""

    def __init__(self, attack: RLBMI, oracle: Oracle, pool: Pool):
        self._a = attack
        self._oracle = oracle
        self._rng = torch_rng(oracle.rng)
        self._classes, self._size = len(oracle.classes), pool.z.shape[1]
        self._agents = Agents(self._classes, self._size, attack.hidden, attack.rate, self._rng)
        spread = np.broadcast_to(pool.scores, (self._classes, *pool.scores.shape))
        rewards = self._rewards(spread, spread)
        rows = rewards.argmax(axis=1)
        self._best, self._worth = pool.z[rows], rewards[np.arange(self._classes), rows]
        self._own = pool.scores[rows, oracle.classes].astype(np.float64)
        self._memory: Memory | None = None
        if attack.diversity == 0:
            # What the screening asked is what an agent would have been told, had it acted so.
            actions = np.clip(pool.z / attack.limit, -RIM, RIM)
            actions = torch.from_numpy(np.broadcast_to(actions, (self._classes, *actions.shape)).copy()).float()
            self._remember(self._fresh(len(pool.z)), actions, rewards, actions * attack.limit, ended=True)

    def run(self) -> Found:
        a, oracle = self._a, self._oracle
        episode = a.steps * a.asked()
        curve: list[float] = []
        while (room := oracle.left // self._classes - 1) >= episode:
            own = self._play(min(a.parallel, room // episode))
            curve.append(own)
            for _ in range(a.updates):
                self._learn()
            oracle.show(self._best)
        # The policy's middle has the last query: it may be better than anything it tried on the way.
        state = self._fresh(1)
        action = self._agents.surest(state)
        after = a.diversity * state + (1 - a.diversity) * action * a.limit
        scores = oracle.ask(after.numpy())
        self._keep(after.numpy(), scores, self._rewards(scores, scores))
        return Found(oracle.decode(self._best), self._own, {"mean_score": np.array(curve, dtype=np.float64)})

    def _play(self, episodes: int) -> float:
        """Play so many episodes a class; the mean score of the wanted classes."""
        a, oracle = self._a, self._oracle
        state = self._fresh(episodes)
        seen: list[float] = []
        for step in range(a.steps):
            with torch.no_grad():
                action, _ = self._agents.act(state)
            after = a.diversity * state + (1 - a.diversity) * action * a.limit
            scores = oracle.ask(after.numpy())
            acted = scores if a.diversity == 0 else oracle.ask((action * a.limit).numpy())
            rewards = self._rewards(scores, acted)
            self._keep(after.numpy(), scores, rewards)
            self._remember(state, action, rewards, after, ended=step == a.steps - 1)
            seen.append(float(oracle.own(scores).mean()))
            state = after
        return float(np.mean(seen))

    def _fresh(self, count: int) -> torch.Tensor:
        """States to begin with: draws of the prior."""
        return torch.randn((self._classes, count, self._size), generator=self._rng)

    def _rewards(self, state: Array, action: Array) -> Array:
        """Rewards (c, n) of steps whose records have these scores (c, n, C)."""
        c, n = state.shape[:2]
        wanted = np.repeat(self._oracle.classes, n)
        flat = (state.reshape(c * n, -1), action.reshape(c * n, -1))
        return published_reward(*flat, wanted, self._oracle.floor).reshape(c, n)

    def _keep(self, z: Array, scores: Array, rewards: Array) -> None:
        """Take the best of these over what was best, where it is better."""
        rows = np.arange(self._classes)
        best = rewards.argmax(axis=1)
        better = rewards[rows, best] > self._worth
        self._best = np.where(better[:, None], z[rows, best], self._best)
        self._own = np.where(better, self._oracle.own(scores)[rows, best], self._own)
        self._worth = np.maximum(self._worth, rewards[rows, best])

    def _remember(
        self, state: torch.Tensor, action: torch.Tensor, rewards: Array, after: torch.Tensor, ended: bool
    ) -> None:
        reward = torch.from_numpy(rewards).float()
        lived = Memory(state, action, reward, after, torch.full_like(reward, float(ended)))
        self._memory = lived if self._memory is None else self._memory.extended(lived)

    def _learn(self) -> None:
        if self._memory is None:
            return
        # The published rewards run from -180 to 0: critics that start near zero would first have to learn that.
        every = self._memory.reward
        batch = self._memory.drawn(self._a.batch, self._rng)
        batch.reward = (batch.reward - every.mean(dim=1, keepdim=True)) / (every.std(dim=1, keepdim=True) + 1e-6)
        self._agents.learn(batch)
