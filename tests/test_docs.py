"""What README and docs say is true: links lead somewhere, snippets parse or run, every key and command is described."""

import inspect
import re
import shlex
import tomllib
import unicodedata
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from pydantic import BaseModel

import seepage
from seepage.audit import captured, captured_texts, federated, recorded, sent, tables, text_clients
from seepage.audit import config as audit_config
from seepage.audit.api import audit
from seepage.cli.list import KINDS
from seepage.cli.main import COMMANDS
from seepage.core.record import AuditRecord, Exposure, Finding, Score
from seepage.core.registry import ATTACKS, DEFENSES, attack_class, defense_class
from seepage.core.vocabulary import Access, Leak, closure
from seepage.data import DATASETS, Reading
from seepage.models.recipes import RECIPES
from seepage.targets.wrap import kinds, option_names

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]

# Pictures of a real run of the demo; a check of links must not depend on when they were taken.
TAKEN_LATER = {DOCS / "assets" / "gallery.png", DOCS / "assets" / "report.png"}

FENCE = re.compile(r"^(<!-- runnable -->\n)?```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Snippet:
    """One fenced block of a page."""

    page: str
    line: int
    language: str
    text: str
    runnable: bool

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def snippets(page: Path) -> list[Snippet]:
    text, name = page.read_text("utf-8"), page.relative_to(ROOT).as_posix()
    return [
        Snippet(name, text[: found.start(3)].count("\n"), found.group(2), found.group(3), found.group(1) is not None)
        for found in FENCE.finditer(text)
    ]


ALL = [snippet for page in PAGES for snippet in snippets(page)]


def of(language: str) -> list[Snippet]:
    return [snippet for snippet in ALL if snippet.language == language]


def prose(page: Path) -> str:
    """A page without its code."""
    return re.sub(r"`[^`]*`", "", FENCE.sub("", page.read_text("utf-8")))


def slugs(page: Path) -> set[str]:
    """The anchors of a page's headings, as the site and the repository's host make them."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text("utf-8")), re.MULTILINE):
        words = re.sub(r"[^\w\s-]", "", heading.replace("`", "")).strip().lower()
        found.add(re.sub(r"\s+", "-", words))
    return found


def section(page: str, heading: str) -> str:
    """The text under a heading, up to the next one of its level or above."""
    text = (ROOT / page).read_text("utf-8")
    start = re.search(rf"^(#+) {re.escape(heading)}.*$", text, re.MULTILINE)
    assert start is not None, f"{page} has no heading that begins with '{heading}'"
    rest = text[start.end() :]
    end = re.search(rf"^#{{1,{len(start.group(1))}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def rows(text: str) -> dict[str, list[str]]:
    """The rows of the tables in `text`, by each name in backticks in the first cell."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for name in re.findall(r"`([^`]+)`", cells[0]) if cells else []:
            assert name not in found, f"'{name}' is described twice"
            found[name] = cells[1:]
    return found


# Links, pictures, paths


@pytest.mark.parametrize("name", NAMES)
def test_links_and_pictures_lead_somewhere(name: str) -> None:
    page = ROOT / name
    text = prose(page)
    links = re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", text) + re.findall(r'<img[^>]* src="([^"]+)"', text)
    for link in links:
        if re.match(r"(https?|mailto):", link):
            continue
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        if target in TAKEN_LATER:
            continue
        assert target.is_file(), f"{name} links to {link}, which is not there"
        if anchor:
            assert anchor in slugs(target), f"{name} links to {link}; the page has {sorted(slugs(target))}"


def test_pictures_that_are_taken_later_are_asked_for_by_the_readme() -> None:
    assert all(
        picture.relative_to(ROOT).as_posix() in (ROOT / "README.md").read_text("utf-8") for picture in TAKEN_LATER
    )


@pytest.mark.parametrize("name", NAMES)
def test_paths_in_backticks_exist(name: str) -> None:
    places = re.findall(r"`((?:src|tests|docs|examples|benchmarks)/[\w./-]+)`", (ROOT / name).read_text("utf-8"))
    for place in places:
        assert (ROOT / place).exists(), f"{name} names {place}, which is not there"


@pytest.mark.parametrize("name", NAMES)
def test_no_path_of_one_machine(name: str) -> None:
    assert not re.search(r"(^|[\s`\"'(])/(work|tmp|home|root|Users)/", (ROOT / name).read_text("utf-8"))


