"""Pieces of photographs that the benchmarks of this folder share."""

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images


def photographs(n: int, rng: np.random.Generator) -> np.ndarray:
    """(n, 3, 32, 32) random crops, 48 to 199 pixels wide, of the two photographs of scikit-learn."""
    pictures = load_sample_images().images
    crops: list[np.ndarray] = []
    for _ in range(n):
        whole = pictures[int(rng.integers(len(pictures)))]
        side = int(rng.integers(48, 200))
        top, left = int(rng.integers(whole.shape[0] - side)), int(rng.integers(whole.shape[1] - side))
        crop = Image.fromarray(whole[top : top + side, left : left + side]).resize((32, 32), Image.Resampling.LANCZOS)
        crops.append(np.asarray(crop, dtype=np.float32).transpose(2, 0, 1) / 255)
    return np.stack(crops)
