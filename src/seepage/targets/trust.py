"""Files that run code when loaded: refused unless the user says that they come from a trusted source."""

import io
import pickletools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seepage.core.errors import ModelError, TrustError

# An old torch checkpoint is a row of five pickles, followed by the numbers.
_PICKLES = 5


def existing(path: str | Path, what: str) -> Path:
    """`path`, when a readable, non-empty file is there.

    Raises:
        ModelError: when there is none.
    """
    found = Path(path)
    if found.is_dir():
        raise ModelError(f"{what}: a file was wanted, but '{found}' is a folder")
    if not found.is_file():
        raise ModelError(f"{what}: there is no file '{found}'; paths are relative to the working directory")
    if found.stat().st_size == 0:
        raise ModelError(f"{what}: the file '{found}' is empty")
    return found


def pickled_names(data: bytes) -> tuple[set[str], bool]:
    """The objects that pickles, one after the other, would import, found without running them.

    Args:
        data: begins with a pickle; what follows the last one does not matter.

    Returns:
        The names, as "module.name", and whether the last pickle begun could be read to its end. A name
        that is put together from memoised strings is given as far as it is known.
    """
    names: set[str] = set()
    stream = io.BytesIO(data)
    whole = False
    for _ in range(_PICKLES):
        begun = False
        texts: list[str] = []
        try:
            with warnings.catch_warnings():
                # Bytes that are no pickle may read as text with odd escapes in it.
                warnings.filterwarnings("ignore", "invalid escape sequence", DeprecationWarning)
                for opcode, argument, _ in pickletools.genops(stream):
                    begun = True
                    if opcode.name in ("GLOBAL", "INST"):
                        names.add(str(argument).replace(" ", ".", 1))
                    elif opcode.name == "STACK_GLOBAL":
                        if not texts:
                            return names, False
                        names.add(".".join(texts[-2:]))
                    elif "UNICODE" in opcode.name:
                        texts.append(str(argument))
        except (ValueError, IndexError, EOFError, OverflowError):
            return names, whole and not begun
        whole = True
    return names, whole


def unpickle(path: Path, load: Callable[[Path], Any], trust_pickle: bool, instead: str) -> Any:
    """What `load` reads from a file that may run code, with permission only.

    Args:
        path: the file.
        load: reads it, running whatever it asks for.
        trust_pickle: the permission.
        instead: what the user could do without giving it.

    Raises:
        TrustError: without permission.
        ModelError: when the file cannot be read.
    """
    if not trust_pickle:
        raise TrustError(
            f"'{path.name}' is a pickle, and loading one runs whatever code is in it; "
            f"if you trust where it comes from, pass trust_pickle=True (--trust-pickle), or {instead}"
        )
    try:
        return load(path)
    except Exception as error:
        raise ModelError(
            f"'{path.name}' cannot be loaded ({type(error).__name__}: {error}); it may be truncated, "
            "or need the package versions that it was saved with"
        ) from error
