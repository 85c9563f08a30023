"""Scores of texts recovered from updates, against values worked out by hand; and a federation on texts played whole."""

import numpy as np
import pytest

from seepage.attacks.gradient.embedding_rows import EmbeddingRows
from seepage.core.errors import ConfigError, DataError
from seepage.core.guess import Reconstruction, Texts
from seepage.core.knowledge import TextGradientKnowledge
from seepage.core.records import Records
from seepage.core.scorer import Controls, Scored
from seepage.core.secrets import GradientSecret
from seepage.core.seeds import stream
from seepage.core.target import Target
from seepage.core.tokens import tokens
from seepage.defenses.updates.secure_aggregation import SecureAggregation
from seepage.scoring.gradient import score
from seepage.testing.text_clients import text_gradient_case

SECRET = GradientSecret(
    batch=Records.of_texts(["the cat sat", "a dog ran off"]), client=np.zeros(2, dtype=np.int64), others=None
)


def scored(*texts: str, controls: Controls | None = None) -> Scored:
    return score(Texts((texts,)), SECRET, controls or Controls())


def values(found: Scored) -> dict[str, float | None]:
    return {name: one.value for name, one in found.scores.items()}


def test_tokens_are_words_and_marks() -> None:
    assert tokens("Don't, 17 times!") == ["don", "'", "t", ",", "17", "times", "!"]


def test_texts_in_any_order_are_recovered_whole() -> None:
    found = scored("A dog  ran off", "the cat sat")
    assert set(values(found).values()) == {1.0}
    assert found.gallery["guess"].tolist() == ["the cat sat", "A dog  ran off"]


def test_recall_is_by_hand() -> None:
    """The first text gets "cat the" (2 of 3), the second "dog" (1 of 4)."""
    found = values(scored("dog", "cat the"))
    assert found["token_recall"] == pytest.approx((2 / 3 + 1 / 4) / 2)
    assert found["batch_recall"] == pytest.approx(3 / 7)
    # ROUGE-1: precision 1, recall 2/3 -> 4/5; precision 1, recall 1/4 -> 2/5.
    assert found["rouge_1"] == pytest.approx((4 / 5 + 2 / 5) / 2)
    assert found["rouge_2"] == 0
    # The longest common subsequence of "cat the" and "the cat sat" is one word: 2 * (1/2) (1/3) / (5/6) = 2/5.
    assert found["rouge_l"] == pytest.approx((2 / 5 + 2 / 5) / 2)
    assert found["exact"] == 0


def test_one_guess_counts_for_one_text() -> None:
    found = scored("the cat sat")
    assert values(found)["token_recall"] == pytest.approx(1 / 2)
    assert found.facts["not_reconstructed"] == 1


def test_a_list_of_all_words_is_not_read_to_its_end() -> None:
    words = " ".join([*(f"w{i}" for i in range(20)), "the cat sat a dog ran off"])
    assert values(scored(words, words))["token_recall"] == 0


def test_nothing_beyond_a_control_leaks_nothing() -> None:
    same = Texts((("the cat sat", "a dog ran off"),))
    found = scored("the cat sat", "a dog ran off", controls=Controls(no_model={"same": same}))
    leakage = found.scores["token_recall"].leakage
    assert leakage is not None
    assert leakage.low <= 0


def test_what_cannot_be_scored_is_said() -> None:
    with pytest.raises(DataError, match="each of 1 clients"):
        score(Texts(((), ())), SECRET, Controls())
    with pytest.raises(DataError, match="Texts were wanted"):
        score(Texts(((),)), SECRET, Controls(no_model={"x": Reconstruction(np.zeros((2, 0), dtype=np.float32))}))


# A federation on texts, played whole

SMALL = [f"{who} {does} {what}" for who in ("she", "he", "it") for does in ("sees", "has", "wants") for what in
         ("a cat", "the old dog", "two birds", "her house")]  # fmt: skip


def test_a_federation_on_texts_is_played_whole() -> None:
    pytest.importorskip("transformers")
    from seepage.audit.plan import Arm, everything, make_plan
    from seepage.audit.play import Stage
    from seepage.cases.text_federation import TextFederation
    from seepage.core.vocabulary import Access
    from seepage.models.federated import LocalTraining
    from seepage.models.text_nets import text_net

    order = np.random.default_rng(0).permutation(len(SMALL))
    texts = [SMALL[i] for i in order]

    def records(some: list[str]) -> Records:
        return Records.of_texts(some, y=np.arange(len(some)) % 2, class_names=("a", "b"))

    scene = TextFederation(
        open_net=lambda: text_net("tiny-gpt", texts, 2, 0, width=64, layers=2, heads=2, length=16),
        members=records(texts[:16]),
        nonmembers=records(texts[16:26]),
        public=records(texts[26:]),
        local=LocalTraining(mode="eval"),
        clients=8,
        records=2,
        seed=1,
    )
    assert scene.twin_missing is not None
    with pytest.raises(ConfigError, match="need 60 members"):
        TextFederation(open_net=scene.open_net, members=scene.members, local=scene.local, clients=30, records=2)
    scene = TextFederation(
        open_net=scene.open_net,
        members=scene.members,
        nonmembers=records(texts[10:26]),
        public=scene.public,
        local=scene.local,
        clients=8,
        records=2,
        seed=1,
    )
    plan = make_plan(
        scene, everything(), [Arm()], access=Access.UPDATES, offers=scene.offers, budget=None, identity={}, seed=1
    )
    assert {cell.attack.name for cell in plan.cells} >= {"dager", "embedding-rows"}
    assert all("text" not in left.reason or left.attack not in ("dager", "embedding-rows") for left in plan.left_out)
    stage = Stage(scene, 1)
    finding = next(stage.play(cell).finding for cell in plan.cells if cell.attack.name == "dager")
    assert finding.status == "done", finding.error
    head = finding.scores["token_recall"]
    assert head.value == 1.0
    assert finding.scores["exact"].value == 1.0
    assert head.leakage is not None
    assert head.leakage.low > 0
    assert set(head.no_model_parts) == {"frequent_words", "public_text"}
    assert head.controls["null_model"] is not None
    assert finding.facts["share_of_words_read"] == 1.0


def test_of_a_sum_over_clients_texts_are_guessed_for_the_whole_group() -> None:
    """Two of three clients in a group, the third in none: their texts together are the secret."""
    case = text_gradient_case(0)
    pooled = case.pooled(((2, 0),))
    assert isinstance(case.secret, GradientSecret)
    assert isinstance(pooled.secret, GradientSecret)
    assert isinstance(pooled.knowledge, TextGradientKnowledge)
    own = case.secret.batch.texts
    assert pooled.secret.batch.texts == (*own[4:6], *own[0:2])
    assert pooled.knowledge.clients == 1
    assert pooled.knowledge.assumptions.batch.value == 4
    drawn, alone = pooled.baselines["public_text"], case.baselines["public_text"]
    assert isinstance(drawn, Texts)
    assert isinstance(alone, Texts)
    assert drawn.values == ((*alone.values[2], *alone.values[0]),)


def test_the_tokens_of_a_sum_are_those_of_all_its_clients() -> None:
    case, attack = text_gradient_case(0), EmbeddingRows()
    behind = case.defended(SecureAggregation())
    found = attack.run(Target(behind.victim, attack.needs), behind.knowledge, stream(0, "defended")).values
    assert isinstance(case.secret, GradientSecret)
    assert len(found) == 1
    assert set(found[0][0].split()) == set(" ".join(case.secret.batch.texts).split())
