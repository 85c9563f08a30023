"""The public names: each there, loaded when it is used, and told in the documentation."""

import subprocess
import sys
from pathlib import Path

import pytest

import seepage

GUIDE = Path(__file__).parents[1] / "docs" / "guides" / "python.md"


def test_the_names_are_those_that_can_be_loaded() -> None:
    assert set(seepage.__all__) == {*seepage._PUBLIC, "__version__"}
    assert seepage.__all__ == sorted(seepage.__all__)


@pytest.mark.parametrize("name", sorted(seepage._PUBLIC))
def test_a_name_is_what_its_module_calls_so(name: str) -> None:
    found = getattr(seepage, name)
    assert found.__doc__
    if name != "audit":
        assert found.__name__ == name
        assert found.__module__.startswith(seepage._PUBLIC[name].rpartition(".")[0])


@pytest.mark.parametrize("name", ["audit", "audit_rounds", "audit_update", "sweep.sweep_file"])
def test_what_can_be_called_is_told(name: str) -> None:
    assert f"seepage.{name}" in GUIDE.read_text("utf-8")


def test_audits_can_be_called_and_packages_are_at_hand() -> None:
    for name in ("audit", "audit_rounds", "audit_update"):
        assert callable(getattr(seepage, name))
    assert callable(seepage.sweep.sweep_file)
    with pytest.raises(AttributeError, match="no attribute 'audits'"):
        _ = seepage.audits


def test_nothing_is_loaded_before_it_is_used() -> None:
    said = "import sys, seepage; print(sorted(m for m in sys.modules if m.startswith('seepage.')))"
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
