"""Where memory runs out: told from other faults, and said with what needs less of it."""

from collections.abc import Iterable

# torch has no class of its own for it on processors; these are its words on several systems, and a GPU's.
_WORDS = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")
# Parameters of attacks by which more or less is held at a time.
HOLDING = ("chunk", "restarts", "beam", "samples")


def out_of_memory(error: BaseException) -> bool:
    """Whether torch, or Python itself, found no memory."""
    told = str(error).lower()
    return isinstance(error, MemoryError) or any(words in told for words in _WORDS)


def less_memory(error: BaseException, parameters: Iterable[str]) -> str:
    """What ran out, and what would need less, for a message.

    Args:
        error: one that `out_of_memory` knows.
        parameters: those of what was run.
    """
    first = (str(error).strip().splitlines() or ["no memory"])[0][:200]
    held = [name for name in HOLDING if name in set(parameters)]
    smaller = f"a smaller {' or '.join(held)}, " if held else ""
    return (
        f"it ran out of memory ({first}): give it {smaller}fewer records an update or a smaller model; one worker "
        "process alone (--processes 1) has all the memory there is"
    )
