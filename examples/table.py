"""A table with texts and gaps, a scikit-learn pipeline, and a regressor on the same people: who was trained on?"""

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

import seepage
from seepage.report import write_reports


def people(n=900, seed=0):
    """Made-up people: numbers, texts, some of both missing; what they earn, and whether that is much."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "age": rng.integers(18, 80, n),
            "hours": np.where(rng.random(n) < 0.1, np.nan, rng.normal(38, 9, n).round(1)),
            "work": rng.choice(["private", "state", "self-employed", None], n, p=[0.6, 0.2, 0.15, 0.05]),
            "town": rng.choice(["Aberdeen", "Bergen", "Cork", "Delft"], n),
            "distance": rng.exponential(12, n).round(1),
        }
    )
    earned = 600 + 22 * frame.age + 25 * frame.hours.fillna(38) + 400 * (frame.work == "state")
    frame["wage"] = (earned + rng.normal(0, 500, n)).round(2)
    return frame.assign(income=np.where(frame.wage > frame.wage.median(), "high", "low"))


def pipeline(last):
    """The table as it is goes in: gaps are filled and texts coded inside."""
    texts = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
    coded = make_column_transformer((texts, ["work", "town"]), (SimpleImputer(), ["age", "hours", "distance"]))
    return make_pipeline(coded, last)


def classify(x, y, seed):
    return pipeline(RandomForestClassifier(60, random_state=seed % 2**32)).fit(x, y)


def predict_wage(x, y, seed):
    return pipeline(RandomForestRegressor(60, random_state=seed % 2**32)).fit(x, y)


frame = people()
for target, other, fit in (("income", "wage", classify), ("wage", "income", predict_wage)):
    members, nonmembers, public = (frame[start::3].drop(columns=other) for start in range(3))
    model = fit(members.drop(columns=target), members[target], seed=0)
    record = seepage.audit(
        model, members=members, nonmembers=nonmembers, public=public, target=target, recipe=fit, attacks="threshold"
    )
    print(f"{target}: {record.verdict('membership')}", *record.verdict("membership").reasons, sep="\n  ")
    print(write_reports(record.folder)["report"])
