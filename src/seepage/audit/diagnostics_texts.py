"""Pre-flight of an update of texts: attention's gradients, the token embedding, dropout."""

import numpy as np

from seepage.attacks.gradient.attention import Reader
from seepage.audit.sighted import Sighted
from seepage.core.outlook import Diagnostic


def width(s: Sighted) -> Diagnostic | None:
    """Tokens in the batch against the width of the model: the rank of the first attention layer's gradient."""
    net = s.text_net
    if net is None:
        return None
    assumption = "the batch holds fewer tokens than the model is wide"
    if s.attention is None:
        return Diagnostic(
            name="attention",
            assumption=assumption,
            holds="fails",
            found="the update has no gradients of two attention layers whose projections go by a known name",
            means="tokens cannot be tried against the span of what attention saw; the embedding may still name them",
            change="layers that are trained: an adversary has nothing of those that are frozen",
        )
    first, _ = s.attention
    most = Reader(net).capacity
    found = f"the gradient of the first attention layer has rank {first.rank}; tokens can have {most}"
    if first.noisy:
        return Diagnostic(
            name="attention",
            assumption=assumption,
            holds="fails",
            found=f"{found}; its spectrum has no end that a token fits: something was added to the gradient or taken "
            "away, or it was rounded more coarsely than its smaller directions",
            value=float(first.rank),
            means="what the batch's tokens span is blurred: a token can be told as far as it stands out of the noise",
            change="noise of this kind is what a client can add and account for; less of it lets tokens stand out",
        )
    full = first.rank >= most
    return Diagnostic(
        name="attention",
        assumption=assumption,
        holds="fails" if full or not first.rank else "holds",
        found=found,
        value=float(first.rank),
        means="every token of the vocabulary lies in the span: it says nothing of those in the batch"
        if full
        else "so many tokens in their places are in the batch, and each token of the vocabulary can be tried alone"
        if first.rank
        else "the first attention layer did not move: there is nothing to try tokens against",
        change="fewer or shorter texts an update, or a wider model"
        if full
        else f"{most} tokens an update or more hide each other; so do sums over clients",
    )


def deeper(s: Sighted) -> Diagnostic | None:
    """Whether the second attention layer's gradient spans as much as the first: by it tokens are put in order."""
    if s.attention is None or any(span.noisy for span in s.attention):
        return None
    first, second = s.attention
    short = second.rank < first.rank
    return Diagnostic(
        name="second attention layer",
        assumption="every token moves the second attention layer",
        holds="fails" if short else "holds",
        found=f"rank {second.rank}, of {first.rank} in the first layer",
        value=float(second.rank),
        means="some of its inputs are outside the span: as of a last layer of which the loss sees one token a text, "
        "where each head adds two directions at the most. Tokens cannot be put in order by it"
        if short
        else "what tokens stand before which can be tried in its span: whole texts can be put together",
        change="a deeper model, shorter texts, or a loss over every token"
        if short
        else "a model whose second attention layer is its last, and whose loss sees one token a text",
    )


def embedding(s: Sighted) -> Diagnostic | None:
    """Whether the rows of the token embedding name the tokens of the batch."""
    net = s.text_net
    if net is None:
        return None
    name, assumption = net.embedding, "the rows of the token embedding that moved are the batch's tokens"
    if net.tied or name not in s.tensors:
        return Diagnostic(
            name="token embedding",
            assumption=assumption,
            holds="fails",
            found=f"'{name}' is shared with the output layer" if net.tied else f"'{name}' is frozen, or was not sent",
            means="every row moves, in the batch or not: which tokens were there shows in how far, not in whether"
            if net.tied
            else "no update speaks of the embedding: the bag of words has to be found in other layers",
            change="an embedding of its own that is trained names every token of the batch",
        )
    moved = int(np.any(s.tensors[name] != 0, axis=1).sum())
    whole = len(s.tensors[name])
    return Diagnostic(
        name="token embedding",
        assumption=assumption,
        holds="fails" if moved == whole else "holds",
        found=f"{moved:,} of {whole:,} rows of '{name}' moved",
        value=float(moved),
        means="every row moved: noise was added, and a token shows as far as its row stands out"
        if moved == whole
        else "which tokens are in the batch can be read off, without order: a leak of its own, whatever the batch",
        change="a frozen embedding, or one shared with the output layer, takes this away",
    )


def dropout(s: Sighted) -> Diagnostic | None:
    """Whether values were dropped at random while the client trained."""
    net = s.text_net
    if net is None:
        return None
    assumption = "a token looks to the model as it does to the adversary"
    mode, drops = s.ladder.mode.value, net.drops
    if not drops or mode == "eval":
        return Diagnostic(
            name="dropout",
            assumption=assumption,
            holds="holds",
            found="none in the model" if not drops else "off, in eval mode",
            means="what the first layer saw of a token can be computed",
            change="dropout in train mode is a hindrance of its own, for attacks that need exact inputs",
        )
    return Diagnostic(
        name="dropout",
        assumption=assumption,
        holds="unknown" if mode is None else "fails",
        found="in the model, in an unknown mode" if mode is None else "in the model, in train mode",
        means="what the first layer saw of a token is its embedding with values left out at random: no token fits the "
        "span exactly. The rows of the embedding still name the tokens",
        change="[federated] mode = 'eval', or no dropout, takes this hindrance away",
    )
