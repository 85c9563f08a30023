"""Every inversion attack by access, on AT&T faces at 32 x 32 and 64 x 64: 20 private people, a convolutional network.

Runs are kept under runs/bench/inversion-faces: the same command takes an interrupted benchmark up again.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from seepage.audit.api import audit_file

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from pooled import Pool, table  # noqa: E402

# (audit file, size, seeds): the attacks that take seconds on two splits of the people, those that train a generator
# on one, and the strongest of each access at 64 x 64 on one.
CELLS = (("quick.toml", 32, (0, 1)), ("thorough.toml", 32, (0,)), ("large.toml", 64, (0,)))


def main() -> None:
    out = HERE.parents[1] / "runs" / "bench" / "inversion-faces"
    pool = Pool()
    begun = time.perf_counter()
    for file, size, seeds in CELLS:
        for seed in seeds:
            settings = [f"data.size={size}", f"victim.input.shape=[1, {size}, {size}]", f"seed={seed}"]
            record, _ = audit_file(HERE / file, settings, out=out)
            pool.add_all(record, f"cnn{size}.")
            print(f"{file} at {size} x {size}, split {seed}: {time.perf_counter() - begun:.0f} s", flush=True)
    result: dict[str, Any] = dict(pool.results())
    print(table(result), flush=True)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
