"""Frontiers made up for tests: no federation behind them."""

from typing import Any

from seepage.core.frontier import Axis, Cost, Frontier, Row, Strongest, SweepRun
from seepage.core.record import Applied, Estimate, Failure, Tool
from seepage.sweep.advice import advise, main_measure, rules

AXES = [
    Axis(key="federated.records", title="records a client", values=[1, 8], role="choice"),
    Axis(key="federated.epochs", title="local epochs", values=[1, 4], role="choice"),
    Axis(key="federated.trained", title="steps trained before", values=[0, 300], role="condition"),
]


def leak(value: float, upper: float, ruling: str, **more: Any) -> Strongest:
    """What one attack shows, of 90 clients."""
    return Strongest.model_validate(
        {
            "measure": "record_identified",
            "title": "Records identified among others",
            "attack": "linear-layer",
            "attack_title": "Linear layer",
            "value": value,
            "low": max(value - 0.05, 0.0),
            "high": min(value + 0.05, 1.0),
            "control": 0.0,
            "leakage": Estimate(value=value, low=value - 0.06, high=upper),
            "upper": upper,
            "n": 90,
            "unit": "client",
            "ruling": ruling,
            "smallest_effect": 0.08,
            "tried": ["linear-layer"],
            **more,
        }
    )


def cost(accuracy: float, loss: float = 0.0, **more: Any) -> Cost:
    """A federation of which 600 records were held out."""
    return Cost.model_validate(
        {
            "accuracy": Estimate(value=accuracy, low=accuracy - 0.02, high=accuracy + 0.02),
            "loss": Estimate(value=loss, low=loss - 0.01, high=loss + 0.01),
            "held_out": 600,
            "rounds": 60,
            "clients": 10,
            "bytes_dense": 4000.0,
            "bytes_a_round": 4000.0,
            "bytes_note": "32 bits a value",
            "seconds_a_round": 0.004,
            "seconds_ratio": 1.0,
            **more,
        }
    )


def row(
    name: str, records: int, epochs: int, trained: int, found: Strongest | None, paid: Cost | None, **more: Any
) -> Row:
    """A point; behind no defense unless `defense_label` says another."""
    label = more.get("defense_label", "none")
    setting = {"federated.records": records, "federated.epochs": epochs, "federated.trained": trained}
    return Row.model_validate(
        {
            "id": name,
            "setting": setting,
            "defense": None if label == "none" else Applied(name=label.split()[0]),
            "label": ", ".join(f"{axis.title} = {setting[axis.key]}" for axis in AXES),
            "defense_label": label,
            "status": "done" if found else "failed",
            "error": None if found else Failure(type="DataError", message="too few members"),
            "run": "20260101T000000Z-abcdef01",
            "seed": 7,
            "leaks": {} if found is None else {found.measure: found},
            "cost": paid,
            **more,
        }
    )


def rows() -> list[Row]:
    """Bare updates leak, strong noise is dear, weak noise is within the tolerance but for one condition."""
    found: list[Row] = []
    for records in (1, 8):
        for epochs in (1, 4):
            for trained in (0, 300):
                place = f"{records}-{epochs}-{trained}"
                good = 0.80 + 0.02 * epochs + 0.005 * records
                found.append(
                    row(f"{place}-0", records, epochs, trained, leak(0.9, 0.95, "leaks"), cost(good)),
                )
                quiet = leak(0.01, 0.30 if trained and records == 1 else 0.07, "inconclusive")
                quiet = quiet if quiet.upper > 0.1 else quiet.model_copy(update={"ruling": "no leak found"})
                weak = cost(good - 0.01, 0.01, dp_delta=1e-5, dp_rounds=60, missing={"dp_epsilon": "none below 10,000"})
                found.append(row(f"{place}-1", records, epochs, trained, quiet, weak, defense_label="noise weak"))
                strong = cost(0.3, 0.5, dp_epsilon=6.0, dp_delta=1e-5, dp_rounds=60)
                found.append(
                    row(
                        f"{place}-2",
                        records,
                        epochs,
                        trained,
                        leak(0.0, 0.06, "no leak found"),
                        strong,
                        defense_label="noise strong",
                    )
                )
    return found


def frontier(some: list[Row] | None = None, again: list[Row] | None = None, title: str = "A federation") -> Frontier:
    """A whole frontier with its advice."""
    listed, more = rows() if some is None else some, again or []
    return Frontier(
        tool=Tool(version="0.1.0"),
        title=title,
        run=SweepRun(
            id="sweep-20260101T000000Z-abcdef01",
            started="2026-01-01T00:00:00+00:00",
            finished="2026-01-01T00:05:00+00:00",
            seconds=300.0,
            processes=2,
            reused=0,
        ),
        environment={"python": "3.11"},
        axes=AXES,
        measure=main_measure(listed),
        tolerance=0.1,
        tolerance_from="[verdict] tolerance",
        rows=listed,
        confirmation=more,
        advice=advise(listed, more, AXES, 0.1),
        rules=rules(0.1, "[verdict] tolerance"),
        config={"sweep": {"axes": {"federated.records": [1, 8]}}},
    )
