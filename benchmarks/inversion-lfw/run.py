"""LFW crops, 64 x 64 in colour: private people with 20 pictures or more, 5,591 other people for the priors.

Needs a GPU and the data set (see README.md); without either every row is null with its reason.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

from seepage.audit.api import audit_file

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from pooled import Pool, table  # noqa: E402

ROWS = ("latent", "plug-and-play", "if-gmi", "gmi", "ked-mi", "plg-mi", "lomma", "diff-mi", "nes", "lokt")


def obstacle() -> str | None:
    """Why this benchmark cannot run here, or None."""
    if not torch.cuda.is_available():
        return "not run: no GPU"
    if not os.environ.get("SEEPAGE_LFW"):
        return "not run: SEEPAGE_LFW does not name a folder with private/ and public/ pictures, a folder a person"
    return None


def main() -> None:
    why = obstacle()
    if why is not None:
        print(why, flush=True)
        print(json.dumps({f"cnn64.{name}": {"value": None, "reason": why} for name in ROWS}))
        return
    pool = Pool()
    place = os.environ["SEEPAGE_LFW"]
    settings = [f"data.{name}={place}/{name}" for name in ("members", "nonmembers", "public")]
    record, _ = audit_file(HERE / "audit.toml", settings, out=HERE.parents[1] / "runs" / "bench" / "inversion-lfw")
    pool.add_all(record, "cnn64.")
    result: dict[str, Any] = dict(pool.results())
    print(table(result), flush=True)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
