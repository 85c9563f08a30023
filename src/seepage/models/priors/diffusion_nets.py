"""The denoiser of the diffusion prior: a linear filter in closed form, and a light U-Net that corrects it."""

import math
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional

from seepage.core.errors import DataError
from seepage.models.device import mixed

Array = np.ndarray
Tensor = torch.Tensor
TIMES = 1000
TIME = 64


def time_waves(level: Float[Tensor, " n"], size: int = TIME) -> Float[Tensor, " n s"]:
    """Sines and cosines of a noise level in [0, 1], `size` of them (Vaswani et al. 2017; Ho et al. 2020, appendix B).

    Args:
        level: t / T.
        size: how many numbers come back; even.
    """
    rates = torch.exp(torch.linspace(0.0, math.log(1000.0), size // 2, device=level.device, dtype=level.dtype))
    angle = level[:, None] * rates
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def _groups(channels: int) -> int:
    return next(g for g in (8, 4, 2, 1) if channels % g == 0)


class Block(nn.Module):
    """Two convolutions with a shortcut; the noise level scales and shifts between them (Dhariwal and Nichol 2021)."""

    def __init__(self, before: int, after: int):
        super().__init__()
        self.first = nn.Sequential(
            nn.GroupNorm(_groups(before), before), nn.SiLU(), nn.Conv2d(before, after, 3, padding=1)
        )
        self.norm = nn.GroupNorm(_groups(after), after)
        self.second = nn.Conv2d(after, after, 3, padding=1)
        self.time = nn.Linear(TIME, 2 * after)
        self.short = nn.Identity() if before == after else nn.Conv2d(before, after, 1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # pyright: ignore[reportArgumentType] - it has a bias

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        scale, shift = self.time(time)[..., None, None].chunk(2, dim=1)
        h = self.norm(self.first(x)) * (1 + scale) + shift
        return self.short(x) + self.second(functional.silu(h))


class UNet(nn.Module):
    """Two pictures of one shape (the noisy one, and what a linear filter makes of it) to one: (n, c, h, w).

    Pictures are first cut into `patch` x `patch` tiles, each tile's pixels becoming channels, so that all
    convolutions work on a small grid; three scales below that. The last convolution starts at zero: an
    untrained net answers 0 everywhere.

    Args:
        shape: (c, h, w) of a picture; any h and w.
        width: channels at the finest scale; twice that at the next, three times at the last.
        patch: side of a tile; None takes 1 below 16 pixels, 2 below 48, 4 from there on.
    """

    def __init__(self, shape: tuple[int, ...], width: int = 32, patch: int | None = None):
        super().__init__()
        channels, height, side = shape
        least = min(height, side)
        self.patch = patch if patch is not None else 1 if least < 16 else 2 if least < 48 else 4
        tile = channels * self.patch**2
        a, b, c = width, 2 * width, 3 * width
        self.time = nn.Sequential(nn.Linear(TIME, TIME), nn.SiLU(), nn.Linear(TIME, TIME), nn.SiLU())
        self.enter = nn.Conv2d(2 * tile, a, 3, padding=1)
        self.down_1, self.down_2, self.middle = Block(a, a), Block(a, b), Block(b, c)
        self.up_2, self.up_1 = Block(c + b, b), Block(b + a, a)
        self.leave = nn.Sequential(nn.GroupNorm(_groups(a), a), nn.SiLU(), nn.Conv2d(a, tile, 3, padding=1))
        last = self.leave[2]
        for parameter in last.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, linear: Tensor, level: Tensor) -> Tensor:
        """`x`, `linear`: (n, c, h, w); `level`: (n,) noise level t / T in [0, 1]."""
        height, side = x.shape[-2:]
        pad = (0, -side % self.patch, 0, -height % self.patch)
        tiles = functional.pixel_unshuffle(functional.pad(torch.cat([x, linear], dim=1), pad, "replicate"), self.patch)
        time = self.time(time_waves(level))
        fine = self.down_1(self.enter(tiles), time)
        mid = self.down_2(functional.avg_pool2d(fine, 2, ceil_mode=True), time)
        low = self.middle(functional.avg_pool2d(mid, 2, ceil_mode=True), time)
        mid = self.up_2(torch.cat([functional.interpolate(low, mid.shape[-2:], mode="nearest"), mid], dim=1), time)
        fine = self.up_1(torch.cat([functional.interpolate(mid, fine.shape[-2:], mode="nearest"), fine], dim=1), time)
        return functional.pixel_shuffle(self.leave(fine), self.patch)[..., :height, :side]


def cosine_schedule(times: int = TIMES, offset: float = 0.008) -> Float[Array, " m"]:
    """How much of the picture is left at each time: alpha_bar, (times + 1,), from 1 at time 0 down to nearly 0.

    alpha_bar_t = f(t) / f(0) with f(t) = cos²((t / T + s) / (1 + s) · π / 2), no step taking more than 99.9 % of
    the variance (Nichol and Dhariwal 2021, equation 17). A noisy record is
    x_t = sqrt(alpha_bar_t) x + sqrt(1 - alpha_bar_t) ε.
    """
    f = np.cos((np.arange(times + 1) / times + offset) / (1 + offset) * math.pi / 2) ** 2
    kept = np.maximum(f[1:] / f[:-1], 1e-3)
    return np.concatenate([[1.0], np.cumprod(kept)])


def few_times(steps: int, times: int = TIMES) -> list[int]:
    """`steps` + 1 times from `times` down to 0, closer towards the end: where a short DDIM chain stops."""
    return [round(times * (left / steps) ** 1.5) for left in range(steps, -1, -1)]


def even_times(steps: int, times: int = TIMES) -> list[int]:
    """Times from `times` down to 0, evenly spaced, in `steps` steps (fewer when there are not so many times)."""
    return sorted({round(times * left / steps) for left in range(steps + 1)}, reverse=True)


class Denoiser(nn.Module):
    """E[x | x_t]: the posterior mean under a Gaussian, plus what a net adds to it.

    Works on standardised records y = (x - mean) / scale, flat: (n, d), of mean 0 and mean variance 1. The
    Gaussian is a probabilistic principal component analysis (Tipping and Bishop 1999): variance l_i along the
    basis vectors u_i, `floor` along all others. Its posterior mean is the linear filter

        W_t y_t = sqrt(a) Σ_i l_i / (a l_i + 1 - a) u_i u_iᵀ y_t (+ the same with `floor` elsewhere),   a = alpha_bar_t,

    with a mean posterior variance v_t = mean_i l_i (1 - a) / (a l_i + 1 - a). The net F answers in units of
    sqrt(v_t), so that an untrained one (F = 0) leaves the best linear denoiser, and what it has to learn is of one size
    at every noise level (the preconditioning of Karras et al. 2022, with the linear filter in place of a scalar).

    Args:
        shape: (c, h, w) of a picture.
        components: how many directions have a variance of their own.
        width: channels of the net on its finest grid; 0 leaves it out.
    """

    basis: Tensor
    variances: Tensor
    floor: Tensor
    mean: Tensor
    scale: Tensor
    alpha_bar: Tensor

    def __init__(self, shape: tuple[int, ...], components: int, width: int = 32):
        super().__init__()
        self.shape, self.width = shape, width
        size = int(np.prod(shape))
        self.net = UNet(shape, width) if width else None
        self.register_buffer("basis", torch.zeros(components, size))
        self.register_buffer("variances", torch.ones(components))
        self.register_buffer("floor", torch.ones(()))
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("alpha_bar", torch.from_numpy(cosine_schedule()).float())

    def fit_linear(self, flat: Float[Array, " n d"]) -> None:
        """Set mean, scale and the Gaussian from records in unit scale.

        Raises:
            DataError: for records that are all the same.
        """
        keep, size = len(self.variances), flat.shape[1]
        mean = flat.mean(axis=0)
        centred = (flat - mean).astype(np.float64)
        scale = float(np.sqrt((centred**2).mean()))
        if scale < 1e-6:
            raise DataError("a prior needs public records that differ from each other; these are all the same")
        _, s, vt = np.linalg.svd(centred / scale, full_matrices=False)
        spectrum = s**2 / max(len(flat) - 1, 1)
        rest = float(spectrum[keep:].sum()) / max(size - keep, 1)
        self.basis.copy_(torch.from_numpy(vt[:keep]))
        # Never quite flat: a direction that no public record uses still gets a little room.
        self.floor.fill_(max(rest, 1e-4))
        self.variances.copy_(torch.from_numpy(np.maximum(spectrum[:keep], float(self.floor))))
        self.mean.copy_(torch.from_numpy(mean))
        self.scale.fill_(scale)

    def gains(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The filter's factors at times `t` (n,): (n, k) along the basis, (n, 1) everywhere else."""
        a = self.alpha_bar[t][:, None]
        along = self.variances * a.sqrt() / (a * self.variances + 1 - a)
        return along, self.floor * a.sqrt() / (a * self.floor + 1 - a)

    def filtered(self, y: Float[Tensor, " n d"], along: Tensor, rest: Tensor) -> Float[Tensor, " n d"]:
        """`y` scaled by `along` along the basis and by `rest` everywhere else."""
        return rest * y + (y @ self.basis.T * (along - rest)) @ self.basis

    def linear(self, y: Float[Tensor, " n d"], t: Tensor) -> Float[Tensor, " n d"]:
        """W_t y_t, the posterior mean under the Gaussian; `t`: (n,) times 0 to T."""
        return self.filtered(y, *self.gains(t))

    def unsure(self, t: Tensor) -> Float[Tensor, " n"]:
        """sqrt(v_t): how far off the linear filter is expected to be, a pixel."""
        # The posterior variance of a direction is its factor times (1 - a) / sqrt(a).
        along, rest = self.gains(t)
        a, size = self.alpha_bar[t], self.basis.shape[1]
        total = along.sum(dim=1) + rest[:, 0] * (size - len(self.variances))
        return (total / size * (1 - a) / a.sqrt()).sqrt()

    def shrunk(self, y: Float[Tensor, " n d"], t: Tensor, limit: float) -> Float[Tensor, " n d"]:
        """Noisy records at times `t` (n,) with each coordinate along the basis drawn in at `limit` deviations.

        The standard deviation of a coordinate at time t is sqrt(a l_i + 1 - a): what a draw of the prior would have.
        """
        a = self.alpha_bar[t][:, None]
        bound = limit * (a * self.variances + 1 - a).sqrt()
        along = y @ self.basis.T
        return y + (along.clamp(-bound, bound) - along) @ self.basis

    def correction(self, y: Float[Tensor, " n d"], linear: Float[Tensor, " n d"], t: Tensor) -> Float[Tensor, " n d"]:
        """What the net adds, in units of `unsure`."""
        if self.net is None:
            return torch.zeros_like(y)
        with mixed(y.device):
            said = self.net(y.reshape(-1, *self.shape), linear.reshape(-1, *self.shape), t.to(y.dtype) / TIMES)
        return said.to(y.dtype).reshape(y.shape)

    def forward(self, y: Float[Tensor, " n d"], t: Tensor) -> Float[Tensor, " n d"]:
        """The predicted clean record, standardised, for noisy ones at times `t` (n,), from 1 to T."""
        linear = self.linear(y, t)
        return linear + self.unsure(t)[:, None] * self.correction(y, linear, t)


def ddim_step(denoiser: Denoiser, y: Float[Tensor, " n d"], now: int, then: int) -> Float[Tensor, " n d"]:
    """One deterministic step of Song et al. 2021 (equation 12, σ = 0) from time `now` to the earlier `then`."""
    t = torch.full((len(y),), now, device=y.device)
    return on_the_line(y, denoiser(y, t), float(denoiser.alpha_bar[now]), float(denoiser.alpha_bar[then]))


def on_the_line(y: Tensor, clean: Tensor, now: float, then: float) -> Tensor:
    """The point at alpha_bar `then` on the line that `y` at alpha_bar `now` and its predicted clean record span."""
    noise = (y - math.sqrt(now) * clean) / math.sqrt(1 - now)
    return math.sqrt(then) * clean + math.sqrt(1 - then) * noise


def ddim_undone(
    denoiser: Denoiser, y: Float[Tensor, " n d"], now: int, then: int, rounds: int
) -> Float[Tensor, " n d"]:
    """The point at time `now` that a step brings to `y` at the earlier time `then`, nearly.

    The step is y = r p + (sqrt(b) - r sqrt(a)) D(p) with r = sqrt((1 - b) / (1 - a)). D is a linear filter, which is
    inverted exactly, and the net's correction, which is taken at the last p: a fixed-point iteration.
    """
    a, b = float(denoiser.alpha_bar[now]), float(denoiser.alpha_bar[then])
    r = math.sqrt((1 - b) / (1 - a))
    c = math.sqrt(b) - r * math.sqrt(a)
    t = torch.full((len(y),), now, device=y.device)
    along, rest = denoiser.gains(t)
    undo = partial(denoiser.filtered, along=1 / (r + c * along), rest=1 / (r + c * rest))
    size = denoiser.unsure(t)[:, None]
    p = undo(y)
    for _ in range(rounds):
        p = undo(y - c * size * denoiser.correction(p, denoiser.linear(p, t), t))
    return p


def denoising_loss(denoiser: Denoiser, y: Float[Tensor, " n d"], t: Tensor, noise: Tensor) -> Tensor:
    """Squared error of the predicted clean record, in units of the linear filter's own variance: (n,).

    It is 1 on average for the untrained net on Gaussian records. It weighs the simple loss of Ho et al. 2020
    (equation 14) by noise level, which leaves its minimum, E[x | x_t], as it is.
    """
    a = denoiser.alpha_bar[t][:, None]
    seen = a.sqrt() * y + (1 - a).sqrt() * noise
    linear = denoiser.linear(seen, t)
    wanted = (y - linear) / denoiser.unsure(t)[:, None]
    return ((denoiser.correction(seen, linear, t) - wanted) ** 2).mean(dim=1)
