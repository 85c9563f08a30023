"""`seepage prior train DATA` and `seepage prior show FILE`."""

import signal
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from seepage.core.progress import Progress
    from seepage.core.records import Records
    from seepage.core.spec import InputSpec
    from seepage.models.priors import Card, Prior

KINDS = ("pca", "gan", "cgan", "diffusion")
SHEET = 64
_SUFFIX = ".safetensors"


@click.group("prior")
def command() -> None:
    """Train a prior (what records look like in general) from public records, or show one."""


@command.command("train")
@click.argument("data")
@click.option("--kind", type=click.Choice(KINDS), default="gan", show_default=True, help="What kind of prior.")
@click.option("--size", metavar="N or HxW", help="Bring pictures to this size. A folder of pictures needs it.")
@click.option("--grey/--colour", "grey", default=None, help="One channel or three (default: as the pictures are).")
@click.option("--out", type=click.Path(path_type=Path), help="Where to (default: DATA-KIND-SIZE.safetensors, here).")
@click.option("--seed", type=int, default=0, show_default=True, help="Of everything drawn.")
@click.option("--steps", type=click.IntRange(1), help="How long to train (default: by how many records there are).")
@click.option("--limit", type=click.IntRange(2), help="Read at most so many records, spread evenly.")
@click.option("--target", help="Tables: the column that holds the class; it is left out of the records.")
@click.option("--set", "settings", multiple=True, metavar="A=B", help="Any other option of the kind, as in width=32.")
@click.option("--overwrite", is_flag=True, help="Replace another prior of that name.")
@click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors and where the prior is.")
def train(
    data: str,
    kind: str,
    size: str | None,
    grey: bool | None,
    out: Path | None,
    seed: int,
    steps: int | None,
    limit: int | None,
    target: str | None,
    settings: tuple[str, ...],
    overwrite: bool,
    quiet: bool,
) -> None:
    """Train a prior from the public records in DATA.

    DATA is a folder of pictures, a CSV, Parquet or .npz file, or the name of a built-in data set. Interrupted,
    it goes on where it was when the same command is run again.
    """
    sides = _sides(size)
    options = _options(settings, steps)

    from seepage.core.errors import ConfigError
    from seepage.models.priors import artefact
    from seepage.models.priors.shelf import trained
    from seepage.models.priors.work import Work

    public, spec = _read(data, kind, sides, grey, limit, target)
    stem = artefact.stem_of(out) if out is not None else Path(_default_name(data, kind, spec))
    key = artefact.fingerprint(kind, public, spec, seed, options)
    place = stem.with_name(stem.name + _SUFFIX)
    if place.exists() and not overwrite:
        if _is(place, public, kind, seed, options):
            click.echo(f"already there: {place}  (--overwrite trains it again)")
            return
        raise ConfigError(f"{place} is there already and is another prior: give another --out, or --overwrite")
    part = stem.with_name(stem.name + ".part")
    with _Bar(quiet, f"{kind} from {len(public)} records of {'x'.join(map(str, spec.shape))}") as bar:
        try:
            work = Work(part, key, bar.listen, f"training the prior '{kind}'")
            prior, card = trained(kind, public, spec, seed, work, **options)
        except KeyboardInterrupt:
            if part.is_file():
                click.echo(f"\nStopped; its state is kept in {part}.", err=True)
            raise
    place = artefact.save(prior, card, stem)
    work.finished()
    if not quiet:
        _print_card(artefact.read_card(place), prior)
    click.echo(f"prior: {place}")


