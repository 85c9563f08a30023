"""Every inversion attack with its plain defaults on digits and on a small medical image set. Minutes: `make slow`."""

from pathlib import Path

import numpy as np
import pytest

import seepage
from seepage.core.attack import InversionAttack
from seepage.core.record import AuditRecord
from seepage.core.records import Records, Splits
from seepage.core.registry import ATTACKS, attack_class
from seepage.core.vocabulary import Modality
from seepage.data import load_builtin, split_identities
from seepage.models.recipes import fit_cnn, fit_softmax

INVERSION = sorted(name for name in ATTACKS if issubclass(attack_class(name), InversionAttack))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def _digits() -> Splits:
    return split_identities(load_builtin("digits"), private=5, members_per_class=60, seed=1)


def _xrays(shared: Path) -> Splits:
    """Members and non-members with both classes; other patients without classes are public."""
    file = shared / "medmnist" / "pneumoniamnist.npz"
    if not file.is_file():
        pytest.skip(f"needs {file.name} (PneumoniaMNIST)")
    held = np.load(file)
    x = (held["train_images"].astype(np.float32) / 255)[:, None]
    y = held["train_labels"].reshape(-1).astype(np.int64)
    order = np.random.default_rng(0).permutation(len(x))
    parts = [order[:200], order[200:400], order[400:1000]]
    names = ("normal", "pneumonia")
    members, nonmembers = (Records(x[rows], y[rows], names, modality=Modality.IMAGE) for rows in parts[:2])
    return Splits(members, nonmembers, Records(x[parts[2]], None, (), modality=Modality.IMAGE))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("everywhere")


@pytest.mark.parametrize("name", INVERSION)
@pytest.mark.parametrize("data", ["digits", "x-rays"])
def test_plain_defaults_work(name: str, data: str, runs: Path, request: pytest.FixtureRequest) -> None:
    splits = _digits() if data == "digits" else _xrays(request.getfixturevalue("shared_data"))
    fit = fit_softmax if data == "digits" else fit_cnn
    model = fit(splits.members.x, splits.members.labels(), 0)
    record: AuditRecord = seepage.audit(
        model,
        members=splits.members,
        nonmembers=splits.nonmembers,
        public=splits.public,
        access="weights",
        attacks=[name],
        out=runs,
    )
    (finding,) = record.findings
    assert finding.status == "done", finding.error
    assert finding.score is not None
    assert finding.score.value is not None
    assert finding.score.controls["no_model"] is not None
