"""A client of federated learning: the model as the server sent it, and the update that local training makes of it."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from seepage.core.errors import ConfigError, DataError, ModelError
from seepage.core.recipe import Recipe
from seepage.core.records import Records
from seepage.core.seeds import stream
from seepage.core.spec import InputSpec
from seepage.core.victim import Update, Updates
from seepage.models.bottleneck import Bottleneck, VariationalBottleneck, penalty_of, with_bottleneck
from seepage.models.last_layer import last_layer
from seepage.models.private import PerRecord, private_gradient, refuse_batch_norm
from seepage.models.soteria import PrunedFeatures, kept_features
from seepage.models.training import seeded

Array = np.ndarray
Mode = Literal["train", "eval"]
Named = Mapping[str, Tensor]
Slope = Callable[[Tensor, Tensor, Named], Mapping[str, Tensor]]


@dataclass(frozen=True)
class LocalTraining:
    """What a client does with its records in one round.

    Attributes:
        kind: "gradient": one gradient of the mean loss over all its records; "delta": the change of the weights
            after `epochs` passes of plain SGD.
        batch: records a local step, for "delta"; 0 takes all of them.
        epochs: passes over the records, for "delta".
        rate: learning rate of the local steps, for "delta".
        mode: "train" or "eval": batch normalisation by the batch's own statistics, or by the running ones.
        private: clips every record's gradient and adds noise (DP-SGD); None does not.
        pruned: leaves entries of the last layer's gradient out (Soteria); None does not.
    """

    kind: Literal["gradient", "delta"] = "gradient"
    batch: int = 0
    epochs: int = 1
    rate: float = 0.01
    mode: Mode = "train"
    private: PerRecord | None = None
    pruned: PrunedFeatures | None = None

    def batches(self, n: int, order: Int[Array, " n"]) -> list[Int[Array, " _"]]:
        """The rows of each step of one epoch over `n` records taken in `order`."""
        size = self.batch or n
        return [order[first : first + size] for first in range(0, n, size)]

    def steps(self, n: int) -> int:
        """How many local steps `n` records make."""
        return 1 if self.kind == "gradient" else self.epochs * -(-n // (self.batch or n))


class ClientNet:
    """A network at the weights that the server sent, as a function of its weights.

    Records come in their own range (`spec.bounds`) and are normalised as `spec` says before they enter.
    Parameter names are those of the module, which are those of an update.

    Args:
        module: the network, from prepared records (n, *shape) to logits (n, classes); copied.
        spec: what one record is.
        classes: how many classes.

    Raises:
        ModelError: when the module has no weights or does not answer (n, classes).
    """

    def __init__(self, module: nn.Module, spec: InputSpec, classes: int):
        if not any(weight.is_floating_point() for weight in module.parameters()):
            raise ModelError("the client's network has no weights: there is nothing that an update could be of")
        self.spec, self.classes = spec, classes
        self._modules = {"eval": copy.deepcopy(module).eval(), "train": _by_batch(copy.deepcopy(module).train())}
        sides = (-1,) + (1,) * (len(spec.shape) - 1)
        self._mean = torch.tensor(spec.mean or (0.0,)).reshape(sides)
        self._std = torch.tensor(spec.std or (1.0,)).reshape(sides)
        # Two records: batch normalisation cannot compute on one.
        with torch.no_grad():
            out = self.logits(torch.zeros(2, *spec.shape), mode="eval")
        if tuple(out.shape) != (2, classes):
            raise ModelError(
                f"the client's network answered {tuple(out.shape)} for 2 records; (2, {classes}) was wanted"
            )

    @property
    def module(self) -> nn.Module:
        """A copy of the network, in evaluation mode."""
        return copy.deepcopy(self._modules["eval"])

    def body(self, mode: Mode = "eval", dtype: torch.dtype = torch.float32) -> nn.Module:
        """A copy of the network as it computes in `mode`, from prepared records, with dropout left out.

        For who simulates a client: the masks that dropout drew are the client's alone, and so is the noise in a
        bottleneck's code.
        """
        module = copy.deepcopy(self._modules[mode]).to(dtype)
        for layer in module.modules():
            if isinstance(layer, nn.modules.dropout._DropoutNd | VariationalBottleneck):  # pyright: ignore[reportPrivateUsage]
                layer.eval()
        return module

    def batch_statistics(self, x: Float[Array, " n ..."], mode: Mode = "train") -> dict[str, Array]:
        """Mean and (biased) variance of the input of every layer of batch normalisation, over these records.

        Named "<layer>.mean" and "<layer>.var", one value a channel; empty without such layers.
        """
        body, found = self.body(mode), dict[str, Array]()

        def keep(name: str, seen: Tensor) -> None:
            over = [axis for axis in range(seen.dim()) if axis != 1]
            found[f"{name}.mean"] = seen.mean(dim=over).numpy()
            found[f"{name}.var"] = seen.var(dim=over, unbiased=False).numpy()

        for name, layer in body.named_modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):  # pyright: ignore[reportPrivateUsage]
                layer.register_forward_pre_hook(partial(_first_given, partial(keep, name)))
        with torch.no_grad():
            body(self.prepare(torch.from_numpy(x).float()))
        return found

    def weights(self, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        """The weights by name, detached copies."""
        return {name: w.detach().clone().to(dtype) for name, w in self._modules["eval"].named_parameters()}

    def buffers(self, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        """Running statistics and other buffers by name, copies; floating ones in `dtype`."""
        return {
            name: b.detach().clone().to(dtype) if b.is_floating_point() else b.detach().clone()
            for name, b in self._modules["eval"].named_buffers()
        }

    @property
    def has_batch_norm(self) -> bool:
        """Whether a layer computes with statistics of the batch in "train" mode."""
        return any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in self._modules["eval"].modules())  # pyright: ignore[reportPrivateUsage]

    @property
    def drops(self) -> bool:
        """Whether any layer drops values at random in "train" mode."""
        layers = self._modules["eval"].modules()
        return any(isinstance(layer, nn.modules.dropout._DropoutNd) and layer.p > 0 for layer in layers)  # pyright: ignore[reportPrivateUsage]

    @property
    def parameters(self) -> int:
        """How many weights there are."""
        return sum(weight.numel() for weight in self._modules["eval"].parameters())

    def prepare(self, x: Tensor) -> Tensor:
        """Records as the network takes them: normalised."""
        return (x - self._mean.to(x)) / self._std.to(x)

    def logits(self, x: Tensor, weights: Named | None = None, mode: Mode = "eval") -> Tensor:
        """Logits (n, classes) of records (n, *shape) at `weights` (those sent, when not given); differentiable."""
        own = self._modules[mode]
        held = {} if weights is None else dict(weights)
        if weights is None:
            held = {name: w.detach().to(x.dtype) for name, w in own.named_parameters()}
        # In "train" mode batch normalisation keeps no statistics; in "eval" mode nothing writes to them.
        kept = {name: b.to(x.dtype) if b.is_floating_point() else b for name, b in own.named_buffers()}
        out = functional_call(own, {**held, **kept}, (self.prepare(x),))
        if not isinstance(out, Tensor):
            raise ModelError(f"the client's network answered a {type(out).__name__}; a tensor of logits was wanted")
        return out

    def inside(self, layer: str, x: Tensor, weights: Named | None = None, mode: Mode = "eval") -> tuple[Tensor, Tensor]:
        """What the layer called `layer` is given (n, ...) when records pass, and the logits (n, classes)."""
        seen: list[Tensor] = []
        met = self._modules[mode].get_submodule(layer)
        handle = met.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        try:
            logits = self.logits(x, weights, mode)
        finally:
            handle.remove()
        if not seen:
            raise ModelError(f"the layer '{layer}' takes no part in a forward pass")
        return seen[-1], logits

    def loss(self, x: Tensor, y: Tensor, weights: Named | None = None, mode: Mode = "eval") -> Tensor:
        """Mean cross-entropy, and what bottlenecks add; `y`: classes (n,), or distributions over them (n, classes)."""
        return functional.cross_entropy(self.logits(x, weights, mode), y) + penalty_of(self._modules[mode])

    def gradient(self, x: Tensor, y: Tensor, weights: Named | None = None, mode: Mode = "eval") -> dict[str, Tensor]:
        """The gradient of the mean loss by parameter, in the precision of `x`; zero where the loss knows no way."""
        held = self.weights(x.dtype) if weights is None else dict(weights)
        held = {name: w if w.requires_grad else w.requires_grad_(True) for name, w in held.items()}
        found = torch.autograd.grad(self.loss(x, y, held, mode), list(held.values()), materialize_grads=True)
        return dict(zip(held, found, strict=True))

    def trained(
        self,
        x: Tensor,
        y: Tensor,
        rows: list[Int[Array, " _"]],
        rate: float,
        mode: Mode,
        along: Slope | None = None,
    ) -> dict[str, Tensor]:
        """The weights after one step of SGD for each of `rows`, starting from those sent.

        Each step goes along the gradient of the mean loss, or along what `along` makes of (x, y, weights).
        """
        held: dict[str, Tensor] = self.weights(x.dtype)
        for some in rows:
            picked = torch.from_numpy(some)
            slope = (
                self.gradient(x[picked], y[picked], held, mode) if along is None else along(x[picked], y[picked], held)
            )
            held = {name: (w - rate * slope[name]).detach() for name, w in held.items()}
        return held

    def round(
        self,
        x: Float[Array, " n ..."],
        y: Int[Array, " n"],
        local: LocalTraining,
        rng: np.random.Generator,
        dtype: torch.dtype = torch.float32,
    ) -> Update:
        """The update that a client with these records sends.

        Args:
            x: its records.
            y: their classes.
            local: what it does.
            rng: draws the order of the records, anew for each epoch.
            dtype: precision of the computation; the tensors are sent in it.

        Raises:
            ConfigError: when one record a step meets batch normalisation in "train" mode.
            ModelError: when records are to be clipped one by one and meet batch normalisation.
        """
        sizes = [len(rows) for rows in local.batches(len(x), np.arange(len(x)))]
        if self.has_batch_norm and local.mode == "train" and min(sizes if local.kind == "delta" else [len(x)]) < 2:
            raise ConfigError(
                f"batch normalisation cannot train on one record a step, and {len(x)} records in local batches of "
                f"{local.batch or len(x)} leave one alone: give another batch size, or mode = 'eval'"
            )
        records, labels = torch.from_numpy(x).to(dtype), torch.from_numpy(y).long()
        # Dropout draws from torch's own generator.
        with seeded(int(rng.integers(2**62))):
            along = self.slope(local, len(x), rng)
            if local.kind == "gradient":
                sent = along(records, labels, self.weights(dtype))
            else:
                rows = [r for _ in range(local.epochs) for r in local.batches(len(x), rng.permutation(len(x)))]
                before = self.weights(dtype)
                after = self.trained(records, labels, rows, local.rate, local.mode, along=along)
                sent = {name: after[name] - before[name] for name in before}
        return Update({name: g.detach().numpy() for name, g in sent.items()}, local.kind)

    def slope(self, local: LocalTraining, n: int, rng: np.random.Generator) -> Slope:
        """What a client with `n` records goes along: the gradient, or what its defenses make of it.

        Raises:
            ModelError: when records are to be clipped one by one and meet batch normalisation, or features are to be
                left out and no fully connected layer makes the logits.
        """
        along = self._gradient_or_private(local, n, rng)
        pruned = local.pruned
        if pruned is None:
            return along
        last = last_layer(self)
        if last is None:
            raise ModelError(
                "features are left out before the fully connected layer that makes the logits; this network has none"
            )

        def poorer(x: Tensor, y: Tensor, weights: Named) -> Mapping[str, Tensor]:
            kept = kept_features(lambda held: self.inside(last.name, held, weights, local.mode)[0], x, pruned)
            found = along(x, y, weights)
            return {**found, last.weight: found[last.weight] * kept}

        return poorer

    def _gradient_or_private(self, local: LocalTraining, n: int, rng: np.random.Generator) -> Slope:
        """The gradient, or with records clipped one by one a noised one."""
        private = local.private
        if private is None:
            return lambda x, y, weights: self.gradient(x, y, weights, local.mode)
        refuse_batch_norm(self._modules["eval"])
        # From a stream of its own: the order of the records is then that of an undefended client.
        draws = torch.Generator().manual_seed(int(rng.spawn(1)[0].integers(2**62)))
        expected = n if local.kind == "gradient" else min(local.batch or n, n)

        def loss(x: Tensor, y: Tensor, weights: Named) -> Tensor:
            return self.loss(x, y, weights, local.mode)

        return lambda x, y, weights: private_gradient(loss, x, y, weights, private, expected, draws)


def round_recipe(net: ClientNet, local: LocalTraining, records: Records, each: int, name: str = "clients") -> Recipe:
    """How clients make their updates: what a defense that acts inside the client changes.

    Args:
        net: the model that they are sent.
        local: what each does; the option `local` of the recipe.
        records: theirs, one client's after another's.
        each: how many records a client has.
        name: of the streams that the clients draw from.
    """

    def train(
        records: Records,
        seed: int,
        local: LocalTraining = local,
        private: PerRecord | None = None,
        pruned: PrunedFeatures | None = None,
        bottleneck: Bottleneck | None = None,
    ) -> Updates:
        if len(records) % each:
            raise DataError(f"{each} records a client were wanted, {len(records)} cannot be shared out so")
        sent = net if bottleneck is None else with_bottleneck(net, bottleneck)
        local = replace(local, private=private or local.private, pruned=pruned or local.pruned)
        y = records.labels()
        own = np.arange(len(records)).reshape(-1, each)

        def asked(sent_out: ClientNet, turn: int) -> Updates:
            # A further round draws anew: noise that came twice could be taken off.
            which = ("federation", name, *((f"round {turn}",) if turn else ()))
            streams = [stream(seed, *which, str(client)) for client in range(len(own))]
            rounds = zip(own, streams, strict=True)
            return Updates(tuple(sent_out.round(records.x[rows], y[rows], local, rng) for rows, rng in rounds))

        return replace(asked(sent, 0), asked=asked)

    return Recipe(train, records, "federated round", options={"local": local})


def _first_given(keep: Callable[[Tensor], None], _: nn.Module, given: tuple[Tensor, ...]) -> None:
    """A hook that hands on the first thing a layer is given."""
    keep(given[0])


def _by_batch(module: nn.Module) -> nn.Module:
    """The module with batch normalisation by the batch's own statistics, keeping no running ones.

    The gradient is the same; nothing is written to in a forward pass, so that it can be differentiated and mapped.
    """
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):  # pyright: ignore[reportPrivateUsage]
            layer.track_running_stats = False
            for name in ("running_mean", "running_var", "num_batches_tracked"):
                setattr(layer, name, None)
    return module
