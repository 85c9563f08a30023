"""Light generator and critic for pictures of any size, meant for few public records and two cores.

After FastGAN (Liu et al., ICLR 2021): gated blocks in the generator, and a critic that also redraws what
it sees, so that it learns pictures from few of them. Its skip-layer excitation, made for the long way to
1024 pixels, is left out: up to 64 pixels there are four blocks, and without it each stage is a map of one
tensor, which a search between the stages needs. Classes condition the generator through its
normalisation and the critic through a projection (Miyato & Koyama, ICLR 2018).
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from seepage.core.errors import DataError

LEAST_SIDE = 8


def grid_of(shape: Sequence[int]) -> tuple[int, int, int]:
    """Where drawing begins: height and width of the coarsest grid (4 to 7 on the shorter side), and the doublings.

    Doubling the grid that often covers the picture; what is over is cropped.

    Raises:
        DataError: for a shape that is no picture of at least 8 x 8.
    """
    if len(shape) != 3 or min(shape[1:]) < LEAST_SIDE or shape[0] < 1:
        raise DataError(
            f"a GAN draws pictures (channels, height, width) of at least {LEAST_SIDE} x {LEAST_SIDE}, got "
            f"{tuple(shape)}; use the prior 'pca'"
        )
    _, height, width = shape
    doublings = int(math.log2(min(height, width) / 4))
    cell = 2**doublings
    return math.ceil(height / cell), math.ceil(width / cell), doublings


class ClassNorm(nn.Module):
    """Batch normalisation; gain and offset are of the class when classes are known.

    Without a class at hand, the mean of all classes is used.
    """

    def __init__(self, channels: int, classes: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=classes == 0)
        self.gain = nn.Parameter(torch.ones(classes, channels)) if classes else None
        self.offset = nn.Parameter(torch.zeros(classes, channels)) if classes else None

    def forward(self, x: torch.Tensor, classes: torch.Tensor | None = None) -> torch.Tensor:
        out = self.norm(x)
        if self.gain is None or self.offset is None:
            return out
        if classes is None:
            gain, offset = self.gain.mean(0, keepdim=True), self.offset.mean(0, keepdim=True)
        else:
            gain, offset = self.gain[classes], self.offset[classes]
        return out * gain[:, :, None, None] + offset[:, :, None, None]


class DrawBlock(nn.Module):
    """Twice the grid: nearest neighbours, one convolution, normalisation, a gated linear unit."""

    def __init__(self, before: int, after: int, classes: int):
        super().__init__()
        self.conv = nn.Conv2d(before, 2 * after, 3, padding=1, bias=False)
        self.norm = ClassNorm(2 * after, classes)

    def forward(self, x: torch.Tensor, classes: torch.Tensor | None = None) -> torch.Tensor:
        wide = functional.interpolate(x, scale_factor=2.0, mode="nearest")
        return functional.glu(self.norm(self.conv(wide), classes), dim=1)


class Generator(nn.Module):
    """Latents (n, size), standard normal, to pictures (n, *shape) in [0, 1].

    Args:
        shape: (channels, height, width), each side at least 8.
        size: numbers in a latent.
        width: channels on the finest grid but one, doubled towards the coarser ones up to four times it.
        classes: how many classes condition it; 0 for none.

    Raises:
        DataError: for a shape it cannot draw.
    """

    def __init__(self, shape: Sequence[int], size: int = 64, width: int = 32, classes: int = 0):
        super().__init__()
        height, across, doublings = grid_of(shape)
        self.shape = (int(shape[0]), int(shape[1]), int(shape[2]))
        self.size, self.width, self.classes = size, width, classes
        self._grid = (height, across)
        # Channels on the grid before each doubling, coarsest first; the finest grid has half of `width`.
        channels = [width * min(4, 2 ** (doublings - 1 - i)) for i in range(doublings)] + [max(width // 2, 4)]
        self._coarse = channels[0]
        self.begin = nn.Linear(size, 2 * channels[0] * height * across, bias=False)
        self.begin_norm = ClassNorm(2 * channels[0], classes)
        self.blocks = nn.ModuleList(DrawBlock(a, b, classes) for a, b in pairwise(channels))
        self.end = nn.Conv2d(channels[-1], self.shape[0], 3, padding=1)
        nn.init.orthogonal_(self.begin.weight)

    def start(self, z: torch.Tensor, classes: torch.Tensor | None = None) -> torch.Tensor:
        """The coarsest features: (n, channels, 4 to 7, 4 to 7)."""
        rough = self.begin(z).reshape(len(z), 2 * self._coarse, *self._grid)
        return functional.glu(self.begin_norm(rough, classes), dim=1)

    def finish(self, features: torch.Tensor) -> torch.Tensor:
        """The picture in [0, 1] from the finest features, cropped to its size about the middle."""
        drawn = torch.tanh(self.end(features)) * 0.5 + 0.5
        _, height, width = self.shape
        top, left = (drawn.shape[2] - height) // 2, (drawn.shape[3] - width) // 2
        return drawn[:, :, top : top + height, left : left + width]

    def stages_for(self, classes: torch.Tensor | None = None) -> list[Callable[[torch.Tensor], torch.Tensor]]:
        """The maps that, one after the other, make up the generator for these classes (n,).

        The first takes latents, those between take features (n, channels, h, w), the last gives pictures.
        """

        def of(part: Callable[..., torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
            return lambda x: part(x, classes)

        return [of(self.start), *(of(block) for block in self.blocks), self.finish]

    @property
    def stages(self) -> list[Callable[[torch.Tensor], torch.Tensor]]:
        """`stages_for` no class in particular."""
        return self.stages_for(None)

    def forward(self, z: torch.Tensor, classes: torch.Tensor | None = None) -> torch.Tensor:
        """Pictures (n, *shape) in [0, 1]; `classes` (n,) are used by a conditional generator alone."""
        out = z
        for stage in self.stages_for(classes):
            out = stage(out)
        return out


def _normed(layer: nn.Module, normed: bool) -> nn.Module:
    return spectral_norm(layer) if normed else layer


class SeeBlock(nn.Module):
    """Half the grid: a strided convolution beside a pooled short cut (FastGAN's residual downsampling)."""

    def __init__(self, before: int, after: int, normed: bool):
        super().__init__()
        self.conv = _normed(nn.Conv2d(before, after, 4, stride=2, padding=1), normed)
        self.refine = _normed(nn.Conv2d(after, after, 3, padding=1), normed)
        self.short = _normed(nn.Conv2d(before, after, 1), normed)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        deep = functional.leaky_relu(self.conv(x), 0.2)
        deep = functional.leaky_relu(self.refine(deep), 0.2)
        # Odd sides lose their last line in both ways.
        return (deep + functional.leaky_relu(self.short(functional.avg_pool2d(x, 2)), 0.2)) * 0.7071


class Critic(nn.Module):
    """How real pictures (n, *shape) in [0, 1] look, as logits (n,): higher is more real.

    The layers up to the verdict are spectrally normalised (Miyato et al., ICLR 2018).

    Args:
        shape: (channels, height, width), each side at least 8.
        width: channels after the first halving, doubled with each further one up to four times it.
        classes: how many classes it judges against (projection); 0 for none.
        normed: False builds it without the normalisation: to hold weights into which it was worked.

    Attributes:
        features_width: how many features `features` gives.

    Raises:
        DataError: for a shape that is no picture of at least 8 x 8.
    """

    def __init__(self, shape: Sequence[int], width: int = 32, classes: int = 0, normed: bool = True):
        super().__init__()
        height, across, doublings = grid_of(shape)
        self.shape = (int(shape[0]), int(shape[1]), int(shape[2]))
        self.width, self.classes = width, classes
        cell = 2**doublings
        # Padded to a whole number of cells by its own edge, so that no line is lost on the way down.
        self._pad = (0, across * cell - self.shape[2], 0, height * cell - self.shape[1])
        channels = [width * min(4, 2**i) for i in range(doublings)]
        self.first = _normed(nn.Conv2d(self.shape[0], channels[0], 4, stride=2, padding=1), normed)
        self.blocks = nn.ModuleList(SeeBlock(a, b, normed) for a, b in pairwise(channels))
        self.pooled = _normed(nn.Conv2d(channels[-1], channels[-1], 3, padding=1), normed)
        self.features_width = 2 * channels[-1]
        self.mix = _normed(nn.Linear(channels[-1] * height * across, self.features_width), normed)
        self.head = _normed(nn.Linear(self.features_width, 1), normed)
        self.embed = _normed(nn.Embedding(classes, self.features_width), normed) if classes else None
        self._small = (height * 4, across * 4)
        self.redraw = nn.Sequential(
            nn.Upsample(scale_factor=2),
            nn.Conv2d(channels[-1], 2 * width, 3, padding=1),
            nn.GLU(dim=1),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GLU(dim=1),
            nn.Conv2d(width // 2, self.shape[0], 3, padding=1),
            nn.Tanh(),
        )

    def _padded(self, x: torch.Tensor) -> torch.Tensor:
        return functional.pad(x, self._pad, mode="replicate") if any(self._pad) else x

    def maps(self, x: torch.Tensor) -> torch.Tensor:
        """Features on the coarsest grid: (n, channels, 4 to 7, 4 to 7)."""
        out = functional.leaky_relu(self.first(self._padded(x) * 2 - 1), 0.2)
        for block in self.blocks:
            out = block(out)
        return out

    def features_of(self, maps: torch.Tensor) -> torch.Tensor:
        """The last features before the verdict, from `maps`: (n, features_width)."""
        out = functional.leaky_relu(self.pooled(maps), 0.2)
        return functional.leaky_relu(self.mix(out.flatten(1)), 0.2)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """The last features before the verdict: (n, features_width)."""
        return self.features_of(self.maps(x))

    def verdict(self, features: torch.Tensor, classes: torch.Tensor | None = None) -> torch.Tensor:
        """Logits (n,) from `features`; a conditional critic adds how well they fit `classes` (n,) when given."""
        logits = self.head(features)[:, 0]
        if self.embed is not None and classes is not None:
            logits = logits + (self.embed(classes) * features).sum(1)
        return logits

    def redrawn(self, maps: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What the critic can redraw of `x` from its `maps`, and `x` as small as that: both in [-1, 1].

        Their difference on real pictures is the self-supervised loss of FastGAN (its equation 3).
        """
        small = functional.interpolate(self._padded(x) * 2 - 1, size=self._small, mode="bilinear", antialias=True)
        return self.redraw(maps), small

    def forward(self, x: torch.Tensor, classes: torch.Tensor | None = None) -> torch.Tensor:
        """Logits (n,)."""
        return self.verdict(self.features(x), classes)


def augmented(x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Pictures (n, c, h, w) in [0, 1] changed at random: the same changes befall real and drawn ones.

    Differentiable augmentation (Zhao et al., NeurIPS 2020): brightness, saturation and contrast, a shift
    by up to an eighth, a cut-out square of half the side. Values may leave [0, 1].

    Args:
        x: the pictures, on any device.
        rng: a generator on the processor, so that any device sees the same changes.
    """
    n, _, height, width = x.shape
    draw = torch.rand(7, n, generator=rng).to(x.device)
    column = (n, 1, 1, 1)
    out = x + (draw[0].view(column) - 0.5) * 0.5
    if x.shape[1] == 3:
        grey = out.mean(1, keepdim=True)
        out = (out - grey) * (draw[1].view(column) * 2) + grey
    mean = out.mean((1, 2, 3), keepdim=True)
    out = (out - mean) * (draw[2].view(column) + 0.5) + mean
    rows, columns = torch.arange(height, device=x.device), torch.arange(width, device=x.device)
    down = (draw[3] * (height // 8 * 2 + 1)).long() - height // 8
    right = (draw[4] * (width // 8 * 2 + 1)).long() - width // 8
    # Shifted: a line beyond the edge is grey, as in the original.
    source_rows, source_columns = rows[None] + down[:, None], columns[None] + right[:, None]
    inside = ((source_rows >= 0) & (source_rows < height))[:, None, :, None]
    inside = inside & ((source_columns >= 0) & (source_columns < width))[:, None, None, :]
    at_rows, at_columns = source_rows.clamp(0, height - 1), source_columns.clamp(0, width - 1)
    picked = torch.arange(n, device=x.device)[:, None, None]
    out = torch.where(inside, out[picked, :, at_rows[:, :, None], at_columns[:, None]].permute(0, 3, 1, 2), 0.5)
    top, left = draw[5] * height - height / 4, draw[6] * width - width / 4
    cut_rows = (rows[None] >= top[:, None]) & (rows[None] < top[:, None] + height / 2)
    cut_columns = (columns[None] >= left[:, None]) & (columns[None] < left[:, None] + width / 2)
    return torch.where((cut_rows[:, :, None] & cut_columns[:, None, :])[:, None], 0.5, out)


@torch.no_grad()
def follow(average: nn.Module, net: nn.Module, keep: float) -> None:
    """Move `average` towards `net`: weights by the running average `keep`, buffers as they are."""
    for mean, now in zip(average.parameters(), net.parameters(), strict=True):
        mean.lerp_(now, 1 - keep)
    for mean, now in zip(average.buffers(), net.buffers(), strict=True):
        mean.copy_(now)