@command.command("show")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--sheet", type=click.Path(path_type=Path), help="Where its draws go (default: FILE.png beside it).")
@click.option("--no-sheet", is_flag=True, help="Show the card alone.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the draws.")
def show(file: Path, sheet: Path | None, no_sheet: bool, seed: int) -> None:
    """Show the card of the prior FILE, and draw 64 records of it into a picture."""
    from seepage.core.seeds import stream
    from seepage.core.vocabulary import Modality
    from seepage.models.priors import artefact

    card, prior = artefact.read_card(file), artefact.load(file)
    _print_card(card, prior)
    if no_sheet or prior.spec.modality is not Modality.IMAGE:
        return
    if sheet is None:
        stem = artefact.stem_of(file)
        sheet = stem / "draws.png" if stem.is_dir() else stem.with_name(stem.name + ".png")
    _draw_sheet(prior.spec.bounds.to_unit(prior.sample(SHEET, stream(seed, "prior", "sheet"))), sheet)
    click.echo(f"draws: {sheet}")


class _Bar:
    """One bar on a terminal, a line now and then on a pipe; Ctrl-C takes effect between two steps."""

    def __init__(self, quiet: bool, title: str):
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._quiet, self._title = quiet, title
        self._console = Console(stderr=True)
        self._live = self._console.is_terminal and not quiet
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=32),
            TextColumn("{task.percentage:>3.0f}%", markup=False),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}", markup=False),
        )
        self._bar = Progress(*columns, console=self._console, transient=True)
        self._task = self._bar.add_task(title, total=1.0, left="")
        self._stopped = False
        self._said = -1
        self._before: Any = None

    def __enter__(self) -> "_Bar":
        self._before = signal.signal(signal.SIGINT, self._stop)
        if self._live:
            self._bar.start()
        elif not self._quiet:
            self._console.print(f"  {self._title}", highlight=False, markup=False)
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._bar.stop()
        signal.signal(signal.SIGINT, self._before)

    def _stop(self, _signal: int, _frame: FrameType | None) -> None:
        # The step under way ends first, so that what is kept is whole; a second Ctrl-C does not wait.
        self._stopped = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def listen(self, step: "Progress") -> None:
        """Take one step of progress; raises KeyboardInterrupt when Ctrl-C was pressed."""
        if self._stopped:
            raise KeyboardInterrupt
        left = "" if step.eta is None else f"about {round(step.eta) // 60}:{round(step.eta) % 60:02d} left"
        if self._live:
            self._bar.update(self._task, completed=step.done, left=left)
        elif not self._quiet and int(step.done * 10) > self._said:
            self._said = int(step.done * 10)
            self._console.print(f"  {step.done:4.0%}  {left}", highlight=False, markup=False)


def _sides(size: str | None) -> tuple[int, int] | None:
    if size is None:
        return None
    parts = size.lower().split("x")
    if len(parts) > 2 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise click.UsageError(f"--size is one side (32) or height x width (112x92), got '{size}'")
    return int(parts[0]), int(parts[-1])


def _options(settings: tuple[str, ...], steps: int | None) -> dict[str, Any]:
    import tomllib

    options: dict[str, Any] = {} if steps is None else {"steps": steps}
    for setting in settings:
        name, equals, value = setting.partition("=")
        try:
            options[name.strip()] = tomllib.loads(f"value = {value}")["value"] if equals else None
        except tomllib.TOMLDecodeError as error:
            raise click.UsageError(f"--set takes A=B with a number, true or false, got '{setting}'") from error
        if not equals or not name.strip():
            raise click.UsageError(f"--set takes A=B, got '{setting}'")
    return options


