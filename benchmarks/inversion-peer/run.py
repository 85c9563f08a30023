"""ART's MIFace and ours side by side: the same victims and classes, the same judge, seconds of both.

ART is installed into a folder of its own under runs/ (see README.md); it is never a dependency of Seepage.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seepage.attacks.inversion.fredrikson2015 import MIFace
from seepage.attacks.inversion.latent import LatentGradient
from seepage.audit.training import Trainer
from seepage.cases import inversion
from seepage.cases.world import World
from seepage.core.attack import InversionAttack
from seepage.core.guess import Guess, Reconstruction
from seepage.core.scorer import Controls
from seepage.core.seeds import derive, stream
from seepage.core.target import Target
from seepage.data import load_builtin, split_identities
from seepage.models.priors import Shelf
from seepage.scoring.inversion import score
from seepage.targets import infer_spec

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PEER = "adversarial-robustness-toolbox==1.20.1"
SEED = 0
# As shipped but for the batch (all people at once, which is kind: the default is one at a time), and with a lower
# threshold, since its stopping rule is inverted (see README.md).
ART = {"art-miface": {"batch_size": 20}, "art-miface-threshold-0.01": {"batch_size": 20, "threshold": 0.01}}
OURS: dict[str, InversionAttack] = {
    "mi-face": MIFace(),
    "mi-face-adam-tv": MIFace(
        steps=300,
        patience=300,
        confidence=1.0,
        rate=0.02,
        tv=2.0,
        objective="cross-entropy",
        optimiser="adam",
        start="public-mean",
    ),
    "latent": LatentGradient(),
}


def install(folder: Path) -> None:
    """The peer and what it lacks here, into a folder of its own, without its dependencies."""
    if (folder / "art").is_dir():
        return
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
    subprocess.run([*command, PEER, "six", "setuptools<81"], check=True)


def world(victim: str) -> World:
    """AT&T faces at 32 x 32: 20 private people, 20 public ones."""
    parts = split_identities(
        load_builtin("att-faces", size=32), private=20, members_per_class=5, seed=derive(SEED, "split")
    )
    spec = infer_spec(parts)
    recipe = Trainer.named(victim, {}).recipe(spec, parts.members, None)
    return World(
        open_victim=lambda: recipe.fit(np.arange(len(parts.members)), derive(SEED, "victim")),
        spec=spec,
        members=parts.members,
        nonmembers=parts.nonmembers,
        public=parts.public,
        recipe=recipe,
        priors=Shelf(),
        seed=SEED,
    )


def peers(found: World, folder: Path) -> dict[str, tuple[Guess, Guess, float]]:
    """What ART makes of the victim and of its twin, and its seconds on the victim."""
    with tempfile.TemporaryDirectory() as place:
        job = Path(place)
        example = torch.zeros(1, *found.spec.shape)
        for name, model in (("victim", found.victim), ("twin", found.twin)):
            module: Any = getattr(model, "differentiable")()  # noqa: B009 - a torch model, as the recipe trains
            torch.jit.trace(module, example).save(str(job / f"{name}.pt"))
        setting = {"classes": 20, "shape": list(found.spec.shape), "attacks": ART, "start": "zero"}
        (job / "setting.json").write_text(json.dumps(setting))
        path = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, str(HERE / "peer.py"), str(job)], check=True, env=path)
        made: dict[str, tuple[Guess, Guess, float]] = {}
        for label in ART:
            parts = [np.load(job / f"{name}-{label}.npz") for name in ("victim", "twin")]
            guesses = [Reconstruction(np.clip(part["x"], 0, 1), np.arange(20)) for part in parts]
            made[label] = (guesses[0], guesses[1], float(parts[0]["seconds"]))
        return made


def main() -> None:
    torch.set_num_threads(1)
    folder = ROOT / "runs" / "bench" / "inversion-peer"
    install(folder)
    result: dict[str, Any] = {}
    for victim in ("softmax", "cnn"):
        found = world(victim)
        case = inversion.build(found)
        made = peers(found, folder)
        for label, attack in OURS.items():
            guesses: list[Guess] = []
            seconds = 0.0
            for model in (case.null, case.victim):
                if model is None:
                    raise ValueError("the twin is missing")
                begun = time.perf_counter()
                target = Target(model, attack.needs)
                guesses.append(attack.run(target, inversion.knowledge(found), stream(SEED, "attack", label)))
                seconds = time.perf_counter() - begun
            made[label] = (guesses[1], guesses[0], seconds)
        for label, (guess, null, seconds) in made.items():
            scored = score(guess, case.secret, Controls(no_model=case.baselines, null_model=null))
            headline = scored.scores[scored.headline]
            if headline.value is None or not isinstance(guess, Reconstruction):
                raise ValueError(f"{label} has no value")
            own = found.victim.predict(guess.x)[np.arange(20), np.arange(20)]
            controls = {name: c.value for name, c in headline.controls.items() if c is not None}
            result[f"{victim}.{label}"] = {
                "value": headline.value,
                "low": headline.low,
                "high": headline.high,
                "no_model": controls.get("no_model"),
                "null_model": controls.get("null_model"),
                "victim_confidence": round(float(own.mean()), 3),
                "seconds": round(seconds, 2),
            }
            row = result[f"{victim}.{label}"]
            print(
                f"{victim + '.' + label:<34} judge {headline.value:.2f} [{headline.low:.2f}, {headline.high:.2f}] twin "
                f"{row['null_model']:.2f} victim's confidence {row['victim_confidence']:.2f} {seconds:6.1f} s",
                flush=True,
            )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
