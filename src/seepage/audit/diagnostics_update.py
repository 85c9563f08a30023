"""Pre-flight of an update by its values: broken, vanished, rounded, thinned, clipped, noised, of another loss."""

import numpy as np

from seepage.audit.sighted import Sighted
from seepage.audit.spectrum import FEWEST, grain, spectrum
from seepage.core.outlook import Diagnostic

Array = np.ndarray

_AS_MADE = "the update is as training made it"
# Below this a whole update says nothing in single precision.
_NOTHING = 1e-20
# Bounds that people set for clipping; an update whose norm is one of them to four digits was clipped to it.
_BOUNDS = (0.01, 0.05, 0.1, 0.2, 0.25, 0.3, 0.5, 0.75, 1.0, 1.2, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 10.0, 100.0)
_ALIKE = 1e-4
_SPARSE = 0.2


def finite(s: Sighted) -> Diagnostic | None:
    """NaN and infinite values: said only where there are some."""
    if s.broken is None:
        return None
    return Diagnostic(
        name="finite values",
        assumption="every value of the update is a number",
        holds="fails",
        found=f"{s.broken} holds NaN or infinite values",
        means="no attack can compute with it, and no server could aggregate it: the local training diverged",
        change="a smaller learning rate, or the update of another round",
    )


def size(s: Sighted) -> Diagnostic:
    """The norm of the update, beside the weights, and how sure the model already is of its classes."""
    norm = float(s.norms[0])
    found = f"norm {norm:.3g}"
    if len(s.norms) > 1:
        found += f" (clients: {s.norms.min():.3g} to {s.norms.max():.3g})"
    if s.relative is not None:
        found += f", {s.relative:.2g} of the weights'"
    sure = _sure(s)
    if sure is not None:
        found += f"; the model gives the true classes a probability of about {sure:.2f} at the most"
    if not np.isfinite(norm) or norm <= _NOTHING:
        return Diagnostic(
            name="size",
            assumption="the records moved the model",
            holds="fails",
            found="the update is zero throughout" if norm <= _NOTHING else "the update has no finite norm",
            value=0.0 if norm <= _NOTHING else None,
            means="there is nothing to read: the client did not train, its layers are frozen, or before and after are "
            "the same weights",
            change="an update of a round in which the client trained",
        )
    trained = sure is not None and sure > 0.9
    return Diagnostic(
        name="size",
        assumption="the records moved the model",
        holds="fails" if trained else "holds",
        found=found,
        value=norm,
        means="a model that is sure of its records hardly moves: rounding and the few records it gets wrong are what "
        "is left to see"
        if trained
        else "the update carries the records' gradient well above nothing: good for an adversary",
        change="an earlier round shows more, a later one less",
    )


def _sure(s: Sighted) -> float | None:
    """1 + the negative entries of the last bias's gradient: the mean probability of the true classes, at the most.

    Entry c is the mean of p_c - [y = c]; what is negative in it sums to -(1 - p) at the least in size where records
    of one class have it together.
    """
    bias = s.classes_bias
    if bias is None or s.update.kind != "gradient":
        return None
    return float(np.clip(1 + bias[bias < 0].sum(), 0.0, 1.0))


def precision(s: Sighted) -> Diagnostic:
    """Half precision and quantisation."""
    kept = s.grain
    if not kept.coarse:
        return Diagnostic(
            name="precision",
            assumption=_AS_MADE,
            holds="holds",
            found=f"values to {kept.name}",
            means="nothing was rounded away",
            change="half precision stops next to nothing; a few bits an entry (4 or fewer) start to",
        )
    half = kept.name in ("float16", "bfloat16") or kept.name == "8-bit steps"
    return Diagnostic(
        name="precision",
        assumption=_AS_MADE,
        holds="noted" if half else "fails",
        found=f"values to {kept.name}, whatever type they came in",
        value=kept.noise,
        means="attacks that need exact ranks and quotients lose digits, those that fit a gradient hardly notice: for "
        "the client no protection worth the name"
        if half
        else "so few values are left that exact attacks fail; those that fit the direction of the update may still "
        "work",
        change="the update before it was rounded",
    )


def noise(s: Sighted) -> Diagnostic | None:
    """More directions than the records can have made; None where no layer tells."""
    if s.broken is not None or s.batch is None or s.spec is None:
        return None
    at_first = s.directions is not None
    most = s.batch if at_first else s.batch * (s.steps or 1)
    if s.directions is not None:
        name, seen = s.first.weight if s.first else "", s.directions
    else:
        flat = {name: t for name, t in s.tensors.items() if t.ndim == 2 and min(t.shape) > most}
        if not flat or s.steps is None:
            return None
        name = max(flat, key=lambda n: flat[n].size)
        # A change of weights is rounded as the weights are, whose spectrum is not looked at here.
        rounded = grain(flat[name]).noise if s.update.kind == "gradient" else 2.0**-23 * 0.1
        seen = spectrum(flat[name], rounded)
    if len(seen.values) <= most:
        return None
    share = seen.beyond(most)
    clean = seen.rank <= most
    return Diagnostic(
        name="noise",
        assumption=_AS_MADE,
        holds="holds" if clean else "fails",
        found=f"beyond the {most} directions that {s.batch} records can give '{name}' lies {share:.2g} of its norm",
        value=share,
        means="no noise to be seen: what the spectrum says of the records can be taken at its word"
        if clean
        else "something other than these records moved the weights: noise, momentum or weight decay of earlier rounds, "
        "an adaptive optimiser, or more records than was said; exact attacks fail, and fitting one has a floor",
        change="Gaussian noise is what a client could add here (and account for); a plain SGD update without it "
        "reads best",
    )


