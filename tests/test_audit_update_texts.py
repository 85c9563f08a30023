"""Captured updates of texts: read from files and objects, refused with one message, scored with the texts or not."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import seepage
from seepage.attacks.gradient.petrov2024 import Dager
from seepage.audit.api import audit_file, setting_of_file
from seepage.audit.rounds import audit_rounds
from seepage.cases.replay import TextReplay
from seepage.core.assumptions import Assumptions, Rung
from seepage.core.errors import ConfigError, DataError, ModelError, SeepageError
from seepage.core.record import AuditRecord, Preflight
from seepage.models.federated import LocalTraining
from seepage.models.text_clients import TextNet
from seepage.report import write_reports
from seepage.targets.recordings import Exchange, Writer

pytest.importorskip("transformers")

from seepage.models.text_nets import text_net

State = dict[str, Tensor]
TEXTS = (
    "the rash on my arm came back after two weeks",
    "please cancel my card because it was stolen",
    "my knee has been swollen since the fall",
    "the bank charged me twice for one ticket",
)
LABELS = np.array([0, 1, 0, 1])
OTHERS = ("a tooth hurts when i drink cold water", "they raised my rent by ten percent")
PUBLIC = ("the weather was fine all week", "my bus came late because of snow")
WORDS = sorted({*TEXTS, *OTHERS, *PUBLIC})
GRADIENT = LocalTraining("gradient", mode="eval")


def gpt(seed: int = 3, **options: int) -> TextNet:
    """A decoder trained for the next token, its output layer tied to its token embedding."""
    return text_net("tiny-gpt", WORDS, 0, seed, "causal-lm", **{"width": 64, "layers": 2, "length": 16, **options})


def bert(seed: int = 3, dropout: float = 0.0) -> TextNet:
    """An encoder that tells two classes apart."""
    return text_net("tiny-bert", WORDS, 2, seed, width=64, layers=2, length=24, dropout=dropout)


def sent(net: TextNet, texts: tuple[str, ...] = TEXTS[:2], local: LocalTraining = GRADIENT) -> State:
    y = LABELS[: len(texts)] if net.classes else None
    update = net.round(texts, y, local, np.random.default_rng(1))
    return {name: torch.from_numpy(np.array(tensor)) for name, tensor in update.tensors.items()}


def after(net: TextNet, change: State) -> State:
    """A state dict with both names of a tied weight, as `state_dict()` gives it."""
    module = net.module
    with torch.no_grad():
        for name, weight in module.named_parameters():
            weight += change[name]
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def folder(net: TextNet, place: Path) -> Path:
    net.module.save_pretrained(place)
    net.tokenizer.save_pretrained(place)
    return place


def table(place: Path, texts: tuple[str, ...] = TEXTS[:2], names: tuple[str, str] = ("health", "money")) -> Path:
    with place.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "topic"])
        rows.writerows((text, names[int(y)]) for text, y in zip(texts, LABELS, strict=False))
    return place


def audited(net: TextNet, update: Any, tmp_path: Path, **more: Any) -> AuditRecord:
    attacks = more.pop("attacks", ["dager"] if net.task == "causal-lm" else ["embedding-rows"])
    return seepage.audit_update(net, update, out=tmp_path, attacks=attacks, fresh=True, **more)


def seen(looked: Preflight) -> dict[str, Any]:
    return {diagnostic.name: diagnostic for diagnostic in looked.diagnostics}


def guessed(record: AuditRecord) -> list[str]:
    (artifact,) = record.findings[0].artifacts
    path = Path(record.folder or "") / artifact.path
    assert artifact.private
    assert path.stat().st_mode & 0o777 == 0o600
    with np.load(path, allow_pickle=False) as arrays:
        assert "truth" not in arrays.files
        return [str(text) for text in arrays["guess"]]


# What comes out


def test_without_the_texts_nothing_is_scored_and_the_update_is_explained(tmp_path: Path) -> None:
    record = audited(gpt(), sent(gpt()), tmp_path, records=2, public=list(PUBLIC))
    (finding,) = record.findings
    assert finding.status == "done"
    assert finding.scores == {}
    assert record.verdict("gradient") == "inconclusive"
    found = finding.facts
    assert found["consistency"] == pytest.approx(0, abs=1e-3)
    for name in ("random_tokens", "public_text", "frequent_words"):
        assert float(found[f"consistency_{name}"] or 0) > 0.5
    assert sorted(guessed(record)) == sorted(TEXTS[:2])
    assert record.preflight[0].answer.startswith("Yes: dager")


def test_what_was_read_is_shown_when_it_is_asked_for(tmp_path: Path) -> None:
    record = audited(gpt(), sent(gpt()), tmp_path, records=2)
    run = Path(record.folder or "")
    hidden = write_reports(run)["report"].read_text("utf-8")
    plainly = [page.read_text("utf-8") for page in run.rglob("*") if page.suffix in (".json", ".jsonl", ".md")]
    assert not any(text in page for page in (hidden, *plainly) for text in TEXTS)
    assert "texts of tokens drawn at random" in hidden.casefold()
    shown = write_reports(run, show_records=True)["report"].read_text("utf-8")
    assert all(text in shown for text in TEXTS[:2])


def test_with_the_texts_findings_are_scored_beside_another_batch(tmp_path: Path) -> None:
    batch, others = (list(TEXTS[:2]), LABELS[:2]), (list(OTHERS), [0, 1])
    record = audited(bert(), sent(bert()), tmp_path, batch=batch, nonmembers=others, mode="eval")
    score = record.findings[0].score
    assert score is not None
    assert score.name == "token_recall"
    # The bag of tokens has each of them once, and one word stands twice in a text.
    assert score.value is not None
    assert score.value > 0.9
    assert score.controls["null_model"] is not None
    assert score.controls["null_model"].value < 0.5


def test_the_update_of_other_texts_shows_nothing_of_the_batch(tmp_path: Path) -> None:
    """The null control of the whole path: the texts named are not the texts behind the update."""
    record = audited(gpt(), sent(gpt(), TEXTS[2:]), tmp_path, batch=list(OTHERS), nonmembers=list(TEXTS[:2]))
    score = record.findings[0].score
    assert score is not None
    assert score.value is not None
    assert score.value < 0.5
    assert record.verdict("gradient") != "leaks"


def test_a_pair_of_weights_is_a_change_at_the_weights_before(tmp_path: Path) -> None:
    net = gpt()
    local = LocalTraining("delta", 0, 1, 0.05, "eval")
    before = dict(net.module.state_dict())
    # The model comes with other weights: those before take their place. Tied weights stand there twice.
    assert "lm_head.weight" in before
    pair = (before, after(net, sent(net, local=local)))
    record = audited(gpt(seed=9), pair, tmp_path, records=2, local_batch=0, epochs=1, rate=0.05)
    assert record.findings[0].facts["consistency"] == pytest.approx(0, abs=0.01)
    assert record.victim["sent_as"] == "delta"
    assert sorted(guessed(record)) == sorted(TEXTS[:2])


def test_a_sum_over_clients_is_the_update_of_all_their_texts(tmp_path: Path) -> None:
    net = bert()
    parts = [net.round(TEXTS[k], LABELS[k], GRADIENT, np.random.default_rng(1)) for k in (slice(0, 2), slice(2, 4))]
    summed = {name: parts[0].tensors[name] + parts[1].tensors[name] for name in parts[0].tensors}
    batch = (list(TEXTS), LABELS)
    record = audited(net, summed, tmp_path, records=2, clients=2, summed=True, batch=batch, mode="eval")
    (finding,) = record.findings
    assert (finding.scores["batch_recall"].value or 0) > 0.9
    assert "batch 4" in str(finding.facts["assumptions_known"])
    with pytest.raises(ConfigError, match="cannot share evenly"):
        audited(net, summed, tmp_path, clients=3, batch=batch)


def test_without_a_learning_rate_it_is_said_what_can_be_tried_and_it_works(tmp_path: Path) -> None:
    net = gpt()
    change = sent(net, local=LocalTraining("delta", 0, 2, 0.05, "eval"))
    record = audited(net, change, tmp_path, kind="delta", records=2)
    rate = seen(record.preflight[0])["learning rate"]
    assert rate.holds == "unknown"
    assert "span of attention" in rate.means
    assert sorted(guessed(record)) == sorted(TEXTS[:2])
    # A change of the weights goes against the gradient: the other way it would lie 1 away.
    assert float(record.findings[0].facts["consistency"] or 0) < 0.8


def test_known_steps_are_taken_again() -> None:
    net, local = gpt(), LocalTraining("delta", 0, 4, 0.2, "eval")
    update = net.round(TEXTS[:2], None, local, np.random.default_rng(1))
    known = Assumptions(steps=Rung.known(4), epochs=Rung.known(4), rate=Rung.known(0.2), local_batch=Rung.known(2))
    assert TextReplay(net, update, known).distance_of_texts(TEXTS[:2]) == pytest.approx(0, abs=1e-3)
    assert (TextReplay(net, update, Assumptions()).distance_of_texts(TEXTS[:2]) or 0) > 0.05


def test_the_true_texts_explain_the_update_and_others_do_not() -> None:
    net = bert()
    update = net.round(TEXTS[:2], LABELS[:2], GRADIENT, np.random.default_rng(1))
    replay = TextReplay(net, update, Assumptions(batch=Rung.known(2)))
    # The classes are found by themselves.
    assert replay.distance_of_texts(TEXTS[:2]) == pytest.approx(0, abs=1e-4)
    assert (replay.distance_of_texts(OTHERS) or 0) > 0.3
    assert replay.distance_of_texts(["", " "]) is None


def test_dropout_leaves_its_mark_and_is_said(tmp_path: Path) -> None:
    net = bert(dropout=0.1)
    record = audited(net, sent(net, local=LocalTraining("gradient", mode="train")), tmp_path, records=2)
    assert seen(record.preflight[0])["dropout"].holds == "unknown"
    assert "nothing is dropped" in str(record.findings[0].facts["consistency_how"])
    batch = (list(TEXTS[:2]), LABELS[:2])
    record = audited(net, sent(net), tmp_path, batch=batch, nonmembers=(list(OTHERS), [0, 1]))
    score = record.findings[0].score
    assert score is not None
    assert "mode" in score.missing["null_model"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_accepted_and_said(dtype: torch.dtype, tmp_path: Path) -> None:
    record = audited(bert(), {k: v.to(dtype) for k, v in sent(bert()).items()}, tmp_path, records=2)
    found = seen(record.preflight[0])["precision"]
    assert str(dtype).removeprefix("torch.") in found.found
    assert record.findings[0].status == "done"


_FULL = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 4"
)


def test_where_memory_runs_out_less_is_held_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Dager.run

    def short(self: Dager, *given: Any) -> Any:
        if self.chunk > 2**25:
            raise RuntimeError(_FULL)
        return run(self, *given)

    whole = audited(gpt(), sent(gpt()), tmp_path, records=2)
    monkeypatch.setattr(Dager, "run", short)
    record = audited(gpt(), sent(gpt()), tmp_path, records=2)
    (finding,) = record.findings
    assert guessed(record) == guessed(whole)
    assert any("chunks of 33,554,432" in note for note in finding.notes)
    # What was asked for stands in the record.
    assert finding.params == whole.findings[0].params


def test_where_no_memory_is_enough_it_is_said_what_needs_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> Any:
        raise RuntimeError(_FULL)

    monkeypatch.setattr(Dager, "run", never)
    (finding,) = audited(gpt(), sent(gpt()), tmp_path, records=2).findings
    assert finding.status == "failed"
    assert finding.error is not None
    assert finding.error.message.startswith("it ran out of memory")
    assert "a smaller chunk or restarts or beam" in finding.error.message


# Weights that stand in a model twice, and those that are not trained


def test_a_tied_weight_may_go_by_either_name(tmp_path: Path) -> None:
    net, update = gpt(), sent(gpt())
    own = "transformer.wte.weight"
    renamed = {("lm_head.weight" if name == own else name): tensor for name, tensor in update.items()}
    found = [audited(net, u, tmp_path, records=2).findings[0].facts["consistency"] for u in (update, renamed)]
    assert found[0] == found[1]
    both = {**update, "lm_head.weight": 2 * update[own]}
    with pytest.raises(DataError, match="are one weight of the model, and differ"):
        audited(net, both, tmp_path)


def test_what_the_client_froze_need_not_be_sent(tmp_path: Path) -> None:
    net = bert()
    update = sent(net)
    name = "bert.embeddings.word_embeddings.weight"
    partial = {other: tensor for other, tensor in update.items() if other != name}
    with pytest.raises(DataError, match=r"word_embeddings\.weight' of the model is missing.*freeze"):
        audited(net, partial, tmp_path)
    save_file(partial, tmp_path / "partial.safetensors")
    save_file(update, tmp_path / "update.safetensors")
    folder(net, tmp_path / "model")
    frozen = f'frozen = ["{name}"]'
    setting = _setting(tmp_path, f'update = "partial.safetensors"\n{frozen}')
    assert name not in setting.scene.victim.clients[0].tensors  # pyright: ignore[reportAttributeAccessIssue]
    reasons = {left.attack: left.reason for left in setting.plan().left_out}
    assert "frozen" in reasons["embedding-rows"]
    with pytest.raises(DataError, match=r"moves 'bert\.embeddings\.word_embeddings\.weight', which is frozen"):
        _setting(tmp_path, f'update = "update.safetensors"\n{frozen}')


# Files

TOML = """
seed = 3
[victim]
kind = "update"
path = "model"
"""


def _file(tmp_path: Path, more: str, toml: str = TOML) -> Path:
    path = tmp_path / "audit.toml"
    path.write_text(toml + more, "utf-8")
    return path


def _setting(tmp_path: Path, more: str) -> Any:
    return setting_of_file(_file(tmp_path, more))[0]


def test_a_file_with_the_texts_is_a_scored_audit(tmp_path: Path) -> None:
    net = bert()
    folder(bert(seed=8), tmp_path / "model")
    save_file(sent(net), tmp_path / "u.safetensors")
    torch.save(net.module.state_dict(), tmp_path / "w.pt")
    table(tmp_path / "batch.csv")
    table(tmp_path / "held.csv", OTHERS)
    (tmp_path / "public.txt").write_text("\n".join(PUBLIC), "utf-8")
    more = """
