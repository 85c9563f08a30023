"""The scenario a deployer fears: the model behind HTTP, with a key and a rate limit, gives what it gives in process."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from seepage.core.record import AuditRecord
from seepage.core.seeds import derive
from seepage.core.spec import InputSpec
from seepage.data import load_builtin, split_identities
from seepage.models.nets import softmax_regression
from seepage.models.recipes import fit_softmax
from seepage.store.files import read_record
from seepage.targets import wrap

sys.path.insert(0, str(Path(__file__).parents[1]))
from fixtures_http import Reply, Request, Server

KEY = "s3cret-key"
SEED = 3
BUDGET = 3000
COMMON = f"""
title = "Digits, from outside and from inside"
seed = {SEED}
[data]
builtin = "digits"
split = "identities"
private = 5
members_per_class = 20
[recipe]
fit = "softmax"
options = {{ epochs = 1 }}
[[attack]]
name = "nes"
[[attack]]
name = "threshold"
[victim]
access = "scores"
budget = {BUDGET}
input = {{ shape = [1, 8, 8] }}
"""


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    members = split_identities(
        load_builtin("digits"), private=5, members_per_class=20, seed=derive(SEED, "split")
    ).members
    return fit_softmax(members.x, members.labels(), 0, epochs=1)


def _record(seepage, tmp_path: Path, victim: str, **environment: str) -> AuditRecord:
    file = tmp_path / "audit.toml"
    file.write_text(COMMON + victim)
    done = seepage("audit", str(file), "--out", str(tmp_path / "runs"), "--processes", "1", **environment)
    assert done.returncode == 0, done.stderr
    (run,) = [path for path in (tmp_path / "runs").iterdir() if (path / "record.json").exists()]
    assert KEY not in "".join(path.read_text() for path in run.rglob("*.json*"))
    return read_record(run / "record.json")


def test_the_endpoint_gives_what_the_model_in_hand_gives(seepage, network: torch.nn.Module, tmp_path: Path) -> None:
    model = wrap(network, InputSpec((1, 8, 8)))
    refused = {"key": 0, "rate": 0}
    answered: list[int] = []

    def play(request: Request, before: int) -> Reply:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            refused["key"] += 1
            return Reply({"error": "no key"}, status=401)
        if before % 9 == 4:
            refused["rate"] += 1
            return Reply({"error": "slow down"}, status=429, headers={"retry-after": "0"})
        x = np.asarray(request.body["inputs"], dtype=np.float32)
        answered.append(len(x))
        return Reply({"predictions": model.predict(x).tolist()})

    with Server(play) as server:
        outside = _record(
            seepage,
            tmp_path,
            f"""kind = "http"
url = "{server.url}/predict"
classes = 5
answers = "scores"
batch = 256
backoff = 0.01
headers = {{ Authorization = "Bearer env:SEEPAGE_TEST_KEY" }}
""",
            SEEPAGE_TEST_KEY=KEY,
        )
    assert refused["key"] == 0
    assert refused["rate"] > 0

    inside_folder = tmp_path / "inside"
    inside_folder.mkdir()
    save_file(network.state_dict(), inside_folder / "net.safetensors")
    (inside_folder / "own_digits.py").write_text(
        "from seepage.models.nets import softmax_regression\n"
        "def build():\n    return softmax_regression((1, 8, 8), 5)\n"
    )
    inside = _record(
        seepage,
        inside_folder,
        'kind = "torch"\nbuild = "own_digits:build"\nweights = "net.safetensors"\n',
    )
    assert softmax_regression((1, 8, 8), 5).state_dict().keys() == network.state_dict().keys()

    for far, near in zip(outside.findings, inside.findings, strict=True):
        assert far.attack == near.attack
        assert far.status == near.status == "done", far.error
        assert far.queries == near.queries <= BUDGET
        assert far.score is not None
        assert near.score is not None
        assert far.score.leakage is not None
        assert near.score.leakage is not None
        # The same answers, so the same finding.
        assert far.score.value == pytest.approx(near.score.value, abs=1e-6)
        assert far.score.strongest_control == near.score.strongest_control
        assert far.score.leakage.value == pytest.approx(near.score.leakage.value, abs=1e-6)
        assert far.score.leakage.low == pytest.approx(near.score.leakage.low, abs=1e-6)
    # What the endpoint answered is what the attacks and the audit's own looks asked, and no more.
    own = sum(finding.queries for finding in outside.findings)
    assert sum(answered) <= own + float(outside.victim["queries_by_the_audit_itself"] or 0)
    assert outside.verdicts == inside.verdicts