def sparsity(s: Sighted) -> Diagnostic | None:
    """Zeros that no silent neuron explains: top-k sparsification; said only where there are many."""
    zero = whole = 0
    for tensor in s.tensors.values():
        if tensor.ndim < 2:
            continue
        flat = tensor.reshape(len(tensor), -1)
        live = flat[np.any(flat != 0, axis=1)][:, np.any(flat != 0, axis=0)]
        zero += int((live == 0).sum())
        whole += live.size
    share = zero / whole if whole else 0.0
    if share < _SPARSE:
        return None
    return Diagnostic(
        name="sparsity",
        assumption=_AS_MADE,
        holds="fails" if share > 0.5 else "noted",
        found=f"{share:.0%} of the entries outside silent rows and columns are exactly zero",
        value=share,
        means="the update looks as if only its greatest entries were sent: quotients and ranks are damaged, and what "
        "a fit can see is what was sent",
        change="the update before it was thinned; keeping half stops next to nothing, keeping 1 % does",
    )


def clipping(s: Sighted) -> Diagnostic:
    """A norm that is a round number, clients of one norm, many entries at one greatest value."""
    norm, found = float(s.norms[0]), ""
    if len(s.norms) > 1 and norm > 0 and float(np.ptp(s.norms)) < _ALIKE * norm:
        found = f"all {len(s.norms)} clients' updates have the norm {norm:.4g}"
    elif any(abs(norm - bound) < _ALIKE * bound for bound in _BOUNDS):
        found = f"the norm is {norm:.4g}, a round number to four digits"
    elif capped := _capped(s):
        found = capped
    if not found:
        return Diagnostic(
            name="clipping",
            assumption=_AS_MADE,
            holds="holds",
            found="the norm is no round number, and no value is repeated at the top",
            means="nothing looks clipped",
            change="clipping to a norm alone only scales an update, and stops nothing",
        )
    return Diagnostic(
        name="clipping",
        assumption=_AS_MADE,
        holds="noted",
        found=f"{found}: it looks clipped",
        means="clipping to a norm only scales an update: its direction, which most attacks go by, is all there",
        change="noise in proportion to the bound is what makes clipping protect",
    )


def _capped(s: Sighted) -> str:
    biggest = max(s.tensors.values(), key=lambda t: t.size)
    top = float(np.abs(biggest).max()) if biggest.size else 0.0
    many = int((np.abs(biggest) >= top * (1 - 1e-7)).sum()) if top > 0 else 0
    if biggest.size >= FEWEST and many > max(2, 0.001 * biggest.size):
        return f"{many} entries share the greatest size, {top:.3g} (so does one step of Adam, or signs)"
    return ""


def loss(s: Sighted) -> Diagnostic | None:
    """Whether the last bias says softmax cross-entropy and plain SGD: its entries then sum to zero."""
    bias = s.classes_bias
    if bias is None or not np.abs(bias).sum() > 0:
        return None
    off = float(abs(bias.sum()) / np.abs(bias).sum())
    # Rounding of c entries, and of the weights that a change is the difference of.
    allowed = 0.02 if s.update.kind == "delta" or s.grain.coarse else 1e-4
    holds = off <= allowed
    if not holds and abs(bias.sum()) <= s.rounding_of_biases:
        return Diagnostic(
            name="loss",
            assumption="the loss is cross-entropy over a softmax, the optimiser plain SGD",
            holds="unknown",
            found=f"the last bias's entries sum to {off:.1g} of their size, as entries so small do by rounding alone",
            value=off,
            means="the model is so sure of these records that the sum tells nothing of the loss",
            change="an earlier round, or records the model is not sure of",
        )
    return Diagnostic(
        name="loss",
        assumption="the loss is cross-entropy over a softmax, the optimiser plain SGD",
        holds="holds" if holds else "fails",
        found=f"the last bias's entries sum to {off:.1g} of their size",
        value=off,
        means="as they must for this loss: the right one is matched, and labels can be read off the signs"
        if holds
        else "for this loss they sum to zero: another loss, weight decay, an adaptive optimiser or noise made this "
        "update, and an attack that matches cross-entropy matches the wrong function",
        change="the loss and the optimiser that the clients truly use",
    )
