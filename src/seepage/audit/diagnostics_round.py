"""Pre-flight of an update by the round it comes from: steps, rate, batch normalisation, sizes, labels, the ladder."""

from dataclasses import fields

import numpy as np

from seepage.attacks.gradient.inside import inside
from seepage.audit.sighted import Sighted
from seepage.core.assumptions import THREATS, Assumptions, Standing
from seepage.core.outlook import Diagnostic
from seepage.models.federated import ClientNet

# Degrees by which a gradient may turn over a round and still pass for one.
_STRAIGHT = 10.0
# What can be tried on a change of weights without a learning rate.
_SCALELESS = "the division of weights by biases, label counts from signs, and fits of the direction (cosine)"
_SCALELESS_TEXTS = (
    "the rows of the token embedding that moved, tokens in the span of attention's change, and fits of the direction"
)


def steps(s: Sighted) -> Diagnostic:
    """One gradient, or several steps at moving weights."""
    taken = "attacks that match one gradient"
    assumption = "the update is one gradient"
    if s.update.kind == "gradient":
        told = f"{s.batch} records" if s.batch else "an unknown number of records"
        return Diagnostic(
            name="local steps",
            assumption=assumption,
            holds="holds",
            found=f"one gradient over {told}",
            value=1.0,
            means=f"{taken} compare like with like: the easiest case for an adversary",
            change="several local steps a round make it harder, not impossible",
        )
    local, rate = s.ladder.local_batch.value, s.ladder.rate.value
    at = f" at rate {rate:g}" if rate else " at an unknown rate"
    if s.steps == 1:
        return Diagnostic(
            name="local steps",
            assumption=assumption,
            holds="holds",
            found=f"one step{at}",
            value=1.0,
            means=f"the change is the gradient times the rate: {taken} compare like with like",
            change="several local steps a round make it harder, not impossible",
        )
    turned = s.turned()
    told = "an unknown number of steps" if s.steps is None else f"{s.steps} steps"
    found = told + (f" of {local} records" if local else "") + at
    if turned is not None:
        found += f"; over the round the gradient of random records turns by {turned:.0f} degrees"
    straight = turned is not None and turned < _STRAIGHT
    return Diagnostic(
        name="local steps",
        assumption=assumption,
        holds="noted" if straight else "fails",
        found=found,
        value=None if s.steps is None else float(s.steps),
        means="the weights moved so little that the sum of the steps is close to one gradient: they add little "
        "protection"
        if straight
        else f"the later steps were taken at other weights, so {taken} match the wrong thing; attacks that simulate "
        "the client's steps can work if they know or guess batch, epochs and rate",
        change="one local step, or a smaller rate, makes it a gradient; more steps and a greater rate move it "
        "further away",
    )


def rate(s: Sighted) -> Diagnostic | None:
    """The learning rate, which turns a change of weights into gradients; nothing to say of a gradient."""
    if s.update.kind == "gradient":
        return None
    if s.known("rate"):
        return Diagnostic(
            name="learning rate",
            assumption="the learning rate is known",
            holds="holds",
            found=f"{s.ladder.rate.value:g}",
            value=float(s.ladder.rate.value),
            means="the change can be scaled to gradients, and the client's steps can be simulated",
            change="a rate that the client keeps to itself, or draws anew, takes that away",
        )
    return Diagnostic(
        name="learning rate",
        assumption="the learning rate is known",
        holds="unknown",
        found="not known",
        means="the change cannot be scaled to gradients, nor the client's steps simulated; what can still be tried "
        f"needs no scale: {_SCALELESS_TEXTS if s.text_net is not None else _SCALELESS}",
        change="[federated] rate (rate= in Python), where it is known; or a search over rates",
    )


def optimiser(s: Sighted) -> Diagnostic | None:
    """What the client's steps followed; nothing to say of a gradient."""
    if s.update.kind == "gradient" or s.steps == 1:
        return None
    told = s.ladder.optimiser.value
    plain = told == "sgd"
    return Diagnostic(
        name="optimiser",
        assumption="the client's steps are plain SGD",
        holds="unknown" if told is None else "holds" if plain else "fails",
        found="not known" if told is None else str(told),
        means="each step is the rate times a gradient: the client's round can be simulated"
        if plain
        else "the steps of a round add up with weights of their own, or are scaled: their sum points elsewhere "
        "than the gradients do, and an attack that simulates plain SGD simulates another client"
        if told is not None
        else "attacks that simulate the client's steps take them for plain SGD; with momentum or an adaptive rate they "
        "simulate another client",
        change="plain SGD, or one local step a round, takes this hindrance away",
    )


