"""Play the app in this process, and record what its server sees: python examples/flower_app/run.py

With the framework's own servers instead: `flwr run examples/flower_app`.
"""

import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from client_app import app as client
from server_app import app as server

from seepage.testing.flower import play

SETTINGS = {
    "model": "mlp",
    "records": 8,
    "num-server-rounds": 3,
    "lr": 0.1,
    "momentum": 0.0,
    "local-epochs": 1,
    "batch-size": 8,
}

if __name__ == "__main__":
    shutil.rmtree("runs/flower-recording", ignore_errors=True)
    changes = dict(pair.split("=", 1) for pair in sys.argv[1:])
    play(server, client, 4, {name: type(value)(changes.get(name, value)) for name, value in SETTINGS.items()})
    print("recorded: runs/flower-recording")
