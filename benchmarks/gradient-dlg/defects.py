"""Defects of breaching 0.1.2, each shown by a run of it: python benchmarks/gradient-dlg/defects.py"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from gradient_peer import decibels, lenet, peer_whole, pictures


def main() -> None:
    x, y = pictures("reported"), np.arange(4)
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    options = ["impl.dtype=double", f"optim.max_iterations={steps}"]
    made = peer_whole(lenet(), x, y, "deepleakage", options, labels=False, defects=True)
    print(f"reconstruct(payloads, shared), as its README calls it, raises: {made['without']}")
    for k, (db, label) in enumerate(zip(decibels(made["x"], x), made["labels"], strict=True)):
        print(f"picture {k}: {db} dB, and says its class is {label}; it is {y[k]}")
    print(f"classes right: {int((made['labels'] == y).sum())} of {len(y)}")


if __name__ == "__main__":
    main()
