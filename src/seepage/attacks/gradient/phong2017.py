"""The input of a fully connected layer with a bias, by division."""

from typing import ClassVar

import numpy as np
from jaxtyping import Float

from seepage.attacks.gradient.entry import entry
from seepage.core.attack import GradientAttack
from seepage.core.defense import UpdateDefense
from seepage.core.guess import Reconstruction
from seepage.core.knowledge import GradientKnowledge, Knowledge
from seepage.core.outlook import Outlook
from seepage.core.target import Target
from seepage.core.victim import Update
from seepage.core.vocabulary import Modality

Array = np.ndarray


class LinearLayer(GradientAttack):
    """Divides the gradient of the first layer's weights by that of its biases.

    For z = W x + c the gradients of any loss are dW = sum_i d_i x_i^T and dc = sum_i d_i, so that every row of
    dW over its entry of dc is a mean of the records weighted by d_i: the record itself where the batch is one
    record, or where one record alone moves that neuron. The row with the greatest bias gradient loses the
    fewest digits; with several records each live row is a candidate, and those that the most rows agree on
    are returned, as many as the batch holds (one, where that is not known).

    Against noise or rounding that it knows of (`UpdateDefense.noise`), rows that agree within it are averaged by least
    squares instead of picking one of them. Of clipping nothing is left in a ratio.
    """

    name: ClassVar[str] = "linear-layer"
    title: ClassVar[str] = "Linear layer, by division"
    cites: ClassVar[tuple[str, ...]] = (
        "Phong, Aono, Hayashi, Wang, Moriai 2017, Privacy-Preserving Deep Learning: Revisited and Enhanced, ATIS",
        "Geiping, Bauermeister, Droege, Moeller 2020, Inverting Gradients, NeurIPS (proposition 3.1)",
    )
    modalities: ClassVar[frozenset[Modality]] = frozenset({Modality.IMAGE, Modality.TABLE})
    uses: ClassVar[frozenset[str]] = frozenset({"batch", "normalisation"})
    version: ClassVar[int] = 2

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        if isinstance(knowledge, GradientKnowledge) and (why := first_layer_obstacle(knowledge)):
            return why
        return super().obstacle(knowledge, budget)

    def outlook(self, knowledge: GradientKnowledge, update: Update) -> Outlook | None:
        why = first_layer_obstacle(knowledge)
        if why is not None:
            return Outlook(prospect="impossible", why=why, change="a fully connected first layer with a bias")
        # Steps of SGD sum, and so do the rows: dW and dc are sums over all records of all steps.
        steps = "; several local steps change nothing in that" if update.kind == "delta" else ""
        batch = knowledge.assumptions.batch.value
        if batch == 1:
            return Outlook(
                prospect="expected",
                why=f"one record a client: every row of the layer is that record{steps}",
                change="more records an update; momentum or weight decay in the client's optimiser",
            )
        return Outlook(
            prospect="possible",
            why=f"{batch or 'an unknown number of'} records a client share the rows of the first layer: only neurons "
            f"that one record alone moves give it back{steps}",
            change="one record an update (works on every row), or larger batches (fewer neurons of one record's own)",
        )

    def run(self, target: Target, knowledge: GradientKnowledge, rng: np.random.Generator) -> Reconstruction:
        first = entry(knowledge.net)
        if first is None or first.bias is None:
            raise ValueError("a first layer with a bias is needed; `obstacle` says so")
        batch = knowledge.assumptions.batch.value or 1
        known = [d for d in knowledge.defenses if isinstance(d, UpdateDefense)]
        rows: list[Array] = []
        owner: list[int] = []
        for client in range(knowledge.clients):
            sent = target.update(client)
            weight = sent.tensor(first.weight, (first.width, knowledge.spec.size))
            bias = sent.tensor(first.bias, (first.width,))
            noise = tuple(float(np.sqrt(sum(d.noise(t) ** 2 for d in known))) for t in (weight, bias))
            found = averaged(weight, bias, int(batch), *noise) if any(noise) else divided(weight, bias, int(batch))
            rows.extend(found)
            owner.extend([client] * len(found))
        size = knowledge.spec.size
        inputs = np.stack(rows) if rows else np.zeros((0, size))
        x = knowledge.spec.bounds.clip(first.records(inputs, knowledge.spec.shape))
        return Reconstruction(x, client=np.array(owner, dtype=np.int64), facts=self.assumed(knowledge))


