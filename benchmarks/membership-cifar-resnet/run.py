"""Membership in a published CIFAR-10 ResNet-20 that nobody here trained, without its recipe.

Members are training pictures, non-members test pictures, half of which the adversary owns. Needs, under `--data`,
`weights_cifar_resnet/resnet20-12fca82f.th` and `cifar10/` (batches of 1,000 pictures as PNG, a row a picture, and
`labels_51000.npy`). The last line is one JSON object.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from resnet import MEAN, STD, published

import seepage
from seepage.core.record import AuditRecord
from seepage.core.records import Records
from seepage.core.spec import InputSpec

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SPEC = InputSpec((3, 32, 32), mean=MEAN, std=STD)
MEMBERS, TEST = 0, 50
# Pictures asked about, of each kind; the other 500 test pictures are the adversary's.
CANDIDATES = 500
LABEL_ONLY = 100
ONE_QUERY = [
    {"name": "threshold", "statistic": statistic} for statistic in ("loss", "confidence", "entropy", "modified-entropy")
] + [
    {"name": "class-threshold"},
    {"name": "class-threshold", "statistic": "loss"},
    {"name": "quantile-regression"},
    {"name": "gradient-norm"},
    {"name": "gradient-norm", "of": "record"},
    {"name": "augmentation", "queries_per_record": 1},
]
LABELS = [
    {"name": "threshold"},
    {"name": "augmentation", "queries_per_record": 1},
    {"name": "augmentation", "queries_per_record": 12},
    {"name": "boundary-distance", "queries_per_record": 80},
]
SCORES = ("auc", "tpr_at_fpr_10", "tpr_at_fpr_1", "advantage")


def pictures(folder: Path, batch: int) -> Records:
    """A batch of 1,000 pictures in [0, 1], channels first, with their classes."""
    rows = np.asarray(Image.open(folder / f"cifar10_batch_{batch}.png").convert("RGB")).reshape(-1, 32, 32, 3)
    x = np.ascontiguousarray(rows.transpose(0, 3, 1, 2).astype(np.float32) / 255)
    y = np.load(folder / "labels_51000.npy")[1000 * batch : 1000 * (batch + 1)].astype(np.int64)
    ids = tuple(f"{batch}.{i}" for i in range(len(x)))
    return Records(x, y, NAMES, ids, source="CIFAR-10")


def told(record: AuditRecord, begin: str) -> dict[str, object]:
    """Each finding's scores with their intervals, printed and returned."""
    rows: dict[str, object] = {}
    for finding in record.findings:
        chosen = {k: v for k, v in finding.params.items() if k in ("statistic", "of", "queries_per_record")}
        name = " ".join([begin, finding.attack, *map(str, chosen.values())])
        if finding.status != "done":
            rows[name] = {"reason": None if finding.error is None else finding.error.message}
            print(f"{name}: {rows[name]}", flush=True)
            continue
        row: dict[str, object] = {"queries": finding.queries, "seconds": finding.seconds}
        for score in SCORES:
            if score in finding.scores and finding.scores[score].value is not None:
                found = finding.scores[score]
                row[score] = [None if v is None else round(v, 4) for v in (found.value, found.low, found.high)]
        row |= {k: v for k, v in finding.facts.items() if k.startswith(("regressor", "false_alarms", "gradients"))}
        rows[name] = row
        print(f"{name}: {row}", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of weights and pictures")
    data = parser.parse_args().data
    net = published(data / "weights_cifar_resnet" / "resnet20-12fca82f.th")
    members = pictures(data / "cifar10", MEMBERS)[:CANDIDATES]
    test = pictures(data / "cifar10", TEST)
    order = np.random.default_rng(0).permutation(len(test))
    nonmembers, public = test[order[:CANDIDATES]], test[order[CANDIDATES:]]
    result: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as out:
        for begin, part, other, attacks in (
            ("500/500", members, nonmembers, ONE_QUERY),
            ("100/100", members[:LABEL_ONLY], nonmembers[:LABEL_ONLY], LABELS),
        ):
            began = time.process_time()
            record = seepage.audit(
                net,
                members=part,
                nonmembers=other,
                public=public,
                attacks=attacks,
                access="weights",
                input=SPEC,
                out=out,
                title="CIFAR-10 ResNet-20",
                progress=lambda now: print(now, file=sys.stderr),
            )
            result |= told(record, begin)
            blind = [check for check in record.checks if "blind" in check.name]
            result[f"{begin} blind"] = [f"{'passed' if check.passed else 'failed'}: {check.message}" for check in blind]
            result[f"{begin} verdict"] = str(record.verdict("membership"))
            result[f"{begin} cpu_seconds"] = round(time.process_time() - began, 1)
            print(result[f"{begin} blind"], result[f"{begin} verdict"], flush=True)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
