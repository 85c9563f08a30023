"""Texts of clients by search (TAG, LAMP) and by algebra (DAGER): tokens recovered, ROUGE and seconds of one processor.

Texts are drawn from a chain in which each word has a few successors, so that public texts teach what follows what;
models are small transformers with fresh weights. A cell is several updates of one model, which a search takes
together; intervals are over the updates. One thread; a line is printed as soon as it is known, and one JSON object
last.
"""

import argparse
import json
import time
from typing import Any

import numpy as np
import torch

from seepage.attacks.gradient.balunovic2022 import Lamp
from seepage.attacks.gradient.deng2021 import Tag
from seepage.attacks.gradient.embedding_rows import EmbeddingRows
from seepage.attacks.gradient.petrov2024 import Dager
from seepage.core.assumptions import Assumptions, Rung
from seepage.core.attack import TextGradientAttack
from seepage.core.guess import Texts
from seepage.core.knowledge import TextGradientKnowledge
from seepage.core.records import Records
from seepage.core.scorer import Controls
from seepage.core.secrets import GradientSecret
from seepage.core.seeds import stream
from seepage.core.target import Target
from seepage.core.victim import Updates
from seepage.models.federated import LocalTraining
from seepage.models.text_nets import text_net
from seepage.scoring.gradient_texts import score

VOCABULARY, LENGTH, SUCCESSORS, PUBLIC = 500, 8, 8, 2000
SHOWN = ("token_recall", "rouge_1", "rouge_2", "rouge_l", "exact")
# Attacks by what a row calls them, and whether they hold public texts.
ATTACKS: dict[str, tuple[TextGradientAttack, bool]] = {
    "embedding-rows": (EmbeddingRows(), False),
    "dager": (Dager(), False),
    "tag": (Tag(), False),
    "lamp": (Lamp(), True),
}
# What the language model and the moved rows change.
OPTIONS: dict[str, tuple[TextGradientAttack, bool]] = {
    "lamp, no public texts": (Lamp(), False),
    "lamp, rows": (Lamp(rows=True), True),
    "tag, rows": (Tag(rows=True), False),
}


def drawn(n: int, seed: int, name: str) -> tuple[str, ...]:
    """Texts of the chain, which is the same for all names under a seed."""
    chain, rng = stream(seed, "chain"), stream(seed, "texts", name)
    follow = chain.integers(1, VOCABULARY, size=(VOCABULARY, SUCCESSORS))
    odds = chain.dirichlet(np.full(SUCCESSORS, 0.5), size=VOCABULARY)
    frequent = 1 / np.arange(1, VOCABULARY)
    texts: list[str] = []
    for _ in range(n):
        row = [int(rng.choice(np.arange(1, VOCABULARY), p=frequent / frequent.sum()))]
        while len(row) < LENGTH:
            row.append(int(rng.choice(follow[row[-1]], p=odds[row[-1]])))
        texts.append(" ".join(map(str, row)))
    return tuple(texts)


def cell(
    net_name: str, batch: int, clients: int, seed: int, attacks: dict[str, tuple[TextGradientAttack, bool]], blind: bool
) -> dict[str, Any]:
    """Every attack on the same updates of one model, `batch` texts each; and the most frequent words, where `blind`."""
    net = text_net(net_name, VOCABULARY, 2, seed, width=64, layers=3, heads=2, length=16)
    texts, y = drawn(batch * clients, seed, "private"), stream(seed, "labels").integers(2, size=batch * clients)
    public = drawn(PUBLIC, seed, "public")
    sent = Updates(
        tuple(
            net.round([texts[i] for i in rows], y[rows], LocalTraining(mode="eval"), stream(seed, "round"))
            for rows in np.arange(batch * clients).reshape(clients, batch)
        )
    )
    secret = GradientSecret(
        batch=Records.of_texts(texts, y=y, class_names=("a", "b")), client=np.repeat(np.arange(clients), batch)
    )
    found: dict[str, Any] = {}
    if blind:
        words, counts = np.unique([w for text in public for w in text.split()], return_counts=True)
        frequent = " ".join(words[np.argsort(-counts, kind="stable")][:200])
        guess = Texts(((frequent,) * batch,) * clients)
        found["frequent words"] = _line(net_name, batch, "frequent words", guess, secret, None)
    for name, (attack, told) in attacks.items():
        known = TextGradientKnowledge(
            public=Records.of_texts(public) if told else None,
            net=net,
            classes=2,
            clients=clients,
            assumptions=Assumptions(batch=Rung.known(batch), mode=Rung.known("eval"), steps=Rung.known(1)),
        )
        begun = time.process_time()
        guess = attack.run(Target(sent, attack.needs), known, stream(seed, "attack"))
        found[name] = _line(net_name, batch, name, guess, secret, (time.process_time() - begun) / clients)
    return {f"{net_name}.{batch}.{name}": figures for name, figures in found.items()}


def _line(
    net_name: str, batch: int, name: str, guess: Texts, secret: GradientSecret, seconds: float | None
) -> dict[str, Any]:
    scores = score(guess, secret, Controls()).scores
    recall, shown = scores["token_recall"], {part: scores[part].value for part in SHOWN}
    numbers = [f"{shown[part] or 0.0:.2f}" for part in SHOWN]
    numbers[0] += f" [{recall.low or 0.0:.2f}, {recall.high or 0.0:.2f}]"
    spent = "-" if seconds is None else f"{seconds:.1f}"
    print(f"| {net_name} | {batch} | {name} | {' | '.join(numbers)} | {spent} |", flush=True)
    interval = {"low": recall.low, "high": recall.high, "updates": recall.n}
    return shown | interval | {"cpu_seconds_an_update": None if seconds is None else round(seconds, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=5, help="of a cell")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--nets", nargs="+", default=["tiny-bert", "tiny-gpt"])
    parser.add_argument("--attacks", nargs="+", default=list(ATTACKS), choices=list(ATTACKS))
    parser.add_argument("--options", type=int, default=2, help="texts an update where options are tried; 0 for none")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(f"| model | texts | guess | {' | '.join(SHOWN)} | CPU seconds an update |")
    cells: dict[str, Any] = {}
    for batch in asked.batches:
        for net in asked.nets:
            attacks = {name: ATTACKS[name] for name in asked.attacks}
            cells |= cell(net, batch, asked.updates, asked.seed, attacks, blind=True)
    for net in asked.nets if asked.options else ():
        cells |= cell(net, asked.options, asked.updates, asked.seed, OPTIONS, blind=False)
    print(json.dumps(cells))


if __name__ == "__main__":
    main()
