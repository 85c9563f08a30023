"""Texts of clients by search (TAG, LAMP) and by algebra (DAGER): tokens recovered, ROUGE and seconds of one processor.

Texts are drawn from a chain in which each word has a few successors, so that public texts teach what follows what;
models are small transformers with fresh weights. One thread; a line is printed as soon as it is known, and one JSON
object last.
"""

import argparse
import json
import time
from typing import Any

import numpy as np
import torch

from seepage.attacks.gradient.balunovic2022 import Lamp
from seepage.attacks.gradient.deng2021 import Tag
from seepage.attacks.gradient.petrov2024 import Dager
from seepage.core.assumptions import Assumptions, Rung
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


def cell(net_name: str, batch: int, clients: int, seed: int, attacks: dict[str, tuple[Any, bool]]) -> dict[str, Any]:
    net = text_net(net_name, VOCABULARY, 2, seed, width=64, layers=3, heads=2, length=16)
    texts, y = drawn(batch * clients, seed, "private"), stream(seed, "labels").integers(2, size=batch * clients)
    public = drawn(PUBLIC, seed, "public")
    owner = np.repeat(np.arange(clients), batch)
    sent = Updates(
        tuple(
            net.round([texts[i] for i in rows], y[rows], LocalTraining(mode="eval"), stream(seed, "round"))
            for rows in np.arange(batch * clients).reshape(clients, batch)
        )
    )
    records = Records.of_texts(texts, y=y, class_names=("a", "b"))
    secret = GradientSecret(batch=records, client=owner)
    words, counts = np.unique([w for text in public for w in text.split()], return_counts=True)
    frequent = " ".join(words[np.argsort(-counts, kind="stable")][:200])
    blind = Texts(((frequent,) * batch,) * clients)
    found = {"frequent words": _line(net_name, batch, "frequent words", blind, secret, 0.0)}
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
    net_name: str, batch: int, name: str, guess: Texts, secret: GradientSecret, seconds: float
) -> dict[str, float]:
    found = score(guess, secret, Controls()).scores
    figures = {part: float(found[part].value or 0.0) for part in SHOWN} | {"seconds": seconds}
    print(f"| {net_name} | {batch} | {name} | {' | '.join(f'{value:.2f}' for value in figures.values())} |", flush=True)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=2, help="the least a cell has; a batch may have more")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--nets", nargs="+", default=["tiny-bert", "tiny-gpt"])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(f"| model | texts | attack | {' | '.join(SHOWN)} | seconds a client |")
    attacks: dict[str, tuple[Any, bool]] = {"dager": (Dager(), False), "tag": (Tag(), False), "lamp": (Lamp(), True)}
    options: dict[str, tuple[Any, bool]] = {
        "lamp, no public texts": (Lamp(), False),
        "lamp, rows": (Lamp(rows=True), True),
    }
    every_cell: dict[str, Any] = {}
    for batch in asked.batches:
        for net in asked.nets:
            clients = max(1, asked.texts // batch)
            every_cell |= cell(net, batch, clients, asked.seed, attacks)
    # What the language model and the moved rows change is measured on single texts.
    for net in asked.nets:
        every_cell |= cell(net, 1, asked.texts, asked.seed, options)
    print(json.dumps(every_cell))


if __name__ == "__main__":
    main()