def test_every_page_is_in_the_site() -> None:
    nav = (ROOT / "mkdocs.yml").read_text("utf-8")
    named = re.findall(r": ([\w/.-]+\.md)$", nav, re.MULTILINE)
    assert sorted(named) == sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))
    assert "font: false" in nav, "fonts would be fetched from another host"


def test_drawings_are_whole_and_know_the_dark() -> None:
    drawings = sorted((DOCS / "assets").glob("*.svg"))
    assert drawings
    for drawing in drawings:
        text = drawing.read_text("utf-8")
        assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
        assert "prefers-color-scheme: dark" in text
        assert not re.search(r"(href|src)=|@import|url\((?!#)", text), "a drawing asks for something else"


# Python


@pytest.mark.parametrize("snippet", of("python"), ids=str)
def test_python_compiles(snippet: Snippet) -> None:
    compile(snippet.text, str(snippet), "exec")


@pytest.mark.parametrize("name", sorted({snippet.page for snippet in ALL if snippet.runnable}))
def test_runnable_python_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runnable blocks of a page, one after the other as a reader would run them, and the tests among them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODEL_KEY", "not-a-key")
    namespace: dict[str, Any] = {"__name__": "snippet"}
    for snippet in ALL:
        if snippet.page == name and snippet.runnable:
            exec(compile(snippet.text, str(snippet), "exec"), namespace)
    for key, value in list(namespace.items()):
        if key.startswith("test_"):
            value()


def test_the_page_on_attacks_has_tests_that_are_run() -> None:
    text = "".join(s.text for s in ALL if s.page == "docs/guides/writing-an-attack.md" and s.runnable)
    assert "check_attack(Gap)" in text
    assert len(re.findall(r"^def test_", text, re.MULTILINE)) >= 2


def test_the_readme_shows_the_example_that_is_run() -> None:
    source = (ROOT / "examples" / "api.py").read_text("utf-8")
    body = source.split('"""\n\n', 1)[1]
    assert body in [snippet.text for snippet in snippets(ROOT / "README.md")]


def test_arguments_of_audit_are_described() -> None:
    described = rows(section("docs/guides/python.md", "`seepage.audit`"))
    parameters = inspect.signature(audit).parameters
    wanted = {name: p for name, p in parameters.items() if p.kind is not inspect.Parameter.VAR_KEYWORD}
    assert set(described) == set(wanted)
    for name, parameter in wanted.items():
        told = described[name][0].strip("`")
        default = parameter.default
        assert told == ("needed" if default is inspect.Parameter.empty else _shown(default)), name


def _shown(default: Any) -> str:
    if isinstance(default, str):
        return f'"{default}"'
    return f"{default:.2f}" if isinstance(default, float) else repr(default)


# TOML


def _filled(content: Mapping[str, Any]) -> dict[str, Any]:
    """A fragment made whole with the least that an audit file needs."""
    whole: dict[str, Any] = {"victim": {"kind": "callable", "fn": "a:b"}, "data": {"members": "x.npz"}}
    victim = content.get("victim", {})
    if "kind" not in victim and victim:
        whole["victim"] |= victim
    whole |= {key: value for key, value in content.items() if key != "victim" or "kind" in value}
    if whole["victim"]["kind"] == "recipe":
        whole.setdefault("recipe", {"fit": "cnn"})
    return whole