def _read(
    data: str, kind: str, sides: tuple[int, int] | None, grey: bool | None, limit: int | None, target: str | None
) -> tuple["Records", "InputSpec"]:
    """The public records, brought to size and colours, and what one of them looks like."""
    from dataclasses import replace
    from inspect import signature

    from seepage.core.errors import ConfigError
    from seepage.core.vocabulary import Modality
    from seepage.data import DATASETS, Reading, as_records, load_builtin
    from seepage.targets import infer_spec

    reading = Reading(limit=limit, target=target, size=sides)
    if data in DATASETS and not Path(data).exists():
        # Read at that size where the set can be, so that its records are those an audit reads.
        sized = sides is not None and "size" in signature(DATASETS[data].load).parameters
        records = as_records(load_builtin(data, **{"size": sides} if sized else {}), what="public", reading=reading)
    else:
        if Path(data).is_dir() and sides is None:
            raise ConfigError("pictures of a folder are brought to one size: give --size, as in --size 32")
        records = as_records(data, what="public", labelled=kind == "cgan", reading=reading)
    spec = infer_spec(records)
    if records.modality is not Modality.IMAGE:
        if sides is not None or grey is not None:
            raise ConfigError(f"--size and --grey are for pictures; '{data}' holds a {records.modality}")
        return records, spec
    channels = spec.shape[0] if grey is None else (1 if grey else 3)
    shape = (channels, *(sides or spec.shape[1:]))
    if shape == spec.shape:
        return records, spec
    if {spec.shape[0], channels} - {1, 3}:
        raise ConfigError(f"--grey and --colour need pictures of 1 or 3 channels, '{data}' has {spec.shape[0]}")
    import torch

    from seepage.models.priors.own import brought

    unit = torch.from_numpy(spec.bounds.to_unit(records.x))
    small = torch.cat([brought(part, shape) for part in unit.split(256)]).numpy()
    return replace(records, x=spec.bounds.from_unit(small)), replace(spec, shape=shape)


def _default_name(data: str, kind: str, spec: "InputSpec") -> str:
    sides = spec.shape[1:] if len(spec.shape) == 3 else spec.shape
    size = str(sides[0]) if len(set(sides)) == 1 else "x".join(map(str, sides))
    return f"{Path(data).resolve().stem or 'prior'}-{kind}-{size}"


def _is(place: Path, public: "Records", kind: str, seed: int, options: dict[str, Any]) -> bool:
    """Whether the prior at `place` is the one that would be trained."""
    from seepage.core.errors import SeepageError
    from seepage.models.priors import artefact

    try:
        card = artefact.read_card(place)
        artefact.load(place)
    except SeepageError:
        return False
    return (card.kind, card.digest, card.seed, card.asked) == (kind, public.digest(), seed, options)


def _print_card(card: "Card", prior: "Prior") -> None:
    shape = "x".join(map(str, card.shape))
    lines = [
        ("prior", f"{card.kind}, {card.modality} {shape}, {prior.size} numbers a latent"),
        ("from", f"{card.records} public records, {card.source or 'of an unnamed source'}"),
        (
            "digest",
            f"{card.digest[:16]}... of the records, {card.weights_sha256[:16] or '(not saved)'}... of the weights",
        ),
        ("seed", str(card.seed)),
    ]
    named = {
        "steps": "steps",
        "seconds": "seconds",
        "device": "trained on",
        "mirrored": "mirror images",
        "frechet": "distance of draws to records held out (Gabor features; no FID)",
        "frechet_real": "the same for as many real records",
        "held_out": "records held out",
        "copies": "near copies among draws (.05 is what new records would give)",
        "diversity": "diversity of draws (1: that of records)",
        "warning": "WARNING",
    }
    for name, label in named.items():
        value = card.facts.get(name)
        if value is not None:
            lines.append((label, f"{value:.4g}" if isinstance(value, float) else str(value)))
    lines.append(("made with", ", ".join(f"{name} {version}" for name, version in card.packages.items())))
    for label, value in lines:
        click.echo(f"  {label}: {value}")


def _draw_sheet(unit: Any, place: Path) -> None:
    """Pictures (64, c, h, w) in [0, 1], eight a row, enlarged where they are small."""
    import numpy as np
    from PIL import Image

    from seepage.core.errors import StoreError

    n, channels, height, width = unit.shape
    rows = unit.reshape(n // 8, 8, channels, height, width).transpose(0, 3, 1, 4, 2)
    page = (rows.reshape(n // 8 * height, 8 * width, channels) * 255 + 0.5).astype(np.uint8)
    picture = Image.fromarray(page[..., 0] if channels != 3 else page)
    times = max(1, 512 // (8 * width))
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST).save(place)
    except (OSError, ValueError) as error:
        raise StoreError(f"the draws cannot be written to {place}: {error}") from error
