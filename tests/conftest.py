"""What all tests share: shapes in signatures are checked, one thread, and data beside the checkout when there."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from jaxtyping import install_import_hook

# Every shape and type in a signature of the package is checked while tests run. Installed before the
# package is imported by any test.
_hook = install_import_hook("seepage", "typechecker.check")

import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)

SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data sets beside the checkout; tests that need them skip where they are absent."""
    if not SHARED.is_dir():
        pytest.skip(f"no data sets at {SHARED.name} beside the checkout")
    return SHARED
