"""What every plugin must satisfy, whether attack or defense: its card and its configuration."""

import inspect
import json
import re
from pathlib import Path
from typing import Any, NoReturn

from pydantic import BaseModel, ValidationError


class ContractBroken(AssertionError):
    """A plugin does not keep a contract; the message says which, and what to do."""


def demand(kept: object, message: str) -> None:
    """Nothing when `kept` is true.

    Raises:
        ContractBroken: with `message`, otherwise.
    """
    if not kept:
        raise ContractBroken(message)


def _refuse_constant(text: str) -> NoReturn:
    raise ContractBroken(f"the configuration holds {text}, which is no JSON")


def check_card(cls: type[Any], docs_page: Path | None = None) -> None:
    """Name, title, version, citations with a year, docstring, and a mention in the documentation.

    Args:
        cls: an attack, a defense or a poison.
        docs_page: the page that must mention the catalogue name, or None to leave it unchecked.

    Raises:
        ContractBroken: for what is missing.
    """
    who = cls.__name__
    demand(not inspect.isabstract(cls), f"{who} is abstract: {sorted(cls.__abstractmethods__)} are to be written")
    name = getattr(cls, "name", "")
    demand(
        isinstance(name, str) and re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name),
        f"{who}: the catalogue name should be lower case words joined by hyphens, got {name!r}",
    )
    title = getattr(cls, "title", "")
    demand(isinstance(title, str) and 0 < len(title) <= 80, f"{who}: a title of at most 80 letters, got {title!r}")
    version = getattr(cls, "version", None)
    demand(isinstance(version, int) and version >= 1, f"{who}: the version should be 1 or more, got {version!r}")
    cites = getattr(cls, "cites", ())
    demand(isinstance(cites, tuple) and cites, f"{who}: at least one source was wanted in `cites`, as a tuple")
    for cite in cites:
        demand(
            isinstance(cite, str) and re.search(r"\b(19|20)\d\d\b", cite),
            f"{who}: 'Author, year, title, where' was wanted in `cites`, got {cite!r}",
        )
    own = inspect.cleandoc(vars(cls).get("__doc__") or "")
    demand(len(own) > 20, f"{who}: a docstring of its own was wanted, saying what it does")
    for parameter, info in cls.model_fields.items():
        demand(
            info.description or re.search(rf"\b{re.escape(parameter)}\b", own),
            f"{who}: the parameter '{parameter}' is described neither in the docstring nor in its Field",
        )
    if docs_page is not None:
        demand(docs_page.is_file(), f"{who}: the page {docs_page.name} is missing from the documentation")
        demand(name in docs_page.read_text("utf-8"), f"{who}: {docs_page.name} does not mention '{name}'")


def check_configuration(cls: type[BaseModel], params: dict[str, Any]) -> None:
    """JSON round trip, unknown parameters refused, fields frozen.

    Raises:
        ContractBroken: for what does not hold.
    """
    who = cls.__name__
    made = cls(**params)
    text = made.model_dump_json()
    json.loads(text, parse_constant=_refuse_constant)
    again = cls.model_validate_json(text)
    demand(again == made and again.model_dump_json() == text, f"{who}: JSON and back gives another configuration")
    unknown = "no_such_parameter"
    try:
        cls(**params, **{unknown: 1})
    except ValidationError:
        pass
    else:
        raise ContractBroken(f"{who}: an unknown parameter is taken; keep extra='forbid' in model_config")
    for parameter in cls.model_fields:
        try:
            setattr(made, parameter, getattr(made, parameter))
        except ValidationError:
            continue
        raise ContractBroken(f"{who}: '{parameter}' can be set after construction; keep frozen=True in model_config")
    demand(made == cls(**params), f"{who}: two configurations with the same parameters differ")