@pytest.mark.parametrize("snippet", of("toml"), ids=str)
def test_toml_is_what_an_audit_file_takes(snippet: Snippet) -> None:
    content = tomllib.loads(snippet.text)
    if "project" in content:
        assert set(content["project"]["entry-points"]) <= {"seepage.attacks", "seepage.defenses"}
        return
    complete = {"victim", "data"} <= set(content)
    parsed = audit_config.parse(content if complete else _filled(content), str(snippet))
    of_scenes = {
        "recipe": (),
        "federated": (*federated.KEYS, *text_clients.KEYS),
        "update": (*captured.MODEL, *captured_texts.MODEL, *sent.FROM_FILES),
        "flower": (*captured.MODEL, *captured_texts.MODEL, *recorded.KEYS),
    }
    kind = parsed.victim.kind
    unknown = set(parsed.victim.options) - set(of_scenes[kind] if kind in of_scenes else option_names(kind))
    assert not unknown, f"{snippet}: a {parsed.victim.kind} victim has no {unknown}"
    if parsed.victim.input is not None:
        parsed.victim.input.spec()
    known = {field.name for field in fields(Reading)} if parsed.data.builtin is None else _built_in_options()
    assert set(parsed.data.options) <= known, f"{snippet}: [data] has no {set(parsed.data.options) - known}"


def _built_in_options() -> set[str]:
    from seepage.audit.records import SPLITS

    loading = {name for found in DATASETS.values() for name in inspect.signature(found.load).parameters}
    return {"split"} | loading | {name for names, _ in SPLITS.values() for name in names}


TABLES: dict[str, type[BaseModel]] = {
    "`[victim]`": tables.VictimTable,
    "`[victim] input`": tables.InputTable,
    "`[data]`": tables.DataTable,
    "`[recipe]`": tables.RecipeTable,
    "`[property]`": tables.PropertyTable,
    "`[[attack]]`": tables.AttackTable,
    "`[[defense]]`": tables.DefenseTable,
    "`[prior]`": tables.PriorTable,
    "`[judge]`": tables.JudgeTable,
    "`[verdict]`": tables.VerdictTable,
    "`[report]`": tables.ReportTable,
    "`[run]`": tables.RunTable,
    "`[sweep]`": tables.SweepTable,
    "`[sweep.training]`": tables.SweepTraining,
}
AUDIT_FILE = "docs/guides/audit-file.md"


@pytest.mark.parametrize("heading", TABLES)
def test_keys_of_the_audit_file_are_described(heading: str) -> None:
    text = section(AUDIT_FILE, heading)
    for key in TABLES[heading].model_fields:
        assert re.search(rf"^\| `{key}` \|", text, re.MULTILINE), f"{heading} lacks a row for '{key}'"


def test_top_level_of_the_audit_file_is_described() -> None:
    text = (ROOT / AUDIT_FILE).read_text("utf-8")
    for key in audit_config.AuditConfig.model_fields:
        assert re.search(rf"^## `\[+{key}\]+`$|^\| `{key}` \|", text, re.MULTILINE), f"nothing on '{key}'"


def test_reading_and_splitting_options_are_described() -> None:
    text = section(AUDIT_FILE, "`[data]`")
    for name in {field.name for field in fields(Reading)} | _built_in_options():
        assert f"`{name}`" in text, name
    assert all(f"`{name}`" in text for name in DATASETS)


@pytest.mark.parametrize("kind", kinds())
def test_options_of_every_kind_of_victim_are_described(kind: str) -> None:
    text = section(AUDIT_FILE, "`[victim]`")
    row = next(line for line in text.splitlines() if line.startswith(f"| `{kind}` |"))
    assert set(re.findall(r"`(\w+)`", row)) - {kind} == set(option_names(kind))
    assert re.search(rf'^kind = "{kind}"$', (DOCS / "guides/victims.md").read_text("utf-8"), re.MULTILINE)


@pytest.mark.parametrize(("kind", "heading"), [("gan_training", "The GAN"), ("diffusion", "The diffusion model")])
def test_options_of_priors_are_described(kind: str, heading: str) -> None:
    recipe = import_module(f"seepage.models.priors.{kind}").Recipe
    described = rows(section("docs/guides/priors.md", heading))
    assert set(described) == {field.name for field in fields(recipe)}
    for field in fields(recipe):
        told = described[field.name][0]
        assert told != "none" if field.default is None else _value(told) == field.default, field.name


