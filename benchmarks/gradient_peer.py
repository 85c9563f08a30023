"""What the benchmarks of gradient inversion share: pictures, the network, and breaching beside us.

breaching 0.1.2 (MIT) is installed into a folder of its own under runs/, without its dependencies, and run in a
process of its own on the same pictures, weights and labels; it is never a dependency of Seepage.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image
from torch import nn

from seepage.core.assumptions import Assumptions, Rung
from seepage.core.attack import GradientAttack
from seepage.core.guess import Reconstruction
from seepage.core.knowledge import GradientKnowledge
from seepage.core.seeds import stream
from seepage.core.spec import InputSpec
from seepage.core.target import Target
from seepage.core.victim import Updates
from seepage.core.vocabulary import Access
from seepage.models.client_nets import client_net
from seepage.models.federated import ClientNet, LocalTraining, Mode

ROOT = Path(__file__).resolve().parents[1]
PEER = ("breaching==0.1.2", "lpips==0.1.4", "torchvision==0.28.0", "hydra-core==1.3.8", "omegaconf==2.4.0")
# omegaconf's grammar is of this version.
PEER_TOO = ("antlr4-python3-runtime==4.9.3",)
CLASSES = 10
# Mean and standard deviation of CIFAR-10, as the published configurations have it.
SPEC = InputSpec((3, 32, 32), mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))
# Top left corners of crops of 256 x 256 pixels: what is reported, and what parameters were chosen on, share no pixel.
CROPS = {"reported": ((0, 0), (171, 384)), "chosen on": ((0, 384), (171, 0))}


def pictures(which: str) -> np.ndarray:
    """Four photographs in [0, 1], (4, 3, 32, 32) float32: two crops each of two pictures of scikit-learn."""
    found = []
    for name in ("china.jpg", "flower.jpg"):
        whole = load_sample_image(name)
        for row, column in CROPS[which]:
            crop = Image.fromarray(whole[row : row + 256, column : column + 256])
            found.append(np.asarray(crop.resize((32, 32), Image.Resampling.LANCZOS)).transpose(2, 0, 1) / 255)
    return np.stack(found).astype(np.float32)


def lenet(seed: int = 0) -> nn.Module:
    """The LeNet of Zhu et al. on normalised pictures: without the centring that pictures in [0, 1] get."""
    layers = client_net("lenet-zhu", SPEC.shape, CLASSES, seed)
    if not isinstance(layers, nn.Sequential):
        raise TypeError("a sequence of layers was wanted")
    return layers[1:]


def captured(
    net: ClientNet, x: np.ndarray, y: np.ndarray, known: Mapping[str, Any], mode: Mode = "eval"
) -> tuple[Updates, GradientKnowledge]:
    """One gradient a client over its records x (k, b, ...) of classes y (k, b), and who sees it with what is known."""
    local = LocalTraining(mode=mode)
    sent = Updates(tuple(net.round(mine, own, local, stream(0, "round")) for mine, own in zip(x, y, strict=True)))
    told = {"batch": x.shape[1], "mode": mode, **known}
    ladder = Assumptions(**{name: Rung.known(value) for name, value in told.items()})
    return sent, GradientKnowledge(spec=SPEC, net=net, classes=CLASSES, clients=len(x), assumptions=ladder)


def played(attack: GradientAttack, sent: Updates, known: GradientKnowledge, seed: int = 0) -> Reconstruction:
    """The attack's guess; its facts have nothing of the truth."""
    return attack.run(Target(sent, {Access.UPDATES}), known, stream(seed, "benchmark"))


def decibels(x: np.ndarray, truth: np.ndarray) -> list[float]:
    """Peak signal-to-noise ratio of pictures in [0, 1], one a picture, the peak being 1."""
    error = ((np.clip(x, 0, 1).astype(np.float64) - truth) ** 2).reshape(len(x), -1).mean(axis=1)
    return [round(float(-10 * np.log10(e)), 2) for e in error]


def install(folder: Path) -> None:
    """The peer and what it lacks here, into a folder of its own, without dependencies."""
    if (folder / "breaching").is_dir():
        return
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
    subprocess.run([*command, *PEER, *PEER_TOO], check=True)


def peer(
    net: nn.Module, x: np.ndarray, y: np.ndarray, config: str, overrides: list[str], labels: bool
) -> tuple[np.ndarray, list[float]]:
    """What breaching makes of the gradient of each picture, in [0, 1], and its CPU seconds for each: `peer_batches`."""
    made, spent = peer_batches("lenet", net, x[:, None], y[:, None], config, overrides, labels)
    return made[:, 0], spent


def peer_batches(
    name: str,
    net: nn.Module,
    x: np.ndarray,
    y: np.ndarray,
    config: str,
    overrides: list[str],
    labels: bool,
    statistics: str = "public",
) -> tuple[np.ndarray, list[float]]:
    """What breaching makes of each client's gradient, (k, b, ...) in [0, 1], and its CPU seconds for each.

    Args:
        name: of the network in gradient_nets.
        net: that network, with the weights to be used.
        x: (k, b, ...) pictures in [0, 1].
        y: (k, b) their classes.
        config: name of breaching's configuration.
        overrides: of that configuration.
        labels: whether it is told the classes.
        statistics: of batch normalisation, as gradient_breaching.STATISTICS has it.
    """
    setting = {"net": name, "config": config, "overrides": overrides, "labels": labels, "classes": CLASSES}
    setting |= {"statistics": statistics, "mean": list(SPEC.mean), "std": list(SPEC.std)}
    with tempfile.TemporaryDirectory() as place:
        job = Path(place)
        np.savez(job / "weights.npz", *[w.detach().numpy() for w in net.parameters()])
        np.savez(job / "given.npz", x=SPEC.prepare(x.reshape(-1, *SPEC.shape)).reshape(x.shape), y=y)
        (job / "setting.json").write_text(json.dumps(setting))
        beside("gradient_breaching.py", place)
        with np.load(job / "made.npz") as made:
            std, mean = (np.array(side).reshape(3, 1, 1) for side in (SPEC.std, SPEC.mean))
            return np.clip(made["x"] * std + mean, 0, 1), [round(float(s), 2) for s in made["seconds"]]


def beside(script: str, *given: str) -> None:
    """Run a script of this folder in a process that has breaching."""
    folder = ROOT / "runs" / "bench" / "breaching"
    install(folder)
    path = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, str(Path(__file__).with_name(script)), *given], check=True, env=path)
