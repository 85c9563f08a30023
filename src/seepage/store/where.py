"""Where the index of runs lies, when not beside them."""

import os


def index_url() -> str | None:
    """The database URL in SEEPAGE_INDEX_URL; None for a file beside the runs."""
    return os.environ.get("SEEPAGE_INDEX_URL") or None
