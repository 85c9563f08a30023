"""TAG: embeddings whose gradient lies near the one sent, by l2 and l1 together."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from seepage.attacks.gradient.embedding_search import Descent
from seepage.attacks.gradient.text_distances import layerwise_l2_l1
from seepage.attacks.gradient.text_outlooks import search_obstacle, search_outlook
from seepage.attacks.gradient.text_search import searched
from seepage.attacks.inversion.parts import torch_rng
from seepage.core.attack import TextGradientAttack
from seepage.core.guess import Texts
from seepage.core.knowledge import Knowledge, TextGradientKnowledge
from seepage.core.outlook import Outlook
from seepage.core.target import Target
from seepage.core.victim import Update


class Tag(TextGradientAttack):
    """Searches for embeddings, and classes that were not told, whose gradient is the one that was sent.

    The distance is l2 + alpha l1, tensor by tensor, the earlier ones weighing more. AdamW from chance embeddings; each
    is written as the token nearest to it by the cosine. Restarts are chosen by the distance of their tokens' own
    gradient.

    The paper itself could not be read, and its authors' code was not found. That the distance is of l1 and l2 with a
    weight, and that labels are found with the texts, its abstract and summaries say; its form is that of the code of
    Balunovic et al. 2022, which runs TAG beside LAMP (github.com/eth-sri/lamp at 852d12f, `utilities.py`, `tag.sh`:
    l2 squared, even weights, alpha 0.01, Adam at 0.1 from normal starts, 2500 steps). That earlier tensors weigh
    more, falling evenly, is what breaching 0.1.2 guesses (`tag.yaml`), alpha 0.1 and AdamW likewise.
    """

    name: ClassVar[str] = "tag"
    title: ClassVar[str] = "Embeddings by l2 and l1 between gradients (TAG)"
    cites: ClassVar[tuple[str, ...]] = (
        "Deng, Wang, Li, Wang, Shang, Liu, Rajasekaran, Ding 2021, TAG: Gradient Attack on Transformer-based Language "
        "Models, Findings of EMNLP",
    )
    uses: ClassVar[frozenset[str]] = frozenset({"batch", "labels", "counts", "mode", "rate", "steps"})
    version: ClassVar[int] = 2
    thorough: ClassVar[bool] = True
    version: ClassVar[int] = 2

    steps: int = Field(default=500, ge=1, description="steps of AdamW; 1000 and more as published")
    restarts: int = Field(default=2, ge=1, description="chance starts a client; the one matched best is kept")
    rate: float = Field(default=0.01, gt=0, description="of AdamW, falling evenly to nothing")
    start: Literal["vocabulary", "normal"] = Field(
        default="vocabulary", description="chance embeddings as long as the vocabulary's, or standard 'normal' ones"
    )
    alpha: float = Field(default=0.1, ge=0, description="weight of the l1 distance")
    weights: Literal["linear", "even"] = Field(
        default="linear", description="of the tensors: 'linear' counts earlier ones more"
    )
    decay: float = Field(default=0.01, ge=0, description="weight decay of AdamW")
    rows: bool = Field(default=False, description="search only among tokens whose row of the embedding moved")
    length: int | None = Field(default=None, ge=1, description="tokens of a text; none: read off the update or guessed")

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        return search_obstacle(knowledge) or super().obstacle(knowledge, budget)

    def outlook(self, knowledge: TextGradientKnowledge, update: Update) -> Outlook | None:
        return search_outlook(knowledge, update, self.steps, self.restarts)

    def run(self, target: Target, knowledge: TextGradientKnowledge, rng: np.random.Generator) -> Texts:
        plan = Descent(
            steps=self.steps,
            rate=self.rate,
            factor=lambda step: 1 - step / self.steps,
            decay=self.decay,
            clip=1.0,
            norm=self.start == "vocabulary",
        )
        return searched(
            target,
            knowledge,
            lambda got: layerwise_l2_l1(self.alpha, self.weights == "linear", got.scaled),
            plan,
            self.restarts,
            torch_rng(rng),
            told=lambda guessed: self.assumed(knowledge, **guessed),
            rows=self.rows,
            length=self.length,
        )