weights = "w.pt"
update = "u.safetensors"
class_names = ["health", "money"]
[federated]
mode = "eval"
[data]
members = "batch.csv"
nonmembers = "held.csv"
public = "public.txt"
text = "text"
target = "topic"
"""
    record, _ = audit_file(_file(tmp_path, more), out=tmp_path / "runs", processes=1)
    scores = {finding.attack: finding.score for finding in record.findings}
    bag = scores["embedding-rows"]
    assert bag is not None
    assert bag.value is not None
    assert bag.value > 0.9
    assert not bag.missing
    assert record.data["classes"] == 2
    # Read again by another process: the same findings are there already.
    again, _ = audit_file(_file(tmp_path, more), out=tmp_path / "runs", processes=1)
    assert again.run.cached == len(record.findings)


def test_the_names_of_classes_are_those_of_the_model(tmp_path: Path) -> None:
    net = bert()
    module = net.module
    module.config.id2label = {0: "money", 1: "health"}
    folder(TextNet(module, net.task, net.tokenizer), tmp_path / "model")
    save_file(sent(net), tmp_path / "u.safetensors")
    table(tmp_path / "batch.csv")
    data = '[data]\nmembers = "batch.csv"\ntext = "text"\ntarget = "topic"\n'
    setting = _setting(tmp_path, f'update = "u.safetensors"\n{data}')
    assert setting.scene.members.y.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("", 'needs update = "..."'),
        ('update = "u.safetensors"\nafter = "a.pt"', "one of the two"),
        ('update = "u.safetensors"\nwieghts = "w"', "did you mean 'weights'"),
        ('update = "u.safetensors"\nnet = "tiny-bert"', "give path, the folder"),
        ('update = "u.safetensors"\nbuild = "a:b"', "unknown key 'build'"),
        ('update = "u.safetensors"\ninput = { shape = [3] }', "input is for arrays"),
        ('update = "u.safetensors"\naccess = "rounds"', "sees 'updates'"),
        ('update = "u.safetensors"\ntask = "clasification"', "did you mean 'classification'"),
        ('update = "u.safetensors"\ntask = "causal-lm"', "no weights"),
        ('update = "u.safetensors"\nfrozen = ["bert.embedings"]', "did you mean 'bert.embeddings'"),
        ('update = "u.safetensors"\nfrozen = "bert"', "a list of names"),
        ('update = "u.safetensors"\nclass_names = ["one"]', "the model's has|2 names were wanted|size mismatch|cannot"),
        ('update = "none.safetensors"', "no file"),
        ('update = "gpt.safetensors"', "'transformer.h.0.attn.c_attn.bias' is no parameter of the model"),
        ('update = "wide.safetensors"', "has shape"),
        ('update = "nan.safetensors"', "holds NaN or infinite"),
        ('update = "zero.safetensors"', "every tensor is zero"),
        ('update = "u.safetensors"\n[federated]\ntrained = 5', "give the weights that the server sent"),
        ('update = "u.safetensors"\n[federated]\nsummed = true', "say how many: clients"),
        ('update = "u.safetensors"\n[federated]\nknows = ["labels"]', "where the true batch is given"),
        ('update = "u.safetensors"\n[data]\nmembers = "batch.csv"\ntext = "text"', "need their classes"),
        (
            'update = "u.safetensors"\n[data]\nmembers = "batch.csv"\ntext = "text"\ntarget = "topic"',
            "name every class with class_names",
        ),
        ('update = "u.safetensors"\n[data]\nmembers = "batch.csv"', "say which column holds the texts"),
        (
            'update = "u.safetensors"\nclass_names = ["health", "money"]\n[federated]\nrecords = 5\n'
            '[data]\nmembers = "batch.csv"\ntext = "text"\ntarget = "topic"',
            "they must agree",
        ),
        (
            'update = "u.safetensors"\nclass_names = ["health", "money"]\n'
            '[data]\nmembers = "batch.csv"\nnonmembers = "batch.csv"\ntext = "text"\ntarget = "topic"',
            "is a member too",
        ),
        (
            'update = "u.safetensors"\nclass_names = ["health", "money"]\n'
            '[data]\nmembers = "batch.csv"\npublic = "batch.csv"\ntext = "text"\ntarget = "topic"',
            "what is public is no secret",
        ),
        ('update = "u.safetensors"\n[recipe]\nfit = "cnn"', "captured update needs none"),
    ],
)
def test_bad_files_get_one_message(more: str, says: str, files: Path) -> None:
    with pytest.raises(SeepageError, match=says):
        _setting(files, more)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, and updates of many kinds."""
    place, net = tmp_path_factory.mktemp("files"), bert()
    folder(net, place / "model")
    update = sent(net)
    head = "classifier.weight"
    changed: dict[str, Callable[[], State]] = {
        "u": lambda: update,
        "gpt": lambda: sent(gpt()),
        "wide": lambda: sent(text_net("tiny-bert", WORDS, 2, 3, width=32, layers=2, length=24)),
        "nan": lambda: {**update, head: update[head] / 0},
        "zero": lambda: {name: torch.zeros_like(tensor) for name, tensor in update.items()},
    }
    for name, make in changed.items():
        save_file(make(), place / f"{name}.safetensors")
    table(place / "batch.csv")
    return place