def test_recipes_are_described() -> None:
    assert all(f"`{name}`" in section(AUDIT_FILE, "`[recipe]`") for name in RECIPES)


# The command line


def _command(name: str) -> click.Command:
    return import_module(f"seepage.cli.{name}").command


def _with_parts(words: str, command: click.Command) -> list[tuple[str, click.Command]]:
    """A command, or each of a group's commands, with the words that call it."""
    if not isinstance(command, click.Group):
        return [(words, command)]
    return [found for name, part in command.commands.items() for found in _with_parts(f"{words} {name}", part)]


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_and_options_are_described(name: str) -> None:
    for words, command in _with_parts(name, _command(name)):
        text = section("docs/guides/command-line.md", f"`seepage {words}")
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                for option in (*parameter.opts, *parameter.secondary_opts):
                    assert re.search(rf"`{re.escape(option)}[` ]", text), f"seepage {words} {option}"


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_list_are_described(kind: str) -> None:
    assert f"`{kind}`" in section("docs/guides/command-line.md", "`seepage list")


def _commands_shown() -> list[tuple[str, str]]:
    lines = [(str(s), line) for s in of("sh") for line in s.text.splitlines()]
    lines += [(str(s), line.split("run:", 1)[1]) for s in of("yaml") for line in s.text.splitlines() if "run: " in line]
    return [(where, line.split("#")[0].strip()) for where, line in lines if line.split("#")[0].strip()]


@pytest.mark.parametrize(("where", "line"), _commands_shown(), ids=[line for _, line in _commands_shown()])
def test_commands_shown_can_be_given(where: str, line: str) -> None:
    program, *words = shlex.split(line)
    if program == "make":
        assert re.search(rf"^{words[0]}:", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE), where
        return
    if program == "pip":
        return
    if program == "python":
        assert (ROOT / words[0]).is_file(), where
        return
    assert program == "seepage", where
    if words[0] in ("--help", "--version", "COMMAND"):
        return
    command, given = _command(words[0]), list(words[1:])
    while isinstance(command, click.Group):
        command, given = command.commands[given[0]], given[1:]
    command.make_context(words[0], given)
    for word in words:
        if word.startswith("examples/"):
            assert (ROOT / word).is_file(), where


def test_exit_codes_are_the_same_everywhere() -> None:
    told = import_module("seepage.cli.main").__doc__ or ""
    codes = set(re.findall(r"\b(\d+) \w", told.split("Exit codes:")[1]))
    for page, heading in (("docs/guides/command-line.md", "Exit codes"), ("README.md", "In CI")):
        assert set(re.findall(r"^\| (\d+) \|", section(page, heading), re.MULTILINE)) == codes


# The catalogue


def _page(leak: Leak) -> str:
    return f"docs/leaks/{leak}.md"


def _page_of(name: str) -> str:
    """The one page of its leak that has the section on an attack."""
    found = [
        page.relative_to(ROOT).as_posix()
        for page in sorted((DOCS / "leaks").glob(f"{attack_class(name).leak}*.md"))
        if re.search(rf"^### `{re.escape(name)}`$", page.read_text("utf-8"), re.MULTILINE)
    ]
    assert len(found) == 1, f"one page with a section on '{name}' was wanted, there are {found}"
    return found[0]


