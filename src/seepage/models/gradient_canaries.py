"""Canaries as gradients: put into the steps of a DP-SGD training loop, read off its noised updates.

The strongest canary is a record whose gradient is as long as the clipping allows and lies where no other record's does.
Here each has a weight of its own, which no answer of the model depends on: its gradient is along that weight alone
(a Dirac), orthogonal to those of all records and of all other canaries. Clipping, sampling, summing and noise are
those of the training loop. Whoever sees every noised update adds up what each canary's weight was moved by.

Sources: Nasr, Hayes, Steinke, Balle, Tramer, Jagielski, Carlini and Terzis 2023, Tight Auditing of Differentially
Private Machine Learning, USENIX Security (gradient canaries); Steinke, Nasr and Jagielski 2023, Privacy Auditing with
One (1) Training Run, NeurIPS (Dirac gradients, many at once).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from seepage.core.errors import ConfigError

# The layer whose weights are the canaries' own.
LAYER = "gradient_canaries"
# How long a canary's gradient is before it is clipped, in units of the clip: well beyond what any clip leaves.
LENGTH = 10.0


class WithCanaries(nn.Module):
    """A network with a weight for each canary beside its own; as a model it is the network.

    The training data holds an entry for each included canary, which is a number from 0 instead of a record. In the
    training loop `losses` is asked in place of the network and the cross-entropy.

    Args:
        net: gives logits; trained as ever.
        count: how many canaries there are, included or not.
        strength: the length of a canary's gradient.
    """

    def __init__(self, net: nn.Module, count: int, strength: float = LENGTH):
        super().__init__()
        if count < 1 or not strength > 0:
            raise ConfigError(f"canaries of a strength above 0 were wanted, got {count} of {strength:g}")
        self.net = net
        self.gradient_canaries = nn.Linear(count, 1, bias=False)
        nn.init.zeros_(self.gradient_canaries.weight)
        self.count, self.strength = count, strength

    def forward(self, x: Tensor, which: Tensor | None = None) -> Tensor:
        """Logits (n, classes) of records; with `which`, a further column that moves the canaries' weights alone.

        Args:
            x: (n, *shape) records; of a canary's entry anything of that shape.
            which: (n,) the canary of each entry, -1 for a record.
        """
        logits = self.net(x)
        if which is None:
            return logits
        own = functional.one_hot(which + 1, self.count + 1)[:, 1:].to(logits.dtype)
        return torch.cat([logits, self.gradient_canaries(own)], dim=1)


def losses(answers: Tensor, y: Tensor, which: Tensor, strength: float = LENGTH) -> Tensor:
    """(n,) the loss of each entry: the cross-entropy of a record, `strength` times its own weight of a canary.

    Args:
        answers: of `WithCanaries` given `which`.
        y: (n,) classes; of a canary's entry any.
        which: (n,) as the network was given.
        strength: the length of a canary's gradient, before it is clipped.
    """
    record = functional.cross_entropy(answers[:, :-1], y, reduction="none")
    return torch.where(which < 0, record, -strength * answers[:, -1])


def with_entries(x: Tensor, y: Tensor, included: Sequence[bool]) -> tuple[Tensor, Tensor, Tensor]:
    """The records with an entry for each included canary: records, classes, and which canary each is (-1 for none)."""
    chosen = torch.tensor([i for i, coin in enumerate(included) if coin], dtype=torch.long)
    which = torch.cat([torch.full((len(x),), -1), chosen])
    blank = x.new_zeros((len(chosen), *x.shape[1:]))
    return torch.cat([x, blank]), torch.cat([y, y.new_zeros(len(chosen))]), which
