"""Names to code: unknown ones get a "did you mean", and nothing is imported before it is asked for."""

import subprocess
import sys
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from seepage.core import registry
from seepage.core.attack import Attack
from seepage.core.errors import ConfigError, SeepageError, did_you_mean
from seepage.core.registry import ATTACKS, DEFENSES, Catalogue, attack_class, defense_class, load


def test_known_names_load_classes_that_call_themselves_so() -> None:
    assert attack_class("threshold").name == "threshold"
    assert defense_class("round").name == "round"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("treshold", "did you mean 'threshold'?"),
        ("laten", "did you mean 'latent'?"),
        ("zzz", "known: augmentation, base"),
    ],
)
def test_unknown_names_get_a_hint(name: str, hint: str) -> None:
    with pytest.raises(ConfigError) as error:
        ATTACKS.load(name)
    assert str(error.value).startswith(f"unknown attack '{name}': {hint}")


def test_a_defense_is_no_attack() -> None:
    catalogue = Catalogue("attack", {"round": DEFENSES["round"]}, "seepage.nothing")
    assert issubclass(catalogue.load("round"), object)
    with pytest.raises(ConfigError, match="unknown attack 'round'"):
        attack_class("round")
    with pytest.raises(ConfigError, match="unknown defense 'threshold'"):
        defense_class("threshold")


def test_a_path_to_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "ATTACKS", Catalogue("attack", {"odd": "json:dumps"}, "seepage.nothing"))
    with pytest.raises(ConfigError, match="'json:dumps' is not an attack"):
        attack_class("odd")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("json", "looks like 'package.module:name', got 'json'"),
        (":dumps", "looks like"),
        ("json:dumsp", "'json' has no 'dumsp'; did you mean 'dump"),
        ("no_such_package.module:f", "no module named 'no_such_package'"),
        ("json.no_such:f", "no module named 'json.no_such'"),
    ],
)
def test_broken_paths_say_what_is_wrong(path: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(path)


def test_a_path_may_name_something_inside_a_class() -> None:
    assert load("collections:OrderedDict.fromkeys")("ab") == {"a": None, "b": None}


def test_a_missing_dependency_of_the_module_is_not_mistaken_for_the_module(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "needs_more.py").write_text("import not_installed_anywhere\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="not_installed_anywhere"):
        load("needs_more:f")


def test_other_packages_add_names_and_cannot_replace_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        EntryPoint("theirs", "their.package:Attack", "seepage.attacks"),
        EntryPoint("threshold", "their.package:Threshold", "seepage.attacks"),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    catalogue = Catalogue("attack", dict(ATTACKS), "seepage.attacks")
    assert catalogue["theirs"] == "their.package:Attack"
    assert catalogue["threshold"] == ATTACKS["threshold"]
    assert len(catalogue) == len(set(catalogue)) == len(ATTACKS) + 1


def test_the_catalogue_imports_nothing_by_itself() -> None:
    code = (
        "import sys, seepage.core.registry as r; list(r.ATTACKS); "
        "print([m for m in sys.modules if m.startswith('seepage.attacks')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_hints() -> None:
    assert did_you_mean("digit", ["digits", "level"]) == "did you mean 'digits'?"
    assert did_you_mean("qqq", ["b", "a"]) == "known: a, b"
    assert did_you_mean("x", []) == "none is known"
    assert issubclass(ConfigError, SeepageError)
    assert SeepageError.exit_code == 2
    assert not issubclass(Attack, Exception)
