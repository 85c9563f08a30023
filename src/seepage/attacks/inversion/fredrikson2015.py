"""MI-Face: gradient descent on pixels, as published in 2015."""

from collections.abc import Callable
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from seepage.attacks.inversion.optimisers import LBFGS, box, optimiser_named
from seepage.attacks.inversion.parts import total_variation
from seepage.attacks.inversion.perceptual import PerceptualPrior
from seepage.attacks.inversion.search import Frames
from seepage.core.attack import InversionAttack
from seepage.core.guess import Reconstruction
from seepage.core.knowledge import InversionKnowledge, Knowledge
from seepage.core.spec import InputSpec
from seepage.core.target import Target, WhiteBox
from seepage.core.vocabulary import Access, Modality

Array = np.ndarray


class MIFace(InversionAttack):
    """Gradient descent on the record itself, from a blank one, to raise the wanted class's probability.

    Algorithm 1 of the paper, for all classes in one batch: x <- process(x - rate * grad c(x)) with
    c(x) = 1 - p_class(x) + tv * TV(x), until `steps` are done, the cost has not fallen below the least
    of the last `patience` values, or the probability reaches `confidence`; the x of least cost is
    returned. The paper writes the last rule as "c <= gamma with gamma = .99", which taken literally
    stops at one percent of confidence; gamma is read as the wanted confidence here.

    `process="denoise-sharpen"` is the paper's post-processing for the autoencoder variant. With a
    victim that carries its autoencoder (`decode` and `encode` in its network), the search then runs
    in the space of codes, as published; with any other, pictures are denoised (non-local means) and
    sharpened after each step. The stopping rule follows the paper's prose; its Algorithm 1 compares the cost
    with the greatest of the last `patience` ones.

    Further fields leave the paper: `objective="cross-entropy"` keeps a gradient where the class is still
    improbable, `optimiser="adam"` adapts the step to each pixel and "lbfgs" to the curvature too, `perceptual`
    holds a picture's edges to those of public pictures, `start="public-mean"` begins at the mean public
    record.

    Steps are in unit scale: a value of 1 is the whole range of a pixel or feature.
    """

    name: ClassVar[str] = "mi-face"
    title: ClassVar[str] = "MI-Face, pixels by gradient descent"
    needs: ClassVar[frozenset[Access]] = frozenset({Access.WEIGHTS})
    cites: ClassVar[tuple[str, ...]] = (
        "Fredrikson, Jha, Ristenpart 2015, Model Inversion Attacks that Exploit Confidence Information "
        "and Basic Countermeasures, CCS, section 5",
        "Rudin, Osher, Fatemi 1992, Nonlinear total variation based noise removal algorithms (the tv option)",
        "Nocedal, Wright 2006, Numerical Optimization (the lbfgs option)",
        "Johnson, Alahi, Fei-Fei 2016, Perceptual Losses for Real-Time Style Transfer and Super-Resolution, ECCV, and "
        "Freeman, Adelson 1991, The Design and Use of Steerable Filters (the perceptual option)",
    )
    modalities: ClassVar[frozenset[Modality]] = frozenset({Modality.IMAGE, Modality.TABLE})

    steps: int = Field(default=5000, ge=1, description="alpha: most gradient steps")
    patience: int = Field(default=100, ge=1, description="beta: steps without improvement before stopping")
    confidence: float = Field(default=0.99, gt=0, le=1, description="gamma: stop when the class is this probable")
    rate: float = Field(default=0.1, gt=0, description="lambda: length of a step, per unit of gradient")
    tv: float = Field(default=0.0, ge=0, description="weight of the total variation, per pixel (images only)")
    perceptual: float = Field(
        default=0.0, ge=0, description="weight of the distance to public pictures in oriented edges (images only)"
    )
    process: Literal["none", "denoise-sharpen"] = Field(default="none", description="applied after each step")
    objective: Literal["probability", "cross-entropy"] = Field(default="probability", description="1 - p, or -log p")
    optimiser: Literal["gradient", "adam", "lbfgs"] = Field(default="gradient", description="how a step is taken")
    start: Literal["blank", "public-mean"] = Field(default="blank", description="where the search begins")

    @property
    def _evaluations(self) -> int:
        """The most evaluations of one step."""
        return 1 + LBFGS.tries if self.optimiser == "lbfgs" else 1

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        if self.start == "public-mean" and knowledge.public is None:
            return "it starts at the mean public record, and no public records were given"
        if self.perceptual > 0 and (knowledge.public is None or len(knowledge.public) < 2):
            return "it compares pictures with public ones, and no public records were given"
        return super().obstacle(knowledge, budget)

    def cost(self, knowledge: InversionKnowledge, budget: int | None) -> int:
        whole = self.steps * len(knowledge.classes)
        # Denoising passes through the victim's autoencoder, if it has one, and back: four layers more.
        whole *= (1 if self.process == "none" else 8) * self._evaluations
        return whole if budget is None else min(whole, budget)

    def run(self, target: Target, knowledge: InversionKnowledge, rng: np.random.Generator) -> Reconstruction:
        net = target.weights()
        classes = torch.from_numpy(knowledge.classes)
        spec = knowledge.spec
        low = torch.from_numpy(np.asarray(spec.bounds.low))
        width = torch.from_numpy(np.asarray(spec.bounds.high - spec.bounds.low))
        coder = _coder(net, spec) if self.process == "denoise-sharpen" else None
        image = spec.modality is Modality.IMAGE
        pixels = spec.size

        def picture(code: torch.Tensor) -> torch.Tensor:
            return code if coder is None else coder.decode(code)

        blank = torch.zeros(len(classes), *spec.shape)
        if self.start == "public-mean" and knowledge.public is not None:
            blank = blank + torch.from_numpy(spec.bounds.to_unit(knowledge.public.x).mean(axis=0))
        likeness = None
        if image and self.perceptual > 0 and knowledge.public is not None:
            likeness = PerceptualPrior(torch.from_numpy(spec.bounds.to_unit(knowledge.public.x)))
        code = blank if coder is None else coder.encode(blank).detach()
        met = _Met(picture(code).detach())

        def ask(now: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
            shown = picture(now)
            p = net(shown * width + low).softmax(dim=1).gather(1, classes[rows, None])[:, 0]
            cost = 1 - p if self.objective == "probability" else -torch.log(p.clamp_min(1e-30))
            if image and self.tv > 0:
                cost = cost + self.tv * total_variation(shown) / pixels
            if likeness is not None:
                cost = cost + self.perceptual * likeness(shown)
            met.note(rows, shown.detach(), cost.detach(), p.detach())
            return cost

        # Processing moves what a line search has just evaluated.
        optimiser = optimiser_named(self.optimiser, code, self.rate, box(0.0, 1.0), noisy=self.process != "none")
        live = torch.arange(len(classes))
        taken = torch.zeros(len(classes), dtype=torch.long)
        frames = Frames(self.steps, early=True)
        for step in range(self.steps):
            if target.remaining is not None and target.remaining < len(live) * self._evaluations:
                break
            if frames.due(step):
                frames.note(met.records(width, low))
            stepped = optimiser.step(code[live], live, ask)
            met.since[live] += 1
            taken[live] += 1
            if self.process == "denoise-sharpen" and coder is None and image:
                stepped = _denoise_sharpen(stepped)
            elif coder is not None:
                # The published step: out of the code, denoise and sharpen the picture, back into the code.
                stepped = coder.encode(_denoise_sharpen(coder.decode(stepped)) if image else coder.decode(stepped))
            code[live] = stepped.detach()
            live = live[(met.since[live] < self.patience) & (met.now[live] < self.confidence)]
            if not len(live):
                break
        frames.end(int(taken.max()))
        notes = (f"steps taken: {int(taken.min())} to {int(taken.max())}, mean {float(taken.float().mean()):.0f}",)
        found = met.records(width, low)
        shown, at = frames.arrays(found, np.argsort(knowledge.classes))
        return Reconstruction(found, knowledge.classes, met.probability.numpy(), notes=notes, frames=shown, frame_at=at)


class _Met:
    """The best record that the search of each class has met, in unit scale.

    Attributes:
        since: (c,) steps since the cost last fell.
        now: (c,) the class's probability where the search is.
        probability: (c,) that at the best record.
    """

    def __init__(self, shown: torch.Tensor):
        self._best, self._least = shown.clone(), torch.full((len(shown),), torch.inf)
        self.since = torch.zeros(len(shown), dtype=torch.long)
        self.now, self.probability = torch.zeros(len(shown)), torch.zeros(len(shown))

    def note(self, rows: torch.Tensor, shown: torch.Tensor, cost: torch.Tensor, p: torch.Tensor) -> None:
        """One evaluation of `rows`."""
        self.now[rows] = p
        better = cost < self._least[rows]
        kept = rows[better]
        self._best[kept], self._least[kept], self.probability[kept] = shown[better], cost[better], p[better]
        # The step that is under way counts one.
        self.since[kept] = -1

    def records(self, width: torch.Tensor, low: torch.Tensor) -> Array:
        """The best records, in the input's bounds."""
        return (self._best.clamp(0, 1) * width + low).numpy()


class _Coder:
    """An autoencoder found inside the victim's network, in unit scale."""

    def __init__(self, encode: Callable[[torch.Tensor], torch.Tensor], decode: Callable[[torch.Tensor], torch.Tensor]):
        self.encode = encode
        self.decode = decode


def _coder(net: WhiteBox, spec: InputSpec) -> "_Coder | None":
    """The victim's own autoencoder, when its network carries one that takes records as they are; None otherwise."""
    if (
        spec.mean
        or spec.std
        or spec.layout != "chw"
        or not (np.all(spec.bounds.low == 0) and np.all(spec.bounds.high == 1))
    ):
        return None
    for layer in net.layers.values():
        encode, decode = getattr(layer, "encode", None), getattr(layer, "decode", None)
        if callable(encode) and callable(decode):
            return _Coder(encode, decode)  # pyright: ignore[reportArgumentType]
    return None


def _nl_means(x: torch.Tensor, reach: int = 2, strength: float = 0.1) -> torch.Tensor:
    """Non-local means (Buades et al. 2005) with 3 x 3 patches: pictures (n, c, h, w) in [0, 1].

    Each pixel becomes the mean of those within `reach`, weighted by how alike their surroundings are.
    """
    side = x.shape[-2:]
    padded = torch.nn.functional.pad(x, (reach,) * 4, mode="replicate")
    total, weight = torch.zeros_like(x), torch.zeros_like(x[:, :1])
    for down in range(2 * reach + 1):
        for across in range(2 * reach + 1):
            other = padded[..., down : down + side[0], across : across + side[1]]
            apart = ((other - x) ** 2).mean(dim=1, keepdim=True)
            apart = torch.nn.functional.avg_pool2d(
                torch.nn.functional.pad(apart, (1, 1, 1, 1), mode="replicate"), 3, stride=1
            )
            alike = torch.exp(-apart / strength**2)
            total, weight = total + alike * other, weight + alike
    return total / weight


def _denoise_sharpen(x: torch.Tensor) -> torch.Tensor:
    """Non-local means, then unsharp masking by half: pictures (n, c, h, w) in [0, 1]."""
    calm = _nl_means(x)
    padded = torch.nn.functional.pad(calm, (1, 1, 1, 1), mode="replicate")
    blurred = torch.nn.functional.avg_pool2d(padded, 3, stride=1)
    return (calm + 0.5 * (calm - blurred)).clamp(0, 1)
