"""Texts recovered by `dager`: the seconds of the attack on random transformers, and whether every text was exact.

Seconds are CPU seconds of the attack alone, on one update, by one thread; the client's gradient is not counted.
"""

import time
from typing import Any

import numpy as np

from seepage.attacks.gradient.petrov2024 import Dager
from seepage.core.seeds import stream
from seepage.models.federated import LocalTraining
from seepage.models.text_clients import TextNet
from seepage.models.text_nets import text_net
from seepage.testing.text_clients import played_on, random_texts

SEED = 2024


def timed(net: TextNet, batch: int, length: int) -> tuple[float, bool]:
    """CPU seconds of the attack on one client's gradient, and whether it has every text and no other."""
    rng = stream(SEED, "benchmark", str(batch), str(length))
    texts = random_texts(batch, length, net.vocabulary, rng)
    update = net.round(texts, rng.integers(2, size=batch), LocalTraining(mode="eval"), rng)
    begun = time.process_time()
    found = played_on(Dager(), net, update, batch)
    return round(time.process_time() - begun, 2), sorted(found) == sorted(texts)


def measure() -> dict[str, Any]:
    """The figures by name: a decoder 256 wide of 3 layers and 5,000 tokens; then one of GPT-2's size, 4 x 12."""
    small = text_net("tiny-gpt", 5000, 2, SEED)
    few, many = timed(small, 4, 12), timed(small, 16, 15)
    del small
    large = timed(text_net("tiny-gpt", 50257, 2, SEED, width=768, layers=12, heads=12, length=1024), 4, 12)
    return {
        "dager_4x12_s": few[0],
        "dager_16x15_s": many[0],
        "gpt2_size_s": large[0],
        "dager_exact": bool(np.all([few[1], many[1], large[1]])),
    }


if __name__ == "__main__":
    print(measure())
