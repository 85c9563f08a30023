"""`seepage prior train` and `seepage prior show`: called as a user calls them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from seepage.cli.main import seepage
from seepage.core.errors import SeepageError
from seepage.core.records import row_digests
from seepage.core.spec import InputSpec
from seepage.models.priors import artefact

TINY = ("--steps", "3", "--set", "width=8", "--set", "size=8", "--set", "batch=4")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two classes of smooth grey pictures, 16 x 16."""
    rng = np.random.default_rng(0)
    for name in ("one", "two"):
        (tmp_path / "faces" / name).mkdir(parents=True)
        for i in range(12):
            small = Image.fromarray(rng.integers(0, 255, (4, 4), dtype=np.uint8))
            small.resize((16, 16), Image.Resampling.BILINEAR).save(tmp_path / "faces" / name / f"{i}.png")
    return tmp_path / "faces"


def call(*arguments: object) -> Result:
    return CliRunner().invoke(seepage, ["prior", *map(str, arguments)])


@pytest.mark.parametrize("kind", ["pca", "gan", "cgan"])
def test_train_and_show(kind: str, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "made" / "mine.safetensors"
    options = () if kind == "pca" else TINY
    done = call("train", data, "--kind", kind, "--size", "12", "--out", out, *options)
    assert done.exit_code == 0, done.output
    assert f"prior: {out}" in done.output
    assert "24 public records" in done.output
    prior = artefact.load(out, InputSpec((1, 12, 12)))
    assert prior.kind == kind
    assert not list(out.parent.glob("*.part"))
    card = artefact.read_card(out)
    assert len(card.rows) == 24

    shown = call("show", out)
    assert shown.exit_code == 0, shown.output
    assert f"{kind}, image 1x12x12" in shown.output
    assert "near copies among draws" in shown.output
    with Image.open(out.with_name("mine.png")) as sheet:
        assert sheet.size == (8 * 12 * 5, 8 * 12 * 5)
        assert np.asarray(sheet).std() > 0

    again = call("train", data, "--kind", kind, "--size", "12", "--out", out, *options)
    assert again.exit_code == 0
    assert "already there" in again.output


def test_colours_and_sizes(data: Path, tmp_path: Path) -> None:
    place = tmp_path / "c"
    done = call("train", data, "--kind", "pca", "--size", "10x14", "--colour", "--out", place, "--quiet")
    assert done.exit_code == 0, done.output
    assert done.output.strip() == f"prior: {place}.safetensors"
    assert artefact.load(place).spec.shape == (3, 10, 14)


def test_a_built_in_data_set(tmp_path: Path) -> None:
    done = call("train", "digits", "--kind", "pca", "--out", tmp_path / "d", "--limit", 60)
    assert done.exit_code == 0, done.output
    assert artefact.read_card(tmp_path / "d").shape == (1, 8, 8)
    assert "Kaynak" in done.output


def test_another_prior_is_not_overwritten_unasked(data: Path, tmp_path: Path) -> None:
    arguments = ("train", data, "--kind", "pca", "--size", "12", "--out", tmp_path / "p")
    assert call(*arguments).exit_code == 0
    other = call(*arguments, "--seed", 1)
    assert isinstance(other.exception, SeepageError)
    assert "--overwrite" in str(other.exception)
    assert call(*arguments, "--seed", 1, "--overwrite").exit_code == 0
    assert artefact.read_card(tmp_path / "p").seed == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("train", "nowhere"), "no file or folder at nowhere"),
        (("train", "{data}"), "give --size, as in --size 32"),
        (("train", "{data}", "--size", "big"), "--size is one side (32)"),
        (("train", "{data}", "--size", "4", *TINY), "at least 8 x 8"),
        (("train", "{data}", "--size", "12", "--set", "stepps=3"), "did you mean 'steps'"),
        (("train", "{data}", "--size", "12", "--set", "steps"), "--set takes A=B"),
        (("train", "wine", "--kind", "gan"), "use the prior 'pca'"),
        (("train", "wine", "--kind", "pca", "--grey"), "are for pictures"),
        (("train", "{data}", "--kind", "gann"), "'gann' is not one of"),
        (("show", "nowhere"), "no card of a prior"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(arguments: tuple[str, ...], words: str, data: Path) -> None:
    done = call(*(argument.format(data=data) for argument in arguments))
    assert done.exit_code != 0
    if isinstance(done.exception, SeepageError):
        assert done.exception.exit_code == 2
        assert words in str(done.exception)
    else:
        assert done.exit_code == 2
        assert words in " ".join(done.output.split())


def test_interrupted_it_goes_on_with_the_same_command(data: Path, tmp_path: Path) -> None:
    """Ctrl-C between two steps: exit code 130, and the same result as without it."""
    tail = ["--size", "12", "--steps", "40", "--set", "width=8", "--set", "size=8", "--set", "batch=4"]

    tail = [str(data), *tail]
    begin = [sys.executable, "-m", "seepage.cli.main", "prior", "train", "--out", str(tmp_path / "cut")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*begin, *tail], stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    said = ""
    # The bar says "10%" when the training is well under way.
    while "10%" not in said and process.poll() is None:
        said += process.stderr.read(1)
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=120)[1]
    assert process.returncode == 130, said + rest
    assert "its state is kept in" in rest
    assert "run the same command again" in rest
    assert (tmp_path / "cut.part").is_file()
    for out in ("cut", "whole"):
        done = call("train", "--out", tmp_path / out, *tail)
        assert done.exit_code == 0, done.output
    assert not (tmp_path / "cut.part").exists()
    cut, whole = artefact.load(tmp_path / "cut"), artefact.load(tmp_path / "whole")
    z = np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)
    assert row_digests(cut.decode(z)) == row_digests(whole.decode(z))
