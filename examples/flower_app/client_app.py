"""The client, which knows nothing of Seepage."""

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from task import MODELS, shard, train

app = ClientApp()


@app.train()
def fit(message: Message, context: Context) -> Message:
    told = message.content["config"]
    torch.manual_seed(int(context.node_config["partition-id"]))
    net = MODELS[str(context.run_config["model"])]()
    net.load_state_dict(message.content["arrays"].to_torch_state_dict())
    x, y = shard(
        int(context.node_config["partition-id"]),
        int(context.node_config["num-partitions"]),
        int(context.run_config["records"]),
    )
    loss = train(
        net,
        x,
        y,
        epochs=int(told["local-epochs"]),
        batch=int(told["batch-size"]),
        lr=float(told["lr"]),
        momentum=float(told["momentum"]),
    )
    content = RecordDict(
        {
            "arrays": ArrayRecord(net.state_dict()),
            "metrics": MetricRecord({"train_loss": loss, "num-examples": len(x)}),
        }
    )
    return Message(content=content, reply_to=message)
