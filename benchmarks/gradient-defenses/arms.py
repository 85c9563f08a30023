"""What is compared: attacks by kind, defenses at their strengths, and settings that are none but help."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seepage.models.accounting import gaussian_multiplier

# A defense by catalogue name, with its parameters; None for no defense.
Arm = tuple[str, dict[str, Any]] | None

READ, SEARCHED, MALICIOUS, LABELS = "read off a layer", "searched for", "malicious server", "labels"
KINDS: Mapping[str, Sequence[str]] = {
    READ: ("linear-layer", "spear", "cocktail-party"),
    SEARCHED: ("dlg", "inverting-gradients", "latent-matching", "fedleak", "fedavg-matching"),
    MALICIOUS: ("imprint", "trap-weights", "fishing"),
    LABELS: ("untrained-counts", "idlg", "grad-inversion-labels", "llg", "ilrg", "learned-counts"),
}
# Shorter searches than by default, so that every attack can be played behind every defense; `full` takes longer ones.
PARAMS: Mapping[str, dict[str, Any]] = {
    "spear": {"samples": 500},
    "dlg": {"steps": 60},
    "inverting-gradients": {"steps": 120},
    "latent-matching": {"steps": 100, "restarts": 1},
    "fedleak": {"steps": 75},
    "fedavg-matching": {"steps": 100, "restarts": 1},
    "fishing": {"thresholds": 8},
}
MORE: Mapping[str, dict[str, Any]] = {
    "spear": {"samples": 20000},
    "dlg": {"steps": 300},
    "inverting-gradients": {"steps": 600},
    "latent-matching": {"steps": 300, "restarts": 2},
    "fedleak": {"steps": 300},
    "fedavg-matching": {"steps": 300, "restarts": 2},
    "fishing": {"thresholds": 24},
}
FEW: Mapping[str, dict[str, Any]] = {"linear-layer": {}, "inverting-gradients": {"steps": 4}, "imprint": {}, "llg": {}}

# The split that is reported, and those on which strengths and rates are chosen.
REPORT, CHOOSE = 0, (10, 11)
LOSS = 0.02
DELTA, EPSILON = 1e-5, 8.0
# Steps on records that no client holds, before the round: the checkpoint "trained".
TRAINED = 300


@dataclass(frozen=True)
class Mode:
    """How much is done.

    Attributes:
        name: "default", "small" (for a test: its figures say nothing) or "full".
        rounds: of every federation that is trained.
        params: attack -> parameters; attacks that are not named there are not played, but for "default" and "full".
        clients: who each send an update: of a table's row, of a row of epsilon 8, and of sums of 10 or more.
    """

    name: str
    rounds: int
    params: Mapping[str, dict[str, Any]]
    clients: tuple[int, int, int]

    @property
    def small(self) -> bool:
        return self.name == "small"

    def attacks(self, *without: str) -> dict[str, dict[str, Any]]:
        """Attacks with their parameters."""
        every = [name for names in KINDS.values() for name in names if name not in without]
        return {name: self.params.get(name, {}) for name in every if not self.small or name in self.params}


MODES = {
    "default": Mode("default", 100, PARAMS, (20, 40, 100)),
    "small": Mode("small", 2, FEW, (4, 4, 4)),
    "full": Mode("full", 100, MORE, (40, 100, 100)),
}


def families(mode: Mode) -> dict[str, list[dict[str, Any]]]:
    """Strengths from weak to strong: the last that costs no more than LOSS is chosen."""
    share = (1e-3, 3e-3, 1e-2, 2e-2, 3e-2, 5e-2, 7e-2, 1e-1, 3e-1, 1.0)
    found: dict[str, list[dict[str, Any]]] = {
        "clip": [{"norm": norm} for norm in (3.0, 1.0, 0.3, 0.1)],
        "gaussian-noise": [{"clip": 3.0, "multiplier": m, "rounds": mode.rounds} for m in share],
        "laplace-noise": [{"clip": 500.0, "multiplier": round(m / 100, 7), "rounds": mode.rounds} for m in share],
        "dp-sgd": [{"clip": 10.0, "multiplier": m, "rounds": mode.rounds} for m in share],
        "top-k-update": [{"keep": keep} for keep in (0.5, 0.2, 0.1, 0.05, 0.03, 0.01)],
        "quantise": [{"format": form} for form in ("fp16", "bf16", "int8", "int4")],
        "sign": [{}],
        "soteria": [{"prune": share} for share in (0.2, 0.4, 0.6, 0.8, 0.95)],
        "precode": [{"beta": beta} for beta in (0.0, 1e-4, 1e-3, 1e-2)],
    }
    return {name: found[name] for name in ("quantise",)} if mode.small else found


def fixed(mode: Mode) -> list[tuple[str, dict[str, Any]]]:
    """Arms that are played whatever they cost."""
    if mode.small:
        return [("gaussian-noise", {"clip": 3.0, "multiplier": 1.0, "rounds": mode.rounds})]
    more: list[tuple[str, dict[str, Any]]] = [("clip", {"norm": 0.1}), ("quantise", {"format": "bf16"})]
    return [
        ("gaussian-noise", {"clip": 3.0, "multiplier": 0.003, "rounds": mode.rounds}),
        ("gaussian-noise", {"clip": 3.0, "multiplier": 1.0, "rounds": mode.rounds}),
        ("dp-sgd", {"clip": 10.0, "multiplier": 1.0, "rounds": mode.rounds}),
        ("top-k-update", {"keep": 0.1}),
        ("top-k-update", {"keep": 0.01}),
        ("quantise", {"format": "fp16"}),
        ("quantise", {"format": "int8"}),
        ("quantise", {"format": "int4"}),
        ("sign", {}),
        ("soteria", {"prune": 0.8}),
        ("precode", {"beta": 1e-3}),
        *(more if mode.name == "full" else []),
    ]


def guaranteed(mode: Mode) -> list[tuple[str, dict[str, Any]]]:
    """Noise of epsilon <= 8: over all rounds, and in a federation of a single one, which needs less."""
    return [
        (
            name,
            {
                "clip": clip,
                "multiplier": math.ceil(1e3 * gaussian_multiplier(EPSILON, DELTA, rounds, apart)) / 1e3,
                "rounds": rounds,
            },
        )
        for rounds in (mode.rounds, 1)
        for name, clip, apart in (("gaussian-noise", 3.0, 2.0), ("dp-sgd", 10.0, 1.0))
    ]


# Sums are exact, or nearly, and honest models pass: a federation behind these is trained as without.
FREE = ("secure-aggregation", "encrypted-aggregation", "check-received")
# Defenses that a client who trains otherwise would not call so.
SETTINGS: Mapping[str, dict[str, Any]] = {
    "1 record": {"records": 1},
    "16 records": {"records": 16, "clients": 10},
    "32 records": {"records": 32, "clients": 10},
    "4 local steps of 1 record": {"update": "delta", "local_batch": 1, "rate": 0.1},
    "4 local steps of all 4 records": {"update": "delta", "epochs": 4, "rate": 0.1},
    "16 records, 4 passes in batches of 4": {
        "records": 16,
        "update": "delta",
        "local_batch": 4,
        "epochs": 4,
        "rate": 0.1,
        "clients": 10,
    },
}
# Attacked at the trained checkpoint too, besides no defense and what was chosen of these families.
TELLING = ("gaussian-noise", "dp-sgd", "top-k-update", "quantise", "sign")


def label(arm: Arm) -> str:
    """An arm in words: "none", or the name with its parameters; the rounds where there is one."""
    if arm is None:
        return "none"
    told = {key: value for key, value in arm[1].items() if key != "rounds" or value == 1}
    return " ".join([arm[0], *(f"{key}={v:g}" if isinstance(v, float) else f"{key}={v}" for key, v in told.items())])
