"""A scikit-learn model audited from Python: does a random forest give its training records away?"""

from sklearn.ensemble import RandomForestClassifier

import seepage
from seepage.data import load_builtin, split_records
from seepage.report import write_reports


def fit(x, y, seed):
    return RandomForestClassifier(30, random_state=seed % 2**32).fit(x.reshape(len(x), -1), y)


data = split_records(load_builtin("digits"))  # members, non-members and public records
model = fit(data.members.x, data.members.y, seed=0)
record = seepage.audit(
    model, members=data.members, nonmembers=data.nonmembers, public=data.public, recipe=fit, budget=10_000
)
for leak, found in record.verdicts.items():
    print(f"{leak}: {found.verdict}", *found.reasons, sep="\n  ")
print(write_reports(record.folder)["report"])
