"""A sweep over a federation of texts: every point played and trained, the frontier drawn; bad files refused."""

from pathlib import Path

import pytest
from calls import ROOT
from click.testing import CliRunner

from seepage.cli.main import seepage as command_line
from seepage.core.errors import SeepageError
from seepage.core.frontier import Frontier
from seepage.report.frontier_write import load_frontier
from seepage.sweep import sweep_file

pytest.importorskip("transformers")

EXAMPLE = ROOT / "examples" / "federated-frontier-texts.toml"
# The example, made so small that it takes seconds.
SMALL = (
    "victim.net_options={ width = 64, layers = 2, length = 20 }",
    "attack=[{name='embedding-rows'}]",
    "sweep.axes={'federated.records'=[1,2],'federated.trained'=[0,2]}",
    "sweep.defense=[{name='gaussian-noise',clip=1.0,multiplier=[0.0001,1.0]}]",
    "federated.clients=6",
    "sweep.training.rounds=2",
    "sweep.training.clients=3",
    "verdict.tolerance=0.9",
)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Frontier, Path]:
    return sweep_file(EXAMPLE, SMALL, out=tmp_path_factory.mktemp("sweep"), processes=1)


def test_texts_have_a_frontier(small: tuple[Frontier, Path]) -> None:
    found, _ = small
    assert len(found.rows) == 2 * 2 * 3
    assert found.measure == "token_recall"
    assert not any(row.status == "failed" or row.failed for row in found.rows)
    bare = [row for row in found.rows if row.defense is None]
    assert all(row.leaks["token_recall"].ruling == "leaks" for row in bare)
    loud = [row for row in found.rows if row.defense_label.endswith("multiplier=1")]
    assert all(row.leaks["token_recall"].value < 0.3 for row in loud)
    assert {row.cost.held_out for row in found.rows if row.cost is not None} == {32}
    assert all(row.cost is not None and row.cost.accuracy is not None for row in found.rows)
    assert len(found.confirmation) == 2


def test_the_same_command_finds_everything_there(small: tuple[Frontier, Path]) -> None:
    found, folder = small
    again, _ = sweep_file(EXAMPLE, SMALL, out=folder.parent, processes=1)
    assert [row.leaks for row in again.rows] == [row.leaks for row in found.rows]
    assert [row.cost for row in again.rows] == [row.cost for row in found.rows]


def test_the_frontier_is_drawn(small: tuple[Frontier, Path]) -> None:
    from seepage.report.frontier_write import write_frontier

    folder = small[1]
    written = write_frontier(folder)
    page = written["frontier"].read_text("utf-8")
    assert "gaussian-noise" in page
    assert load_frontier(folder).measure == "token_recall"
    # Nobody's message stands in it.
    assert "swollen" not in page


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("sweep.axes={'victim.task'=['classification','causal-lm']}", "points of one sweep cannot differ in it"),
        ("sweep.axes={'victim.net_option'=[1]}", "did you mean 'net_options'"),
        ("sweep.axes={'federated.records'=[]}", "the list is empty"),
        ("sweep.axes={'federated.records'=['2']}", "a whole number was wanted"),
        ("federated.clients=500", "need 500 members"),
        ("data.target='topik'", "did you mean 'topic'"),
        ("attack=[{name='spear'}]", "it works on image, table, not on text"),
        ("victim.kind='update'", "[sweep] varies a simulated federation"),
    ],
)
def test_a_fault_of_the_whole_file_is_told_before_anything_runs(change: str, said: str, tmp_path: Path) -> None:
    words = [part for setting in (*SMALL, change) for part in ("--set", setting)]
    done = CliRunner().invoke(command_line, ["sweep", str(EXAMPLE), "--out", str(tmp_path), *words])
    assert isinstance(done.exception, SeepageError)
    assert done.exception.exit_code == 2
    assert said in str(done.exception)
    assert not list(tmp_path.iterdir())


def test_accuracy_needs_texts_held_out(tmp_path: Path) -> None:
    more = ("data={ members = 'texts/messages.csv', text = 'text', target = 'topic' }", "sweep.defense=[]")
    axes = "sweep.axes={'federated.records'=[1,2]}"
    found, _ = sweep_file(EXAMPLE, (*SMALL, *more, axes), out=tmp_path, processes=1)
    assert all(row.cost is not None and "nonmembers" in row.cost.missing["accuracy"] for row in found.rows)
