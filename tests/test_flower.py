"""Runs of Flower recorded, and audited round by round: real `ServerApp` and `ClientApp`, in one process."""

import stat
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

from seepage.audit.api import audit_file  # noqa: E402
from seepage.audit.recorded import picked  # noqa: E402
from seepage.audit.rounds import audit_rounds  # noqa: E402
from seepage.core.errors import ConfigError, DataError, SeepageError  # noqa: E402
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


def secure(folder: Path, rounds: int = 2) -> None:
    """Flower's own SecAgg+ over four clients, by its older interface: the only one it is there for."""
    from flwr.client.mod import secaggplus_mod
    from flwr.common import ndarrays_to_parameters
    from flwr.compat.client.numpy_client import NumPyClient
    from flwr.server.compat.legacy_context import LegacyContext
    from flwr.server.server_config import ServerConfig
    from flwr.server.strategy import FedAvg as OldFedAvg
    from flwr.server.workflow import DefaultWorkflow, SecAggPlusWorkflow

    def arrays(net: nn.Module) -> list[np.ndarray]:
        return [weight.detach().numpy() for weight in net.state_dict().values()]

    class Old(NumPyClient):
        def __init__(self, number: int):
            self.number = number

        def fit(self, parameters: list[np.ndarray], config: dict[str, Any]) -> Any:
            net = mlp()
            state = dict(zip(net.state_dict(), map(torch.from_numpy, parameters), strict=True))
            net.load_state_dict(state)
            x, y = (torch.from_numpy(part) for part in shard(self.number))
            nn.functional.cross_entropy(net(x), y).backward()
            return [w.detach().numpy() - 0.1 * w.grad.numpy() for w in net.parameters()], len(x), {}

    old = ClientApp(
        client_fn=lambda context: Old(int(context.node_config["partition-id"])).to_client(), mods=[secaggplus_mod]
    )
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        torch.manual_seed(0)
        strategy = OldFedAvg(
            fraction_fit=1.0,
            fraction_evaluate=0.0,
            min_fit_clients=4,
            min_available_clients=4,
            initial_parameters=ndarrays_to_parameters(arrays(mlp())),
        )
        within = LegacyContext(context=context, config=ServerConfig(num_rounds=rounds), strategy=strategy)
        DefaultWorkflow(fit_workflow=SecAggPlusWorkflow(num_shares=3, reconstruction_threshold=2, max_weight=8))(
            grid, within
        )

    play(recorded(app, folder), old, 4, {})


@pytest.mark.filterwarnings("ignore")
def test_behind_secure_aggregation_the_mean_alone_is_read(tmp_path: Path) -> None:
    secure(tmp_path / "r")
    found = Recording.open(tmp_path / "r")
    assert not found.readable
    assert all("masked" in str(one.missing) for one in found.exchanges)
    mean = picked(found, 1, "all")
    assert mean.clients == 4
    net = mlp()
    net.load_state_dict(dict(zip(net.state_dict(), map(torch.from_numpy, mean.before), strict=True)))
    x, y = (torch.from_numpy(np.concatenate(parts)) for parts in zip(*map(shard, range(4)), strict=True))
    nn.functional.cross_entropy(net(x), y).backward()
    for weight, after in zip(net.parameters(), mean.after, strict=True):
        assert weight.grad is not None
        # The protocol rounds to steps of 16 / 2^22, times the weight it allows for over the records a client has.
        np.testing.assert_allclose(weight.detach() - 0.1 * weight.grad, after, atol=4e-5)


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


def test_rounds_are_those_of_a_recording(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text(
        '[victim]\nkind = "torch"\n[data]\nmembers = "x.npz"\n[[attack]]\nname = "auto"\n', encoding="utf-8"
    )
    with pytest.raises(ConfigError, match="'flower' was wanted"):
        audit_rounds(file)
