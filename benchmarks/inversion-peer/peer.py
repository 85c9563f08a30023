"""ART's MIFace on a victim and its twin: reads a job folder, writes what it made and how long it took.

Run by run.py in a process of its own, so that the peer and its dependencies stay out of ours.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from art.attacks.inference.model_inversion import MIFace
from art.estimators.classification import PyTorchClassifier


def main(job: Path) -> None:
    torch.set_num_threads(1)
    setting = json.loads((job / "setting.json").read_text())
    classes, shape = setting["classes"], tuple(setting["shape"])
    for name in ("victim", "twin"):
        network = torch.jit.load(str(job / f"{name}.pt"))
        estimator = PyTorchClassifier(
            model=network,
            loss=torch.nn.CrossEntropyLoss(),
            input_shape=shape,
            nb_classes=classes,
            clip_values=(0.0, 1.0),
        )
        for label, options in setting["attacks"].items():
            attack = MIFace(estimator, verbose=False, **options)
            start = np.full((classes, *shape), 0.5, dtype=np.float32) if setting["start"] == "grey" else None
            begun = time.perf_counter()
            found = attack.infer(start, np.arange(classes))
            seconds = time.perf_counter() - begun
            np.savez(job / f"{name}-{label}.npz", x=found.astype(np.float32), seconds=seconds)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
