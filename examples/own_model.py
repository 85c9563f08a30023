"""How the model of `own_model.toml` is built and trained: what you would take from your own project."""

import numpy as np
import torch


def build(features: int = 30, classes: int = 2, width: int = 64) -> torch.nn.Module:
    """The network, untrained: raw measurements in, logits out."""
    return torch.nn.Sequential(
        torch.nn.BatchNorm1d(features),
        torch.nn.Linear(features, width),
        torch.nn.ReLU(),
        torch.nn.Linear(width, width),
        torch.nn.ReLU(),
        torch.nn.Linear(width, classes),
    )


def fit(x: np.ndarray, y: np.ndarray, seed: int, epochs: int = 300) -> torch.nn.Module:
    """A network trained on records (n, features) and classes (n,); the same seed gives the same network."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = build(x.shape[1], int(y.max()) + 1)
        records, classes = torch.from_numpy(x), torch.from_numpy(y)
        optimiser = torch.optim.Adam(net.parameters(), 3e-3)
        net.train()
        for _ in range(epochs):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(net(records), classes).backward()
            optimiser.step()
    return net.eval()
