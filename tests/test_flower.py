"""Runs of Flower recorded, and audited round by round: real `ServerApp` and `ClientApp`, in one process."""

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

flwr = pytest.importorskip("flwr", reason="Flower, the extra [fl], is not installed")

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict  # noqa: E402
from flwr.clientapp import ClientApp  # noqa: E402
from flwr.serverapp import Grid, ServerApp  # noqa: E402
from flwr.serverapp.strategy import FedAvg  # noqa: E402
from safetensors.numpy import load_file, save_file  # noqa: E402

from seepage.audit.api import audit_file  # noqa: E402
from seepage.audit.recorded import picked  # noqa: E402
from seepage.audit.rounds import audit_rounds  # noqa: E402
from seepage.audit.updates import audit_update  # noqa: E402
from seepage.cli.main import main  # noqa: E402
from seepage.core.errors import ConfigError, DataError, SeepageError  # noqa: E402
from seepage.core.spec import InputSpec  # noqa: E402
from seepage.report.rounds import write_rounds  # noqa: E402
from seepage.targets.flower import recorded  # noqa: E402
from seepage.targets.recordings import Recording  # noqa: E402
from seepage.testing.cases import smooth_pictures  # noqa: E402
from seepage.testing.flower import play  # noqa: E402

SETTINGS = {"lr": 0.1, "momentum": 0.0, "local-epochs": 1, "batch-size": 8}
RECORDS, CLASSES = 4, 4


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 150), nn.ReLU(), nn.Linear(150, CLASSES))


