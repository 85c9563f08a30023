"""What counts as a word of a text: the same for attacks, for the guesses without the model and for the scores."""

import re
from collections import Counter
from collections.abc import Sequence
from unicodedata import normalize

# Letters, digits and their combining marks, joined by apostrophes; an underscore is no letter.
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


def words(text: str) -> list[str]:
    """The words of a text in order: NFC, case folded, without punctuation; `don’t` is one word, `ice-cream` two."""
    return _WORD.findall(normalize("NFC", text).replace("’", "'").casefold())


def document_counts(texts: Sequence[str]) -> Counter[str]:
    """In how many of the texts each word stands."""
    return Counter(word for text in texts for word in set(words(text)))