def test_a_folder_without_a_head_is_no_model_of_the_round(tmp_path: Path) -> None:
    net = bert()
    folder(net, tmp_path / "model")
    net.module.bert.save_pretrained(tmp_path / "model")
    save_file(sent(net), tmp_path / "u.safetensors")
    with pytest.raises(ModelError, match=r"no weights 'classifier\.bias'.*would be drawn anew"):
        _setting(tmp_path, 'update = "u.safetensors"')
    # The weights of the round bring it along.
    torch.save(net.module.state_dict(), tmp_path / "w.pt")
    assert _setting(tmp_path, 'update = "u.safetensors"\nweights = "w.pt"').scene.net.classes == 2


def test_a_module_that_reads_texts_comes_with_its_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="TextNet"):
        seepage.audit_update(gpt().module, sent(gpt()), out=tmp_path)
    with pytest.raises(ConfigError, match="input and prior"):
        seepage.audit_update(gpt(), sent(gpt()), input=seepage.InputSpec((1, 8, 8)), out=tmp_path)
    with pytest.raises(ConfigError, match="InputSpec"):
        seepage.audit_update(torch.nn.Linear(2, 2), {}, out=tmp_path)


# Recorded runs


def test_a_recorded_run_of_texts_is_audited_round_by_round(tmp_path: Path) -> None:
    net = gpt()
    folder(net, tmp_path / "model")
    before = {name: tensor.numpy() for name, tensor in net.module.state_dict().items()}
    writer = Writer(tmp_path / "recorded", {"run_config": {"lr": 0.05, "local-epochs": 1, "batch-size": 4}})
    for node, texts in (("7", TEXTS[:2]), ("9", TEXTS[2:])):
        moved = after(net, sent(net, texts, LocalTraining("delta", 0, 1, 0.05, "eval")))
        done = Exchange(1, node, metrics={"num-examples": 2})
        writer.exchange(done, before, {name: tensor.numpy() for name, tensor in moved.items()})
    (tmp_path / "7.txt").write_text("\n".join(TEXTS[:2]), "utf-8")
    (tmp_path / "9.txt").write_text("\n".join(TEXTS[2:]), "utf-8")
    toml = """
[victim]
kind = "flower"
recording = "recorded"
path = "model"
task = "causal-lm"
[data]
members = "{client}.txt"
[[attack]]
name = "dager"
"""
    found, _ = audit_rounds(_file(tmp_path, "", toml), out=tmp_path / "runs")
    assert [(row.round, row.client, row.status) for row in found.rows] == [(1, "7", "done"), (1, "9", "done")]
    assert all(row.leakage is not None and row.leakage[1] > 0.9 for row in found.rows)
