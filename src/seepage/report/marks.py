"""Pieces of Markdown, escaped so that text stays text."""

import re
from collections.abc import Iterable

_MARKS = re.compile(r"([\\`*_{}\[\]<>#|~&@$])")
_LINKS = re.compile(r"(?<=\w)(?=://)|(?<=www)(?=\.)", re.IGNORECASE)
_SPACE = re.compile(r"[\x00-\x20\x7f\u2028\u2029]+")


def safe(text: object) -> str:
    """Text that Markdown shows as it is: on one line, its marks escaped, nothing turned into a link or markup."""
    line = _SPACE.sub(" ", str(text)).strip()
    return _LINKS.sub(r"\\", _MARKS.sub(r"\\\1", line))


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table of cells that are Markdown already."""
    names = list(header)
    lines = [names, ["---"] * len(names), *(list(row) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def bullets(lines: Iterable[str]) -> str:
    """A list of lines that are Markdown already."""
    return "\n".join(f"- {line}" for line in lines)
