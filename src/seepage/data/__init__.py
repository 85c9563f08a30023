"""Records from whatever a user has, told apart as members, non-members and public.

The public names are loaded when they are first used, so that `import seepage.data` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seepage.data.arrays import as_records as as_records
    from seepage.data.arrays import from_arrays as from_arrays
    from seepage.data.arrays import read_npz as read_npz
    from seepage.data.blind import blind_baseline as blind_baseline
    from seepage.data.builtin import DATASETS as DATASETS
    from seepage.data.builtin import BuiltIn as BuiltIn
    from seepage.data.builtin import load_builtin as load_builtin
    from seepage.data.encoding import TableEncoder as TableEncoder
    from seepage.data.huggingface import read_huggingface as read_huggingface
    from seepage.data.images import read_images as read_images
    from seepage.data.reading import Reading as Reading
    from seepage.data.sources import as_splits as as_splits
    from seepage.data.splits import check_splits as check_splits
    from seepage.data.splits import split_classes as split_classes
    from seepage.data.splits import split_identities as split_identities
    from seepage.data.splits import split_records as split_records
    from seepage.data.splits import without_overlap as without_overlap
    from seepage.data.tables import frame_records as frame_records
    from seepage.data.tables import read_table as read_table
    from seepage.data.torch_dataset import read_dataset as read_dataset

_PUBLIC = {
    "as_records": "arrays",
    "as_splits": "sources",
    "blind_baseline": "blind",
    "BuiltIn": "builtin",
    "check_splits": "splits",
    "DATASETS": "builtin",
    "frame_records": "tables",
    "from_arrays": "arrays",
    "load_builtin": "builtin",
    "read_dataset": "torch_dataset",
    "read_huggingface": "huggingface",
    "read_images": "images",
    "read_npz": "arrays",
    "read_table": "tables",
    "Reading": "reading",
    "split_classes": "splits",
    "split_identities": "splits",
    "split_records": "splits",
    "TableEncoder": "encoding",
    "without_overlap": "splits",
}

__all__ = [
    "DATASETS",
    "BuiltIn",
    "Reading",
    "TableEncoder",
    "as_records",
    "as_splits",
    "blind_baseline",
    "check_splits",
    "frame_records",
    "from_arrays",
    "load_builtin",
    "read_dataset",
    "read_huggingface",
    "read_images",
    "read_npz",
    "read_table",
    "split_classes",
    "split_identities",
    "split_records",
    "without_overlap",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        value = getattr(import_module(f"seepage.data.{_PUBLIC[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'seepage.data' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
