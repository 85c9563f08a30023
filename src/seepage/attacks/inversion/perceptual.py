"""A perceptual prior without a network: a picture's oriented edges should be those of public pictures."""

import torch
from jaxtyping import Float
from torch.nn import functional

# Spread of the filters, in pixels of a picture whose shorter side is 32, and how fine the grid of cells is.
SPREADS = (0.7, 1.4)
CELLS = 8


def oriented_edges(x: Float[torch.Tensor, " n c h w"]) -> Float[torch.Tensor, " n f"]:
    """Edge energies of pictures in unit scale: (n, f), non-negative.

    Derivatives of a Gaussian at two scales and four angles (a steerable bank: Freeman & Adelson 1991; no
    filter is learned), squared, averaged over a grid of cells, and the root taken. Channels are averaged
    first. Differentiable.
    """
    grey = x.mean(dim=1, keepdim=True)
    side = min(x.shape[-2:])
    found: list[torch.Tensor] = []
    for spread in SPREADS:
        sigma = spread * max(side / 32, 0.5)
        reach = min(max(int(3 * sigma + 0.5), 1), side - 1)
        at = torch.arange(-reach, reach + 1, dtype=x.dtype)
        bell = torch.exp(-(at**2) / (2 * sigma**2))
        bell = bell / bell.sum()
        slope = -at * bell / (at**2 * bell).sum().clamp_min(1e-12)
        padded = functional.pad(grey, (reach,) * 4, mode="replicate")
        down = functional.conv2d(functional.conv2d(padded, slope.view(1, 1, -1, 1)), bell.view(1, 1, 1, -1))
        across = functional.conv2d(functional.conv2d(padded, bell.view(1, 1, -1, 1)), slope.view(1, 1, 1, -1))
        diagonal = 0.5**0.5
        angles = (across, down, (across + down) * diagonal, (across - down) * diagonal)
        energy = torch.cat([(sigma * answer) ** 2 for answer in angles], dim=1)
        cells = functional.adaptive_avg_pool2d(energy, (min(CELLS, x.shape[-2]), min(CELLS, x.shape[-1])))
        found.append(torch.sqrt(cells + 1e-6).flatten(1))
    return torch.cat(found, dim=1)


class PerceptualPrior:
    """How far a picture's edges are from those of public pictures.

    distance(x) = mean over features of ((e_i(x) - mean_i) / spread_i)^2, where e are `oriented_edges` and mean
    and spread are those of the public pictures: about 1 for a public picture, many for noise. A perceptual
    distance in the sense of Johnson, Alahi & Fei-Fei 2016, with fixed filters in place of a network's.

    Args:
        public: (m, c, h, w) public pictures in unit scale, two or more.
    """

    def __init__(self, public: Float[torch.Tensor, " m c h w"]):
        with torch.no_grad():
            seen = torch.cat([oriented_edges(part) for part in public.split(256)])
        self._mean = seen.mean(dim=0)
        spread = seen.std(dim=0)
        # Cells that are always the same (a plain border) would otherwise weigh without limit.
        self._spread = spread.clamp_min(0.1 * float(spread.mean()) + 1e-4)

    def __call__(self, x: Float[torch.Tensor, " n c h w"]) -> Float[torch.Tensor, " n"]:
        """The distance of pictures in unit scale; differentiable."""
        return (((oriented_edges(x) - self._mean) / self._spread) ** 2).mean(dim=1)
