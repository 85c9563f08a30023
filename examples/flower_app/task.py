"""The model and the data of a small federation: digits, shared out among the clients."""

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset


def mlp() -> nn.Module:
    """A fully connected network, as one might start with."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))


def cnn() -> nn.Module:
    """Convolutions and a classifier, as in the tutorials."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 10),
    )


MODELS = {"mlp": mlp, "cnn": cnn}


def shard(client: int, clients: int, most: int) -> tuple[np.ndarray, np.ndarray]:
    """A client's records, (n, 1, 8, 8) in [0, 1], at most `most`, and their classes."""
    digits = load_digits()
    rows = np.random.default_rng(0).permutation(len(digits.target))[client::clients][:most]
    return (digits.images[rows, None] / 16).astype(np.float32), digits.target[rows].astype(np.int64)


def train(
    net: nn.Module, x: np.ndarray, y: np.ndarray, *, epochs: int, batch: int, lr: float, momentum: float
) -> float:
    """Plain local training; returns the mean loss of the last epoch."""
    loader = DataLoader(TensorDataset(torch.from_numpy(x), torch.from_numpy(y)), batch_size=batch, shuffle=True)
    optimiser = torch.optim.SGD(net.parameters(), lr=lr, momentum=momentum)
    total = 0.0
    for _ in range(epochs):
        total = 0.0
        for images, labels in loader:
            optimiser.zero_grad()
            loss = functional.cross_entropy(net(images), labels)
            loss.backward()
            optimiser.step()
            total += float(loss.detach()) * len(labels)
    return total / len(x)