def cnn() -> nn.Module:
    body = (nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    return nn.Sequential(*body, nn.Linear(256, CLASSES))


NETS = {"mlp": mlp, "cnn": cnn}


def shard(client: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(100 + client)
    return smooth_pictures(RECORDS, rng, 8), rng.permutation(CLASSES)


client = ClientApp()


@client.train()
def fit(message: Message, context: Context) -> Message:
    told, number = message.content["config"], int(context.node_config["partition-id"])
    if context.run_config.get("fails") == number:
        raise RuntimeError("out of battery")
    torch.manual_seed(number)
    net = NETS[str(context.run_config.get("net", "mlp"))]()
    net.load_state_dict(message.content["arrays"].to_torch_state_dict())
    x, y = (torch.from_numpy(part) for part in shard(number))
    optimiser = torch.optim.SGD(net.parameters(), lr=float(told["lr"]), momentum=float(told["momentum"]))
    for _ in range(int(told["local-epochs"])):
        for rows in torch.randperm(len(x)).split(int(told["batch-size"])):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
            optimiser.step()
    records = {"arrays": ArrayRecord(net.state_dict()), "metrics": MetricRecord({"num-examples": len(x)})}
    return Message(content=RecordDict(records), reply_to=message)


def server(final: list[ArrayRecord], net: str = "mlp", rounds: int = 2, **changes: Any) -> ServerApp:
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        torch.manual_seed(0)
        strategy = FedAvg(fraction_train=1.0, fraction_evaluate=0.0, min_available_nodes=2, min_train_nodes=1)
        arrays, config = ArrayRecord(NETS[net]().state_dict()), ConfigRecord({**SETTINGS, **changes})
        final.append(strategy.start(grid, arrays, num_rounds=rounds, train_config=config).arrays)

    return app


def recording(
    folder: Path, net: str = "mlp", clients: int = 3, rounds: int = 2, fails: int = -1, **changes: Any
) -> Path:
    play(recorded(server([], net, rounds, **changes), folder), client, clients, {"net": net, "fails": fails})
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recording(tmp_path_factory.mktemp("flower") / "recording")


def audit_text(folder: Path, more: str = "", net: str = "mlp", attacks: str = '[[attack]]\nname = "spear"') -> str:
    return (
        f'[victim]\nkind = "flower"\nrecording = "{folder}"\nbuild = "{__name__}:{net}"\n'
        f"input = {{ shape = [1, 8, 8] }}\n{more}\n{attacks}\n"
    )


def audited(folder: Path, tmp_path: Path, *args: Any, **more: Any) -> Any:
    file = tmp_path / "audit.toml"
    file.write_text(audit_text(folder, *args, **more), encoding="utf-8")
    return audit_file(file, out=tmp_path / "runs", fresh=True, processes=1)[0]


# Recording


def test_a_run_computes_the_same_when_it_is_recorded(tmp_path: Path) -> None:
    plain: list[ArrayRecord] = []
    watched: list[ArrayRecord] = []
    # Of two clients: the strategy sums in the order in which it drew them, and two can be added either way.
    play(server(plain), client, 2, {})
    play(recorded(server(watched), tmp_path / "r"), client, 2, {})
    for one, other in zip(plain[0].to_numpy_ndarrays(), watched[0].to_numpy_ndarrays(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_was_sent_and_came_back_is_there(run: Path) -> None:
    found = Recording.open(run)
    assert [(one.round, one.node) for one in found.exchanges] == [(r, str(c)) for r in (1, 2) for c in (1, 2, 3)]
    first = found.exchanges[0]
    assert first.records == RECORDS
    assert first.config["lr"] == 0.1
    before, after = first.before(), first.after()
    assert isinstance(before, dict)
    torch.manual_seed(0)
    for name, weight in mlp().state_dict().items():
        np.testing.assert_array_equal(before[name], weight.numpy())
    assert any(np.any(before[name] != after[name]) for name in before)
    # The second round's weights are the mean of what the first one's clients sent back.
    second = found.pick(2).before()
    mean = np.mean([one.after()["1.weight"] for one in found.exchanges if one.round == 1], axis=0)  # type: ignore[call-overload]
    np.testing.assert_allclose(second["1.weight"], mean, atol=1e-6)


def test_updates_are_readable_by_their_owner_alone(run: Path) -> None:
    for place in run.rglob("*"):
        if place.is_file():
            assert stat.S_IMODE(place.stat().st_mode) == 0o600


def test_a_run_that_was_killed_is_readable_as_far_as_it_went(tmp_path: Path) -> None:
    folder = recording(tmp_path / "r", rounds=1)
    (folder / "rounds" / "0001" / "client-3.json").unlink()
    (folder / "rounds" / "0001" / ".x.tmp").write_bytes(b"half")
    assert [one.node for one in Recording.open(folder).readable] == ["1", "2"]


def test_a_client_that_failed_is_said_to_have(tmp_path: Path) -> None:
    folder = recording(tmp_path / "r", rounds=1, fails=1)
    lost = [one for one in Recording.open(folder).exchanges if one.missing]
    assert [one.node for one in lost] == ["2"]
    assert "out of battery" in str(lost[0].missing)
    with pytest.raises(DataError, match="no client 2"):
        Recording.open(folder).pick(1, "2")


def test_a_folder_that_holds_something_is_not_written_to(run: Path) -> None:
    with pytest.raises(DataError, match="is not empty"):
        recording(run, rounds=1)


def arrays_of(net: nn.Module) -> list[np.ndarray]:
    return [weight.detach().numpy() for weight in net.state_dict().values()]


def trained(parameters: list[np.ndarray], number: int) -> list[np.ndarray]:
    net = mlp()
    net.load_state_dict(dict(zip(net.state_dict(), map(torch.from_numpy, parameters), strict=True)))
    x, y = (torch.from_numpy(part) for part in shard(number))
    nn.functional.cross_entropy(net(x), y).backward()
    return [w.detach().numpy() - 0.1 * w.grad.numpy() for w in net.parameters() if w.grad is not None]


def older(*mods: Any) -> ClientApp:
    """Clients of the older interface, which send arrays without names: one step of all their records."""
    from flwr.compat.client.numpy_client import NumPyClient

    class Old(NumPyClient):
        def __init__(self, number: int):
            self.number = number

        def fit(self, parameters: list[np.ndarray], config: dict[str, Any]) -> Any:
            return trained(parameters, self.number), RECORDS, {"loss": 1.0}

    def made(context: Context) -> Any:
        return Old(int(context.node_config["partition-id"])).to_client()

    return ClientApp(client_fn=made, mods=list(mods))


def older_strategy(clients: int, final: list[list[np.ndarray]]) -> Any:
    """Plain averaging of the older interface, which keeps what each round came to."""
    from flwr.common import ndarrays_to_parameters, parameters_to_ndarrays
    from flwr.server.strategy import FedAvg as OldFedAvg

    class Kept(OldFedAvg):
        def aggregate_fit(self, *args: Any) -> Any:
            parameters, metrics = super().aggregate_fit(*args)
            final.append(parameters_to_ndarrays(parameters))  # type: ignore[arg-type]
            return parameters, metrics

    torch.manual_seed(0)
    return Kept(
        fraction_fit=1.0,
        fraction_evaluate=0.0,
        min_fit_clients=clients,
        min_available_clients=clients,
        on_fit_config_fn=lambda number: {"lr": 0.1, "local-epochs": 1, "batch-size": RECORDS, "momentum": 0.0},
        initial_parameters=ndarrays_to_parameters(arrays_of(mlp())),
    )


def listening(grid: Grid, heard: list[Message]) -> Grid:
    """The same grid, which keeps every reply, as a server may."""
    inner = grid.send_and_receive

    def send_and_receive(messages: Any, *, timeout: float | None = None) -> list[Message]:
        replies = list(inner(messages, timeout=timeout))
        heard.extend(replies)
        return replies

    grid.send_and_receive = send_and_receive  # type: ignore[method-assign]
    return grid


def secure(folder: Path, rounds: int = 2, heard: list[Message] | None = None) -> None:
    """Flower's own SecAgg+ over four clients, by its older interface: the only one it is there for."""
    from flwr.client.mod import secaggplus_mod
    from flwr.server.compat.legacy_context import LegacyContext
    from flwr.server.server_config import ServerConfig
    from flwr.server.workflow import DefaultWorkflow, SecAggPlusWorkflow

    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        strategy = older_strategy(4, [])
        within = LegacyContext(context=context, config=ServerConfig(num_rounds=rounds), strategy=strategy)
        whole = DefaultWorkflow(fit_workflow=SecAggPlusWorkflow(num_shares=3, reconstruction_threshold=2, max_weight=8))
        whole(grid if heard is None else listening(grid, heard), within)

    play(recorded(app, folder), older(secaggplus_mod), 4, {})


@pytest.mark.filterwarnings("ignore")
def test_behind_secure_aggregation_the_mean_alone_is_read(tmp_path: Path) -> None:
    secure(tmp_path / "r")
    found = Recording.open(tmp_path / "r")
    assert not found.readable
    assert all("masked" in str(one.missing) for one in found.exchanges)
    mean = picked(found, 1, "all")
    assert (mean.clients, mean.records) == (4, RECORDS)
    assert mean.config["lr"] == 0.1
    net = mlp()
    net.load_state_dict(dict(zip(net.state_dict(), map(torch.from_numpy, mean.before), strict=True)))
    x, y = (torch.from_numpy(np.concatenate(parts)) for parts in zip(*map(shard, range(4)), strict=True))
    nn.functional.cross_entropy(net(x), y).backward()
    for weight, after in zip(net.parameters(), mean.after, strict=True):
        assert weight.grad is not None
        # The protocol rounds to steps of 16 / 2^22, times the weight it allows for over the records a client has.
        np.testing.assert_allclose(weight.detach() - 0.1 * weight.grad, after, atol=4e-5)


def masked(heard: list[Message]) -> dict[int, np.ndarray]:
    """What each client sent in the place of its weights, as one vector."""
    from flwr.common import bytes_to_ndarray
    from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS, Key

    found: dict[int, np.ndarray] = {}
    for reply in heard:
        told = reply.content.config_records.get(RECORD_KEY_CONFIGS, {})
        if Key.MASKED_PARAMETERS in told:
            # The first is how much the client weighs.
            arrays = [bytes_to_ndarray(one) for one in told[Key.MASKED_PARAMETERS][1:]]  # type: ignore[index,union-attr,arg-type]
            found[reply.metadata.src_node_id] = np.concatenate([one.ravel() for one in arrays])
    return found


def flat(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([one.ravel() for one in arrays]).astype(float)


def step_of(number: int) -> tuple[np.ndarray, np.ndarray]:
    """The first weights, and those after the step of one client of the older interface, as vectors."""
    torch.manual_seed(0)
    first = arrays_of(mlp())
    return flat(first), flat(trained(first, number))


@pytest.mark.filterwarnings("ignore")
def test_what_a_client_sends_behind_secure_aggregation_is_uniform_noise(tmp_path: Path) -> None:
    heard: list[Message] = []
    secure(tmp_path / "r", 1, heard)
    vectors = masked(heard)
    assert sorted(vectors) == [1, 2, 3, 4]
    for node, vector in vectors.items():
        before, after = step_of(node - 1)
        n = len(vector)
        assert n == len(after)
        # Residues modulo 2^32, as many in each of 16 bins as chance has it: chi-square of 15 degrees of freedom is
        # below 44.3 but once in 10,000.
        counts, _ = np.histogram(vector, bins=16, range=(0, 2**32))
        assert ((counts - n / 16) ** 2 / (n / 16)).sum() < 44.3
        # Nothing of the weights nor of their change: unrelated numbers correlate by less than four standard errors.
        for told in (after, after - before):
            assert abs(np.corrcoef(vector.astype(float), told)[0, 1]) < 4 / np.sqrt(n)
        # The same look at weights that are quantised and not masked finds them at once.
        plain = np.round((np.clip(after, -8, 8) + 8) * 2**22 / 16)
        assert np.corrcoef(plain, after)[0, 1] > 0.99


@pytest.mark.filterwarnings("ignore")
def test_an_attack_on_the_mean_finds_what_it_finds_in_a_batch_of_all(tmp_path: Path) -> None:
    secure(tmp_path / "r")
    x, y = (np.concatenate(parts) for parts in zip(*map(shard, range(4)), strict=True))
    np.savez(tmp_path / "all.npz", x=x, y=y)
    spare = np.random.default_rng(7)
    np.savez(tmp_path / "spare.npz", x=smooth_pictures(32, spare, 8), y=np.arange(32) % CLASSES)
    names = ("linear-layer", "untrained-counts")
    more = 'client = "all"\n[data]\nmembers = "all.npz"\nnonmembers = "spare.npz"'
    record = audited(tmp_path / "r", tmp_path, more, attacks="\n".join(f'[[attack]]\nname = "{n}"' for n in names))
    torch.manual_seed(0)
    net = mlp()
    nn.functional.cross_entropy(net(torch.from_numpy(x)), torch.from_numpy(y)).backward()
    whole = {name: (w.detach() - 0.1 * w.grad).numpy() for name, w in net.named_parameters() if w.grad is not None}
    direct = audit_update(
        net,
        (net.state_dict(), whole),
        input=InputSpec((1, 8, 8)),
        rate=0.1,
        epochs=1,
        local_batch=0,
        batch=(x, y),
        nonmembers=(smooth_pictures(32, np.random.default_rng(7), 8), np.arange(32) % CLASSES),
        attacks=list(names),
        out=tmp_path / "direct",
    )
    for one, other in zip(record.findings, direct.findings, strict=True):
        assert one.attack == other.attack
        assert one.scores.keys() == other.scores.keys()
        for name in one.scores:
            # The protocol's rounding may tip a record or two of the sixteen.
            assert one.scores[name].value == pytest.approx(other.scores[name].value, abs=2 / 16), name
    lines, counts = record.findings
    identified = lines.scores["record_identified"]
    assert identified.value > identified.controls["null_model"].value + 0.25
    assert counts.scores["label_recall"].value == 1.0


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("made", ["server_fn", "workflow"])
def test_the_older_interface_is_recorded_in_the_order_of_the_model(made: str, tmp_path: Path) -> None:
    from flwr.compat.server import ServerAppComponents
    from flwr.server.compat.legacy_context import LegacyContext
    from flwr.server.server_config import ServerConfig
    from flwr.server.workflow import DefaultWorkflow

    def app(final: list[list[np.ndarray]]) -> ServerApp:
        strategy, config = older_strategy(2, final), ServerConfig(num_rounds=2)
        if made == "server_fn":
            return ServerApp(server_fn=lambda context: ServerAppComponents(strategy=strategy, config=config))
        whole = ServerApp()

        @whole.main()
        def main(grid: Grid, context: Context) -> None:
            DefaultWorkflow()(grid, LegacyContext(context=context, config=config, strategy=strategy))

        return whole

    plain: list[list[np.ndarray]] = []
    watched: list[list[np.ndarray]] = []
    play(app(plain), older(), 2, {})
    play(recorded(app(watched), tmp_path / "r"), older(), 2, {})
    assert len(plain) == len(watched) == 2
    for one, other in zip(plain[-1], watched[-1], strict=True):
        np.testing.assert_array_equal(one, other)
    found = Recording.open(tmp_path / "r")
    assert [(one.round, one.node, one.records) for one in found.readable] == [
        (r, n, RECORDS) for r in (1, 2) for n in ("1", "2")
    ]
    assert found.readable[0].config["lr"] == 0.1
    assert found.readable[0].metrics["loss"] == 1.0
    assert set(load_file(tmp_path / "r" / "rounds" / "0001" / "client-1.safetensors")) == {"0", "1", "2", "3"}
    before, after = step_of(1)
    second = found.pick(1, "2")
    assert isinstance(second.before(), list)
    np.testing.assert_array_equal(flat(list(second.before())), before)
    np.testing.assert_array_equal(flat(list(second.after())), after)
    (finding,) = audited(tmp_path / "r", tmp_path, 'client = "2"').findings
    assert float(str(finding.facts["consistency"])) < 1e-3


# Auditing


def test_a_recorded_update_gives_its_records_back(run: Path, tmp_path: Path) -> None:
    for number in range(3):
        x, y = shard(number)
        np.savez(tmp_path / f"client-{number + 1}.npz", x=x, y=y)
    spare = np.random.default_rng(7)
    np.savez(tmp_path / "spare.npz", x=smooth_pictures(12, spare, 8), y=np.arange(12) % CLASSES)
    data = '[data]\nmembers = "client-{client}.npz"\nnonmembers = "spare.npz"'
    record = audited(run, tmp_path, f"client = 2\nround = 2\n{data}")
    (finding,) = record.findings
    assert finding.scores["exact"].value == 1.0
    assert finding.scores["exact"].controls["null_model"].value == 0.0
    assert record.victim["round"] == 2.0
    assert record.victim["client"] == "2"


def test_what_the_server_told_its_clients_is_known(run: Path, tmp_path: Path) -> None:
    (finding,) = audited(run, tmp_path, attacks='[[attack]]\nname = "fedavg-matching"\nsteps = 2').findings
    told = str(finding.facts["assumptions_known"])
    for rung in ("batch 4", "rate 0.1", "epochs 1", "optimiser sgd"):
        assert rung in told


def test_of_a_stock_classifier_it_is_said_why_attacks_give_garbage(tmp_path: Path) -> None:
    changes = {"lr": 0.2, "momentum": 0.9, "local-epochs": 5, "batch-size": 2}
    folder = recording(tmp_path / "r", "cnn", rounds=1, **changes)
    record = audited(folder, tmp_path, net="cnn", attacks='[[attack]]\nname = "auto"')
    (looked,) = record.preflight
    fails = {seen.name for seen in looked.diagnostics if seen.holds == "fails"}
    assert {"local steps", "optimiser", "first layer"} <= fails
    assert "momentum 0.9" in looked.answer


def test_the_mean_of_a_round_shows_in_the_next_one(run: Path, tmp_path: Path) -> None:
    every = Recording.open(run)
    mean = picked(every, 1, "all")
    assert mean.clients == 3
    assert mean.records == RECORDS
    (finding,) = audited(run, tmp_path, 'client = "all"').findings
    assert "batch 12" in str(finding.facts["assumptions_known"])
    with pytest.raises(DataError, match="the mean of round 2 shows in"):
        picked(every, 2, "all")


def test_every_update_of_every_round_is_a_row(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "audit.toml"
    file.write_text(audit_text(run), encoding="utf-8")
    found, place = audit_rounds(file, out=tmp_path / "runs")
    assert [(row.round, row.client) for row in found.rows] == [(r, str(c)) for r in (1, 2) for c in (1, 2, 3)]
    assert all(row.status == "done" and row.strongest == "spear" for row in found.rows)
    assert all(row.consistency is not None and row.consistency < 1e-3 for row in found.rows)
    written = write_rounds(place)
    assert written["table"].read_text(encoding="utf-8").count("| 1 | [") == 3
    assert "Round by round" in written["page"].read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("round = 9", "round 9 holds no update"),
        ("client = 17", "has no client 17"),
        ("round = 0", "1 or more"),
        ("recoding = 'x'", "did you mean 'recording'"),
    ],
)
def test_what_is_not_in_the_recording_is_named(more: str, says: str, run: Path, tmp_path: Path) -> None:
    with pytest.raises(SeepageError, match=says):
        audited(run, tmp_path, more)


def test_a_model_that_the_arrays_do_not_fit_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'1\.bias' has shape"):
        audited(run, tmp_path, net="cnn")


def test_a_folder_that_is_no_recording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no recording of a federated run"):
        audited(tmp_path, tmp_path)


def changed(name: str, change: Any) -> Any:
    """A damage: the arrays of client 2 in the first round, changed."""

    def damage(folder: Path) -> None:
        arrays = load_file(folder / name)
        change(arrays)
        save_file(arrays, folder / name)

    return damage


def put(value: float) -> Any:
    return changed("client-2.safetensors", lambda arrays: arrays["1.weight"].__setitem__((0, 0), value))


def without_lines(folder: Path) -> None:
    place = folder / "client-2.json"
    place.write_bytes(place.read_bytes()[:40])


def with_words(folder: Path) -> None:
    place = folder / "client-2.json"
    place.write_text(place.read_text("utf-8").replace('"round": 1', '"round": "one"'), "utf-8")


DAMAGES = {
    "NaN": (put(np.nan), "holds NaN or infinite values"),
    "infinite": (put(-np.inf), "holds NaN or infinite values"),
    "arrays cut short": (
        lambda folder: (folder / "client-2.safetensors").write_bytes(b"\x10" * 30),
        r"client-2\.safetensors' cannot be read",
    ),
    "arrays never written": (
        lambda folder: (folder / "client-2.safetensors").unlink(),
        r"client-2\.safetensors' cannot be read",
    ),
    "exchange cut short": (without_lines, r"client-2\.json' cannot be read"),
    "exchange of another kind": (with_words, r"client-2\.json' is damaged: round: Input should be a valid integer"),
    "other model": (
        changed("client-2.safetensors", lambda arrays: arrays.pop("3.bias")),
        r"'3\.bias' is missing",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_update_is_one_message_and_costs_no_other_client(
    name: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage, says = DAMAGES[name]
    folder = tmp_path / "r"
    shutil.copytree(run, folder)
    shutil.rmtree(folder / "rounds" / "0002")
    damage(folder / "rounds" / "0001")
    file = tmp_path / "audit.toml"
    file.write_text(audit_text(folder, 'round = 1\nclient = "2"', attacks='[[attack]]\nname = "linear-layer"'), "utf-8")
    for command in (["audit", str(file), "--out", str(tmp_path / "runs"), "--quiet"], ["plan", str(file)]):
        assert status(command) == 2
        said = capsys.readouterr().err
        assert re.search(says, said.replace("\n", " ")), said
        assert "Traceback" not in said
    found, _ = audit_rounds(file, out=tmp_path / "runs")
    assert [(row.client, row.status == "done") for row in found.rows] == [("1", True), ("2", False), ("3", True)]
    assert re.search(says, found.rows[1].reason)


def status(command: list[str]) -> int:
    """What the command line exits with."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["seepage", *command])
        with pytest.raises(SystemExit) as ended:
            main()
    return int(ended.value.code or 0)


def test_a_recording_of_a_later_version_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "r"
    shutil.copytree(run, folder)
    place = folder / "recording.json"
    place.write_text(place.read_text("utf-8").replace('"version": 1', '"version": 2'), "utf-8")
    file = tmp_path / "audit.toml"
    file.write_text(audit_text(folder), "utf-8")
    for command in (["audit", str(file)], ["rounds", str(file)]):
        assert status(command) == 2
        assert "of version 2, this Seepage reads up to 1: update Seepage" in capsys.readouterr().err
    place.write_text("{", "utf-8")
    with pytest.raises(DataError, match=r"recording\.json' cannot be read"):
        Recording.open(folder)


def test_arrays_in_half_precision_are_read_and_said_to_be(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "r"
    shutil.copytree(run, folder)

    def halved(arrays: dict[str, np.ndarray]) -> None:
        arrays.update({name: array.astype(np.float16) for name, array in arrays.items()})

    for place in (folder / "rounds" / "0001").glob("*.safetensors"):
        changed(place.name, halved)(place.parent)
    record = audited(folder, tmp_path, attacks='[[attack]]\nname = "linear-layer"')
    assert record.findings[0].status == "done"
    assert record.victim["arrays_as"] == "float16"
    assert "arrays_as" not in audited(run, tmp_path, attacks='[[attack]]\nname = "linear-layer"').victim


def test_a_client_that_failed_is_no_part_of_the_mean(tmp_path: Path) -> None:
    mean = picked(Recording.open(recording(tmp_path / "r", fails=1)), 1, "all")
    assert (mean.clients, mean.records) == (2, RECORDS)


def test_running_statistics_are_no_parameters(tmp_path: Path) -> None:
    folder = recording(tmp_path / "r", "cnn")
    first = Recording.open(folder).pick(1, "1").after()
    assert isinstance(first, dict)
    assert {"1.running_mean", "1.running_var", "1.num_batches_tracked"} <= set(first)
    more = "\n[federated]\nmode = 'train'"
    attack = '[[attack]]\nname = "llg"'
    for client, clients in (("1", 1.0), ("all", 3.0)):
        record = audited(folder, tmp_path, f'round = 1\nclient = "{client}"{more}', net="cnn", attacks=attack)
        assert record.victim["parameters"] == sum(weight.numel() for weight in cnn().parameters())
        # A mean and a variance; the count of batches is no statistic.
        assert record.victim["buffers_sent"] == 2.0
        assert record.victim["clients"] == clients
    mean, seen = picked(Recording.open(folder), 1, "all"), Recording.open(folder).exchanges[:3]
    every = [one.after()["1.running_mean"] for one in seen]  # type: ignore[call-overload]
    np.testing.assert_allclose(mean.after["1.running_mean"], np.mean(every, axis=0), atol=1e-6)


def test_without_the_extra_audits_work_and_recording_says_what_to_install(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "audit.toml"
    file.write_text(audit_text(run).replace(f"{__name__}:mlp", "tiny:net"), "utf-8")
    (tmp_path / "tiny.py").write_text(
        "from torch import nn\n\n\ndef net():\n"
        f"    return nn.Sequential(nn.Flatten(), nn.Linear(64, 150), nn.ReLU(), nn.Linear(150, {CLASSES}))\n",
        "utf-8",
    )
    code = (
        "import sys; sys.modules['flwr'] = None\n"
        "from seepage.audit.rounds import audit_rounds\n"
        "from seepage.core.errors import ConfigError\n"
        f"found, _ = audit_rounds({str(file)!r})\n"
        "assert all(row.status == 'done' for row in found.rows), found.rows\n"
        "try:\n    import seepage.targets.flower\n"
        "except ConfigError as error:\n    print(error)\n"
    )
    own = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(tmp_path)])}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=own, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "needs the package 'flwr': pip install 'seepage[fl]'" in done.stdout


def test_rounds_are_those_of_a_recording(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text(
        '[victim]\nkind = "torch"\n[data]\nmembers = "x.npz"\n[[attack]]\nname = "auto"\n', encoding="utf-8"
    )
    with pytest.raises(ConfigError, match="'flower' was wanted"):
        audit_rounds(file)