@pytest.mark.parametrize("name", ATTACKS)
def test_the_overview_of_a_leak_names_its_attacks(name: str) -> None:
    """With the access each needs: the overview is where a reader chooses, wherever the section stands."""
    cls = attack_class(name)
    text = section(_page(cls.leak), "Access")
    need = "weights" if Access.WEIGHTS in cls.needs else max(cls.needs, key=lambda need: len(closure([need])))
    assert f"`{name}`" in " ".join(rows(text)[need])
    page = Path(_page_of(name)).name
    assert page == f"{cls.leak}.md" or f"({page}" in (ROOT / _page(cls.leak)).read_text("utf-8")


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_are_described_with_their_parameters(name: str) -> None:
    cls = attack_class(name)
    text = section(_page_of(name), f"`{name}`")
    described = rows(text)
    assert set(described) == set(cls.model_fields)
    for parameter, info in cls.model_fields.items():
        assert _value(described[parameter][0]) == info.default, f"{name}: default of {parameter}"
    assert "*Cost:*" in text
    assert re.search(r"\*Works\*.*\*(Does\s+not\s+work|Works\s+badly)\*", text, re.DOTALL)


def _value(told: str) -> Any:
    bare = told.strip("`")
    known = {"none": None, "true": True, "false": False}
    if bare == told and bare in known:
        return known[bare]
    if bare.startswith("("):
        return tuple(float(part) for part in bare.strip("()").split(","))
    try:
        return int(bare) if re.fullmatch(r"-?\d+", bare) else float(bare)
    except ValueError:
        return bare


@pytest.mark.parametrize("name", ATTACKS)
def test_sources_of_attacks_stand_on_the_page(name: str) -> None:
    cls = attack_class(name)
    sources = _plain(section(_page_of(name), "Sources"))
    for cite in map(_plain, cls.cites):
        # "Author, Author 2015, title": the first author and the year.
        author, year = cite.split(",")[0].split(" ")[0], re.search(r"\b(19|20)\d\d\b", cite)
        assert year is not None
        line = next((line for line in sources.split("\n- ") if author in line and year.group() in line), None)
        assert line is not None, f"{name}: {author} {year.group()} is not among the sources"


def _plain(text: str) -> str:
    """Without accents: a citation in the code is ASCII."""
    return unicodedata.normalize("NFD", text).encode("ascii", "ignore").decode()


@pytest.mark.parametrize("name", DEFENSES)
def test_defenses_are_described(name: str) -> None:
    candidates = [*(DOCS / "leaks").glob("*.md"), *(DOCS / "defenses").glob("*.md")]
    pages = [page for page in candidates if f"### `{name}`" in page.read_text("utf-8")]
    assert pages, f"no page has a section on the defense '{name}'"
    assert any(
        all(
            f"`{p}`" in section(page.relative_to(ROOT).as_posix(), f"`{name}`")
            for p in defense_class(name).model_fields
        )
        for page in pages
    )


@pytest.mark.parametrize("name", [*ATTACKS, *DEFENSES])
def test_the_readme_lists_the_catalogue(name: str) -> None:
    assert name in rows(section("README.md", "What is there today"))


@pytest.mark.parametrize("leak", sorted({attack_class(name).leak for name in ATTACKS}))
def test_scores_of_a_leak_are_described(leak: Leak) -> None:
    """Every score that the leak's scorer gives for a small case has a row."""
    from seepage.core.guess import Reconstruction, Scores
    from seepage.core.scorer import Controls
    from seepage.testing.cases import gradient_case, inversion_case, membership_case

    per: dict[str, int] = {}
    if leak is Leak.INVERSION:
        case = inversion_case(0)
        guess: Any = Reconstruction(case.knowledge.public.x[:6], np.arange(6))
        per = {"classes": len(case.secret.records.class_names)}
    elif leak is Leak.GRADIENT:
        case = gradient_case(0)
        secret: Any = case.secret
        guess = Reconstruction(secret.batch.x, secret.batch.labels(), client=secret.client)
        per = {"pool": len(secret.batch) + len(secret.others)}
    else:
        case = membership_case(0)
        guess = Scores(np.linspace(0, 1, 120), trace={"threshold": np.array([0.5])})
    scored = import_module(f"seepage.scoring.{leak}").score(guess, case.secret, Controls())
    _scores_are_described(rows(section(_page(leak), "The scores").split("\n### ")[0]), scored.scores, per)


