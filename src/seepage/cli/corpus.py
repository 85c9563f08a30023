"""`seepage corpus canaries DATA`."""

from pathlib import Path

import click

KINDS = ("mislabelled", "random")


@click.group("corpus")
def command() -> None:
    """Work on training data before a model is trained on it."""


@command.command("canaries")
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Where the data with canaries goes.")
@click.option(
    "--manifest",
    required=True,
    type=click.Path(path_type=Path),
    help="Where the manifest goes (JSON); the canaries' records are put beside it. Both are for the auditor alone.",
)
@click.option("--count", type=int, default=1000, show_default=True, help="Canaries, each included by a fair coin.")
@click.option(
    "--kind",
    type=click.Choice(KINDS),
    default="mislabelled",
    show_default=True,
    help="Records with a class that is not theirs, or records drawn column by column (pixel by pixel).",
)
@click.option("--target", help="Tables: the column that holds the class.")
@click.option("--id", "id_", help="Tables: the column that names each record; canaries get names of their own.")
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path),
    help="Make mislabelled canaries of these records (public ones, say) instead of taking them out of DATA.",
)
@click.option("--seed", type=int, help="Of every draw (default: one drawn now; the manifest keeps it).")
@click.option("--delta", type=float, default=1e-5, show_default=True, help="Of the claim that is to be audited.")
@click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors and where the files are.")
def canaries(
    data: Path,
    out: Path,
    manifest: Path,
    count: int,
    kind: str,
    target: str | None,
    id_: str | None,
    source: Path | None,
    seed: int | None,
    delta: float,
    quiet: bool,
) -> None:
    """Put canaries into DATA, so that an audit can tell how private training on it was.

    DATA is a CSV, TSV or Parquet file, an .npz file, or a folder of pictures. Train on what is written to --out, then
    audit with [canaries] manifest. Whoever trains must not see the manifest.
    """
    import secrets

    from seepage.audit.canaries import write_canaries
    from seepage.core.errors import ConfigError
    from seepage.data.canary_files import Asked
    from seepage.scoring.epsilon import one_run, one_run_gaussian, reach

    if not 0 < delta < 1:
        raise ConfigError(f"--delta: a probability between 0 and 1 was wanted, got {delta:g}")
    if seed is not None and seed < 0:
        raise ConfigError(f"--seed: 0 or more was wanted, got {seed}")
    chosen = secrets.randbits(63) if seed is None else seed
    told = write_canaries(data, out, manifest, Asked(kind, count, chosen, target, id_, source))
    if not quiet:
        included = sum(canary.included for canary in told.canaries)
        click.echo(
            f"{count} {kind} canaries, {included} included: {told.source.records:,} -> {told.data.records:,} records"
        )
        # Half of the canaries choose how to guess; the bound rests on the others.
        most, gaussian = (reach(count // 2, delta, bound) for bound in (one_run, one_run_gaussian))
        click.echo(
            f"so many can refute a claim of up to epsilon {most:.2f} (any mechanism) or {gaussian:.2f} (Gaussian) at "
            f"delta {delta:g}; more canaries reach further"
        )
        click.echo(
            "train on the data, keep manifest and records from whoever does, then audit with [canaries] manifest"
        )
    click.echo(f"data:     {out}")
    click.echo(f"manifest: {manifest}")
    click.echo(f"records:  {manifest.parent / told.records.path}")