def first_layer_obstacle(knowledge: GradientKnowledge) -> str | None:
    """Why the records cannot be read off the first layer's gradient, or None when they might be."""
    if knowledge.net is None:
        return "it needs the model that the update is of"
    first = entry(knowledge.net)
    if first is None or first.kind != "linear":
        kind = "none" if first is None else f"'{first.name}', a {first.kind}"
        return f"it needs a fully connected first layer; the first layer with weights is {kind}"
    if not first.direct:
        return f"the first fully connected layer, '{first.name}', does not see the record value by value"
    if first.bias is None:
        return f"the first layer, '{first.name}', has no bias to divide by"
    return None


def divided(
    weight: Float[Array, " m d"], bias: Float[Array, " m"], batch: int, tolerance: float = 1e-3
) -> list[Float[Array, " d"]]:
    """Inputs of a layer from its gradients: up to `batch` different ones, those most rows agree on first.

    Args:
        weight: the gradient of the weights.
        bias: the gradient of the biases.
        batch: the greatest number of inputs returned.
        tolerance: two rows agree when they differ by less than this share of their length.
    """
    w, b = weight.astype(np.float64), bias.astype(np.float64)
    live = np.abs(b) > 1e-6 * max(float(np.abs(b).max()), 1e-300)
    order = np.argsort(-np.abs(b), kind="stable")
    order = order[live[order]]
    found: list[Array] = []
    votes: list[int] = []
    for row in order:
        x = w[row] / b[row]
        if not np.isfinite(x).all():
            continue
        for k, other in enumerate(found):
            if np.linalg.norm(x - other) < tolerance * max(np.linalg.norm(other), 1e-12):
                votes[k] += 1
                break
        else:
            found.append(x)
            votes.append(1)
    best = np.argsort(-np.array(votes), kind="stable")[:batch]
    return [found[k] for k in best]


def averaged(
    weight: Float[Array, " m d"],
    bias: Float[Array, " m"],
    batch: int,
    noise: float,
    bias_noise: float,
    tolerance: float = 1e-3,
) -> list[Float[Array, " d"]]:
    """Inputs of a layer from gradients under noise: up to `batch` different ones, the best supported first.

    Rows whose ratios agree within what noise explains are taken for rows of one input x. With W = b x + e, both sides
    noisy, x = sum_i b_i W_i / (sum_i b_i^2 - k s^2) over the k rows: least squares, corrected for the noise in b
    (Fuller 1987, Measurement Error Models, section 1.2).

    Args:
        weight: the gradient of the weights, with noise.
        bias: the gradient of the biases, with noise.
        batch: the greatest number of inputs returned.
        noise: standard deviation of the noise on every value of the weights' gradient.
        bias_noise: s, that of the biases'.
        tolerance: two rows agree when they differ by less than this share of their length, noise apart.
    """
    w, b = weight.astype(np.float64), bias.astype(np.float64)
    # With one record every row tells of it, those below the noise too.
    if batch == 1:
        return [_least_squares(w, b, bias_noise)]
    groups: list[list[int]] = []
    inputs: list[Array] = []
    for row in np.argsort(-np.abs(b), kind="stable"):
        if b[row] == 0:
            break
        x = w[row] / b[row]
        # The distance of two ratios of one input: noise in W over b, and noise in b that scales x.
        spread = np.sqrt(len(x) * noise**2 + (x @ x) * bias_noise**2) / abs(b[row])
        # A ratio that is half noise agrees with anything: a candidate where there are too few others, no evidence.
        blurred = 2 * spread > np.linalg.norm(x) / 2
        if blurred and len(groups) >= batch:
            continue
        reach = 0.0 if blurred else 2 * spread
        near = [k for k, o in enumerate(inputs) if np.linalg.norm(x - o) < reach + tolerance * np.linalg.norm(o)]
        if near:
            k = near[0]
            groups[k].append(int(row))
            inputs[k] = _least_squares(w[groups[k]], b[groups[k]], bias_noise)
        else:
            groups.append([int(row)])
            inputs.append(_least_squares(w[[row]], b[[row]], bias_noise))
    # Among groups of as many rows the greater first, as they were found.
    best = sorted(range(len(groups)), key=lambda k: -len(groups[k]))[:batch]
    return [inputs[k] for k in best]


def _least_squares(w: Float[Array, " k d"], b: Float[Array, " k"], noise: float) -> Float[Array, " d"]:
    power = float(b @ b)
    # Where noise is all there is, the correction would divide by nothing.
    return b @ w / max(power - len(b) * noise**2, power / 4, 1e-300)