def test_scores_of_single_records_are_described() -> None:
    """Those of pictures; of tables a likeness by values takes the place of structural similarity."""
    from seepage.core.guess import Reconstruction
    from seepage.core.scorer import Controls
    from seepage.scoring.inversion import score
    from seepage.testing.cases import record_inversion_case

    case = record_inversion_case(0)
    truth = case.secret.captured
    scored = score(Reconstruction(truth.x), case.secret, Controls())
    text = section("docs/leaks/inversion-records.md", "The scores of single records")
    per = {"classes": len(case.secret.records.class_names), "records": len(truth)}
    _scores_are_described(rows(text.split("\n### ")[0]), scored.scores, per)
    assert "`closeness`" in text


def test_scores_of_shares_are_described() -> None:
    from seepage.core.guess import Scores
    from seepage.core.scorer import Controls
    from seepage.scoring.property import score
    from seepage.testing.property import property_case

    case = property_case(0)
    shares = case.secret.shares
    scored = score(Scores(shares, trace={"shares": np.repeat(shares[:, None], 3, axis=1)}), case.secret, Controls())
    text = section("docs/leaks/membership-property.md", "The scores of shares")
    _scores_are_described(rows(text), scored.scores, {})
    assert all(f"`{name}`" in text for name in scored.facts if not name.startswith(("coverage_", "models_")))


def test_scores_of_sentences_are_described() -> None:
    from seepage.core.guess import Texts
    from seepage.core.scorer import Controls
    from seepage.scoring.inversion import score
    from seepage.testing.texts import text_inversion_case

    case = text_inversion_case(0)
    scored = score(Texts(tuple((text,) for text in case.captured)), case.secret, Controls())
    text = section("docs/leaks/inversion-sentences.md", "The scores of sentences")
    _scores_are_described(rows(text.split("\n### ")[0]), scored.scores, {"records": len(case.captured)})


def _scores_are_described(
    described: Mapping[str, list[str]], scores: Mapping[str, Score], per: Mapping[str, int]
) -> None:
    """A row each, and its chance: a number, one over the units, or that of the guess dealt to classes at random."""
    assert set(scores) == set(described)
    for name, score in scores.items():
        told = described[name][0]
        if told == "dealt at random":
            assert score.reason if score.value is None else 0 <= (score.chance or 0.0) <= 1, name
            assert score.value is None or "dealt to" in score.method or "at random" in score.method, name
            continue
        number, _, unit = told.partition(" / ")
        assert float(number) / per.get(unit, 1) == pytest.approx(score.chance), name


# The record


@pytest.mark.parametrize(
    ("model", "heading"),
    [(AuditRecord, "Top level"), (Finding, "A finding"), (Score, "A score"), (Exposure, "An exposure")],
)
def test_the_record_is_described(model: type[BaseModel], heading: str) -> None:
    text = section("docs/reference/record.md", heading)
    for key in model.model_fields:
        assert f"`{key}`" in text, f"{model.__name__}.{key}"


def test_the_glossary_has_one_meaning_each() -> None:
    words = re.findall(r"^\| \*\*(.+?)\*\* \|", (DOCS / "reference/glossary.md").read_text("utf-8"), re.MULTILINE)
    assert len(words) > 30
    assert sorted(set(words), key=str.lower) == words


# The rest of the repository


def test_the_changelog_knows_this_version() -> None:
    assert re.search(
        rf"^## {re.escape(seepage.__version__)}\b", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE
    )


def test_make_targets_are_described() -> None:
    declared = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert declared is not None
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    for target in set(declared.group(1).split()) - {"help"}:
        assert f"`make {target}" in text, target


def test_benchmarks_are_described() -> None:
    text = section("CONTRIBUTING.md", "Benchmarks")
    for folder in (ROOT / "benchmarks").iterdir():
        if folder.is_dir() and not folder.name.startswith(("_", ".")):
            assert f"`{folder.name}`" in text, folder.name


def test_the_licence_is_the_one_that_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert project["license"] == "Apache-2.0"
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
