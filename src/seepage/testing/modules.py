"""The torch networks behind the victims of known leakage; imported when their weights are asked for."""

import numpy as np
import torch
from jaxtyping import Float, Int

Array = np.ndarray


class TemplateModule(torch.nn.Module):
    """Records (n, *shape) to the logits of `TemplateVictim`, in the precision of the records."""

    def __init__(self, templates: Float[Array, " k ..."], labels: Int[Array, " k"], scale: float, power: float):
        super().__init__()
        self.templates = torch.nn.Parameter(torch.from_numpy(np.ascontiguousarray(templates, dtype=np.float64)))
        self.labels = labels
        self.scale = scale
        self.power = power

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        templates = self.templates.to(x.dtype).flatten(1)
        squared = (x.flatten(1)[:, None] - templates[None]).square().sum(-1)
        kernel = -self.power * torch.log1p(squared / self.scale)
        classes = [kernel[:, self.labels == c].logsumexp(1) for c in range(int(self.labels.max()) + 1)]
        return torch.stack(classes, 1)

    def features(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The distance to every template, (n, k), as the victim's `embeddings` are, and the logits, from one pass."""
        squared = (x.flatten(1)[:, None] - self.templates.to(x.dtype).flatten(1)[None]).square().sum(-1)
        # Where a record is a template the distance has no slope; a root of zero would give NaN.
        return squared.clamp_min(1e-12).sqrt(), self(x)


class ConstantModule(torch.nn.Module):
    """The same logits whatever is asked; the gradient at the record is zero, not missing."""

    def __init__(self, logits: Float[Array, " c"]):
        super().__init__()
        self.answer = torch.nn.Parameter(torch.from_numpy(np.ascontiguousarray(logits, dtype=np.float64)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.answer.to(x.dtype)[None] + 0.0 * x.flatten(1).sum(1, keepdim=True)

    def features(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features that are zero whatever is asked, (n, 1), and the logits, from one pass."""
        return 0.0 * x.flatten(1).sum(1, keepdim=True), self(x)


def constant_network(size: int, logit: float) -> torch.nn.Module:
    """Two fully connected layers that answer every record of so many values with the logits 0 and `logit`."""
    # Layers draw their first weights from the global generator, which is not this one's to move.
    with torch.random.fork_rng(devices=[]):
        net = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(size, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2, bias=False)
        )
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        for name, values in (("1.bias", [1.0, 2.0, 3.0]), ("3.weight", [[0.0] * 3, [logit / 6] * 3])):
            net.get_parameter(name).copy_(torch.tensor(values))
    return net.eval()