def batch_norm(s: Sighted) -> Diagnostic | None:
    """How batch normalisation computed, and whether its statistics are known."""
    if s.net is None:
        return None
    assumption = "each record's gradient is its own"
    if not s.net.has_batch_norm:
        return Diagnostic(
            name="batch normalisation",
            assumption=assumption,
            holds="holds",
            found="none in the model",
            means="the update is a mean over records that do not see one another",
            change="batch normalisation in train mode, its statistics kept from the server, is a hindrance of its own",
        )
    sent = "; the running statistics after the round were sent too" if s.update.buffers else ""
    mode = s.ladder.mode.value
    if mode == "eval":
        return Diagnostic(
            name="batch normalisation",
            assumption=assumption,
            holds="holds",
            found=f"in eval mode, by running statistics{sent}",
            means="it is a fixed scaling that the server knows: no hindrance",
            change="train mode mixes the records of a step",
        )
    if mode is None:
        return Diagnostic(
            name="batch normalisation",
            assumption=assumption,
            holds="unknown",
            found=f"in the model, in an unknown mode{sent}",
            means="an attack has to guess between train and eval mode; the wrong one of the two gives garbage",
            change="[federated] mode (mode= in Python): most clients train in train mode",
        )
    told = s.known("statistics")
    return Diagnostic(
        name="batch normalisation",
        assumption=assumption,
        holds="holds" if told else "fails",
        found=f"in train mode, the batch's statistics {'known' if told else 'not known'}{sent}",
        means="the batch's statistics are in the adversary's hands: they say much of the records by themselves"
        if told
        else "every record's gradient depends on the others of its step, and the statistics they were normalised by "
        "are not known: fits get markedly worse. An attack run in eval mode on such an update gives garbage",
        change="clients that send running statistics after one step give the batch's away; eval mode or group "
        "normalisation takes the hindrance away",
    )


def dropout(s: Sighted) -> Diagnostic | None:
    """Whether values were dropped at random while the client trained; nothing where no layer does that."""
    if s.net is None or not s.net.drops:
        return None
    mode = s.ladder.mode.value
    return Diagnostic(
        name="dropout",
        assumption="the true records make the update that was sent",
        holds="holds" if mode == "eval" else "unknown" if mode is None else "fails",
        found="in the model, " + ("in an unknown mode" if mode is None else f"in {mode} mode"),
        means="an update can be computed again from its records"
        if mode == "eval"
        else "what was dropped is the client's alone: attacks that simulate the client fit another update. Exact "
        "attacks on a first layer before any dropout, and counts of labels, do not mind",
        change="train mode makes it a hindrance" if mode == "eval" else "eval mode, or no dropout, takes it away",
    )


def equations(s: Sighted) -> Diagnostic | None:
    """Parameters that moved against values to be found."""
    if s.batch is None or s.spec is None or not s.moved:
        return None
    unknown = s.batch * s.spec.size
    ratio = s.moved / unknown
    if ratio < 1:
        return Diagnostic(
            name="equations",
            assumption="the update has as many numbers as the records have",
            holds="fails",
            found=f"{s.moved:,} parameters moved, for {unknown:,} values of {s.batch} records: {ratio:.2g} a value",
            value=ratio,
            means="many different batches make this very update: whatever fits it is only one of them, unless a strong "
            "prior chooses",
            change="fewer or smaller records, a larger model, or a prior with few latents",
        )
    return Diagnostic(
        name="equations",
        assumption="the update has as many numbers as the records have",
        holds="holds",
        found=f"{s.moved:,} parameters moved, for {unknown:,} values of {s.batch} records: {ratio:.2g} a value",
        value=ratio,
        means="the records may be determined by the update: needed by every attack without a prior, and enough for "
        "none",
        change="more records an update, or a smaller model",
    )


def first_layer(s: Sighted) -> Diagnostic | None:
    """Whether records can be solved for in the first layer."""
    if s.net is None:
        return None
    first, assumption = s.first, "the records can be solved for in the first layer"
    change = (
        "an embedding in front of it, no bias, or fewer neurons than records; a convolution in front of it costs digits"
    )
    if first is None:
        return None
    bias = "with" if first.bias is not None else "without"
    found = f"'{first.name}': {first.kind}, {first.width} wide, {bias} a bias"
    if first.kind != "linear" or not first.direct:
        why = f"it is a {first.kind}" if first.kind != "linear" else "it does not see the record value by value"
        return Diagnostic(
            name="first layer",
            assumption=assumption,
            holds="fails",
            found=found,
            means=f"{why}: exact algebra on the first layer has no hold here{_further(s.net)}",
            change="a fully connected first layer gives records away exactly",
        )
    return Diagnostic(
        name="first layer",
        assumption=assumption,
        holds="holds",
        found=found + ", sees the record itself",
        means="every row of its gradient is a weighted sum of the records"
        + (", and the bias says with which weights: exact attacks have their hold" if first.bias else ""),
        change=change,
    )


