"""The server: a stock strategy, and one line that records what it sends out and gets back."""

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from task import MODELS

from seepage.targets.flower import recorded

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    run = context.run_config
    torch.manual_seed(0)
    net = MODELS[str(run["model"])]()
    told = {name: run[name] for name in ("lr", "momentum", "local-epochs", "batch-size")}
    strategy = FedAvg(fraction_train=1.0, fraction_evaluate=0.0, min_available_nodes=2, min_train_nodes=2)
    strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(net.state_dict()),
        train_config=ConfigRecord(told),
        num_rounds=int(run["num-server-rounds"]),
    )


app = recorded(app, "runs/flower-recording")
