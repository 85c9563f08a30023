"""Defects of breaching 0.1.2, each shown by a run of it: python benchmarks/gradient-dlg/defects.py

What was expected and what came, one after another; one JSON object last.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from gradient_peer import beside, lenet, pictures


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        job = Path(place)
        np.savez(job / "given.npz", x=np.concatenate([pictures("reported"), pictures("chosen on")]))
        np.savez(job / "weights.npz", *[w.detach().numpy() for w in lenet().parameters()])
        beside("gradient_breaching_defects.py", place)
        print((job / "shown.json").read_text())


if __name__ == "__main__":
    main()
