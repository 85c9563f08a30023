"""The architecture of the design, held: layers, the matrix of leaks, start-up, sizes, docstrings."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "seepage"
LONGEST = 450

# What must be usable without waiting for torch to load.
TORCH_FREE = ("seepage", "seepage.core", "seepage.scoring", "seepage.report", "seepage.store", "seepage.cli.main")


def modules(package: Path) -> list[str]:
    """The dotted names of every module in a package, itself included."""
    found = []
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(SOURCE.parent).with_suffix("").parts
        found.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return found


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_imports_go_down_only() -> None:
    """The contracts of import-linter: layers, no secrets in attacks, torch and HTTP each in their place."""
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as lint; lint()", "--no-cache"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def leaks() -> list[str]:
    """The leaks that an attack folder holds an attack of."""
    folders = [path for path in sorted((SOURCE / "attacks").iterdir()) if path.is_dir()]
    return [path.name for path in folders if any(p.stem != "__init__" for p in path.glob("*.py"))]


def test_there_are_leaks() -> None:
    assert {"inversion", "membership"} <= set(leaks())


@pytest.mark.parametrize("leak", leaks())
def test_no_cell_of_the_matrix_is_missing(leak: str) -> None:
    """Whoever knows one leak knows them all."""
    from seepage.core.vocabulary import Leak

    assert leak in set(Leak)
    wanted = (
        SOURCE / "cases" / f"{leak}.py",
        SOURCE / "scoring" / f"{leak}.py",
        ROOT / "docs" / "leaks" / f"{leak}.md",
    )
    missing = [str(path.relative_to(ROOT)) for path in wanted if not path.is_file()]
    assert not missing


def test_every_attack_lies_in_the_folder_of_its_leak() -> None:
    from seepage.core.registry import ATTACKS, attack_class

    for name in ATTACKS:
        cls = attack_class(name)
        if cls.__module__.startswith("seepage."):
            assert cls.__module__.startswith(f"seepage.attacks.{cls.leak}."), name


@pytest.mark.parametrize("package", TORCH_FREE)
def test_no_torch_until_it_is_needed(package: str) -> None:
    folder = SOURCE.parent.joinpath(*package.split("."))
    names = modules(folder) if folder.is_dir() and package != "seepage" else [package]
    told = run(f"import sys, importlib; [importlib.import_module(m) for m in {names!r}]; print('torch' in sys.modules)")
    assert told == "False"


def test_the_public_names_are_there_and_nothing_else() -> None:
    told = run("import seepage as s; print(dir(s) == sorted(s.__all__), *[type(getattr(s, n)) for n in dir(s)])")
    assert told.startswith("True")
    assert "NoneType" not in told


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda p: str(p.relative_to(SOURCE)))
def test_no_file_is_too_long(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= LONGEST


def undocumented(path: Path) -> list[str]:
    """Public classes and functions without a docstring; properties and overrides of one line speak for themselves."""
    found = []
    tree = ast.parse(path.read_text("utf-8"))
    if ast.get_docstring(tree) is None:
        found.append("the module")
    for node in tree.body:
        public = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
        if public and ast.get_docstring(node) is None:
            found.append(node.name)
    return found


@pytest.mark.parametrize("path", sorted((SOURCE / "core").glob("*.py")), ids=lambda p: p.stem)
def test_everything_public_in_core_is_documented(path: Path) -> None:
    assert undocumented(path) == []


def test_the_search_for_docstrings_finds_what_lacks_one(tmp_path: Path) -> None:
    bare = tmp_path / "bare.py"
    bare.write_text("def f(): ...\nclass A:\n    'documented'\ndef _hidden(): ...\n")
    assert undocumented(bare) == ["the module", "f"]


def absolute_paths(text: str) -> list[str]:
    """Folders of one machine in a text."""
    return [line for line in text.splitlines() if "/work/" in line or "/home/" in line or "/root/" in line]


def test_no_path_of_one_machine_is_in_the_package() -> None:
    found = {str(p.relative_to(ROOT)): absolute_paths(p.read_text("utf-8")) for p in SOURCE.rglob("*.py")}
    assert not {path: lines for path, lines in found.items() if lines}


def test_the_library_never_prints() -> None:
    """It logs; only the command line writes to the terminal."""
    found = []
    for path in SOURCE.rglob("*.py"):
        if "cli" in path.relative_to(SOURCE).parts:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not found
