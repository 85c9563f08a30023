"""Where nets are trained: on the graphics card when there is one, in mixed precision where it holds."""

import os
from collections.abc import Generator
from contextlib import contextmanager

import torch

from seepage.core.errors import ConfigError

VARIABLE = "SEEPAGE_DEVICE"


def best_device() -> torch.device:
    """The graphics card when there is one, else the processor; the variable SEEPAGE_DEVICE overrules.

    Raises:
        ConfigError: when SEEPAGE_DEVICE names no device of this machine.
    """
    wanted = os.environ.get(VARIABLE, "").strip().lower()
    there = torch.cuda.is_available()
    if not wanted:
        return torch.device("cuda" if there else "cpu")
    if wanted == "cpu":
        return torch.device("cpu")
    if wanted.split(":")[0] == "cuda" and there:
        try:
            device = torch.device(wanted)
        except RuntimeError as error:
            raise ConfigError(f"{VARIABLE} is 'cpu', 'cuda' or 'cuda:N', got '{wanted}'") from error
        if (device.index or 0) < torch.cuda.device_count():
            return device
    has = f"{torch.cuda.device_count()} CUDA devices" if there else "no CUDA device, only 'cpu'"
    raise ConfigError(f"{VARIABLE} = '{wanted}' names no device: this machine has {has}; unset it, or name another")


@contextmanager
def mixed(device: torch.device) -> Generator[None]:
    """Inside, a CUDA device computes in bfloat16 where torch deems it safe; a processor in float32 as ever."""
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        with torch.autocast("cuda", dtype=torch.bfloat16):
            yield
    else:
        yield


def described(device: torch.device) -> str:
    """What a report says of a device: "NVIDIA ... (bfloat16)" or "processor, 2 threads"."""
    if device.type == "cuda":
        precision = "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
        return f"{torch.cuda.get_device_name(device)} ({precision})"
    threads = torch.get_num_threads()
    return f"processor, {threads} thread{'s' if threads > 1 else ''}"
