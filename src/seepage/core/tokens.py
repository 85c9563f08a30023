"""What counts as a token of a text that was recovered: a word, a number or a punctuation mark."""

import re
from unicodedata import normalize

_TOKEN = re.compile(r"[^\W_]+|[^\w\s]|_")


def tokens(text: str) -> list[str]:
    """The words and punctuation marks of a text in order: NFC, case folded; `don't` is three of them.

    The same for every model, whatever pieces its own tokenizer makes; of a text written as token numbers, these.
    """
    return _TOKEN.findall(normalize("NFC", text).casefold())