def _further(net: ClientNet) -> str:
    """What is to be said of layers further in."""
    met = inside(net)
    if met is None:
        return ", and an adversary has to fit the update"
    further = met.entry
    told = f"{further.scale.size} features a record, may be unmixed by its {further.width} neurons"
    return f"; the input of '{further.name}', {told}"


def rank(s: Sighted) -> Diagnostic | None:
    """Batch against width, and the rank of the first layer's gradient; for a linear first layer."""
    seen, first = s.directions, s.first
    if seen is None or first is None:
        return None
    assumption = "there are fewer records than neurons in the first layer"
    few = min(seen.sides)
    told = f"numerical rank {seen.rank} (singular values above {seen.tolerance:.1g} of the greatest) of at most {few}"
    if s.batch is None:
        return Diagnostic(
            name="rank",
            assumption=assumption,
            holds="unknown" if seen.full else "holds",
            found=told,
            value=float(seen.rank),
            means="as many directions as there can be: the batch is as large as the layer is wide, or noise was added"
            if seen.full
            else f"the rank gives the size of the batch away: {seen.rank} records or more, whose span it is",
            change="a wider first layer, or fewer records",
        )
    found = f"{s.batch} records, {first.width} neurons; {told}"
    if s.batch >= few or seen.full:
        return Diagnostic(
            name="rank",
            assumption=assumption,
            holds="fails",
            found=found,
            value=float(seen.rank),
            means="the span of the rows is everything there is: it says nothing of the records in it",
            change=f"fewer than {few} records an update, or a wider first layer",
        )
    more = seen.rank > s.batch
    return Diagnostic(
        name="rank",
        assumption=assumption,
        holds="noted" if more else "holds",
        found=found,
        value=float(seen.rank),
        means="more directions than records: something else is in the update, and the span is blurred"
        if more
        else "the rows span just the records: an adversary knows the subspace they lie in, which exact attacks start "
        "from",
        change=f"{few} records or more an update, or a narrower first layer",
    )


def silent(s: Sighted) -> Diagnostic | None:
    """Rows of the first layer that no record moved."""
    if s.rows is None or s.directions is None:
        return None
    share = float((~np.any(s.rows != 0, axis=1)).mean())
    return Diagnostic(
        name="silent neurons",
        assumption="some neurons belong to one record alone",
        holds="unknown" if share == 0 else "noted",
        found=f"{share:.0%} of the first layer's {len(s.rows)} rows are exactly zero",
        value=share,
        means="no neuron is silent for the whole batch: with a smooth activation every record moves every row"
        if share == 0
        else "neurons that are silent for the whole batch hint at others that only one record moves: what sparse exact "
        "attacks live on",
        change="larger batches leave fewer silent and fewer single rows",
    )


def labels(s: Sighted) -> Diagnostic | None:
    """Repeated labels, by the signs of the last bias's gradient."""
    bias = s.classes_bias
    if bias is None:
        return None
    negative = int((bias < 0).sum())
    assumption = "every record has a class of its own"
    found = f"{negative} of {len(bias)} entries of the last bias's gradient are negative: so many classes are present"
    if s.batch is None:
        repeated = None
    else:
        repeated = max(s.batch - negative, 0)
        found += f", for {s.batch} records" + (f"; at least {repeated} repeat a class" if repeated else "")
    means = "the classes present can be read off the signs, before any reconstruction: a leak of its own"
    if repeated:
        means += "; attacks that give each record another class start from wrong labels"
    return Diagnostic(
        name="labels",
        assumption=assumption,
        holds="unknown" if repeated is None else "fails" if repeated else "holds",
        found=found,
        value=float(negative),
        means=means,
        change="batches with many records a class hide how many of each there are; no bias in the last layer hides "
        "less than it seems",
    )


def ladder(s: Sighted) -> Diagnostic:
    """What the adversary knows of the making of the update, and the threat model that it adds up to."""
    rungs = [f.name for f in fields(Assumptions) if f.name not in ("active", "selects")]
    by = {st: [n for n in rungs if getattr(s.ladder, n).standing is st] for st in Standing}
    letter = s.ladder.letter
    found = f"threat model {letter} ({THREATS[letter]}); not known: {', '.join(by[Standing.UNKNOWN]) or 'nothing'}"
    if by[Standing.GUESSED]:
        found += f"; guessed: {', '.join(by[Standing.GUESSED])}"
    return Diagnostic(
        name="knowledge",
        assumption="the adversary knows how the update was made",
        holds="noted",
        found=found,
        means="the model and its loss every adversary here has; what is not known an attack has to guess, and says "
        "so in its finding",
        change="[federated] knows (knows= in Python) takes rungs away or grants them",
    )
