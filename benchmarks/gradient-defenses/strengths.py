"""What a defense costs in accuracy, at the server's rate that suits it, and the strongest that costs little."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from arms import CHOOSE, LOSS, REPORT, Arm, Mode, label
from played import content, defenses_of, setting_of

from seepage.audit.config import SweepTraining
from seepage.audit.setting import Setting
from seepage.sweep.costs import trained_cost

# Rates of the server; each defense gets the one that suits it, found on the splits to choose on.
RATES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
USUAL, CLIENTS = 2, 10


@dataclass
class Federations:
    """Federations trained behind defenses, each kept in the store under everything that decides it.

    Attributes:
        mode: how many rounds.
        out: folder of the store.
        note: told after every training: what it was.
    """

    mode: Mode
    out: Path
    note: Callable[[str], None]
    _settings: dict[str, Setting] = field(default_factory=dict)
    _plain: float | None = None

    def accuracy(self, arm: Arm, seed: int, rate: int, federated: Mapping[str, Any] | None = None) -> float:
        """On held-out records, after all rounds at RATES[rate]."""
        name = f"{seed} {federated}"
        if name not in self._settings:
            self._settings[name] = setting_of(content(seed, federated or {}, {}, []), self.out)
        training = SweepTraining(rounds=self.mode.rounds, clients=CLIENTS, rate=RATES[rate])
        found = trained_cost(self._settings[name], defenses_of([arm])[0], training)
        told = f"{label(arm)}, rate {RATES[rate]:g}, seed {seed}" + (f", {federated}" if federated else "")
        self.note(f"training: {told}")
        return statistics.mean(found.hits)

    def best(
        self,
        arm: Arm,
        seeds: Sequence[int],
        enough: float | None = None,
        start: int = USUAL,
        federated: Mapping[str, Any] | None = None,
    ) -> tuple[float, int]:
        """The best mean accuracy over rates, and its rate: uphill from `start`, and no further than to `enough`."""
        tried: dict[int, float] = {}

        def at(rate: int) -> float:
            if rate not in tried:
                told = [self.accuracy(arm, seeds[0], rate, federated)]
                # A first split far off decides: the others are not trained for.
                if enough is None or told[0] >= enough - LOSS:
                    told += [self.accuracy(arm, seed, rate, federated) for seed in seeds[1:]]
                tried[rate] = statistics.mean(told)
            return tried[rate]

        here = start
        while enough is None or at(here) < enough:
            ways = [rate for rate in (here + 1, here - 1) if 0 <= rate < len(RATES)]
            better = next((rate for rate in ways if at(rate) > at(here)), None)
            if better is None:
                break
            here = better
        return tried[here], here

    @property
    def plain(self) -> float:
        """Without a defense, on the splits to choose on."""
        if self._plain is None:
            self._plain = self.best(None, CHOOSE)[0]
        return self._plain

    def chosen(self, name: str, strengths: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], int] | None:
        """The strongest setting that loses at most LOSS, and its rate; None where even the weakest loses more.

        By bisection: a stronger one is taken not to cost less.
        """
        good, bad, start, found = -1, len(strengths), USUAL, None
        while bad - good > 1:
            middle = (good + bad) // 2
            told, rate = self.best((name, strengths[middle]), CHOOSE, self.plain - LOSS, start)
            if told >= self.plain - LOSS:
                good, found, start = middle, (strengths[middle], rate), rate
            else:
                bad = middle
        return found

    def reported(self, arm: Arm, rate: int | None = None, federated: Mapping[str, Any] | None = None) -> float:
        """On the split that is reported; the rate is found on the first split to choose on where it is not given."""
        if federated and federated.get("update") == "delta":
            return self.accuracy(arm, REPORT, USUAL, federated)
        if rate is None:
            rate = self.best(arm, CHOOSE[:1], federated=federated)[1]
        return self.accuracy(arm, REPORT, rate, federated)
