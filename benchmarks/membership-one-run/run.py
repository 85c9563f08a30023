"""Lower bounds on epsilon from one run, beside those of jax_privacy, and how often they are wrong on noise.

The last line is one JSON object.
"""

import json
import time

import numpy as np

from seepage.models.accounting import gaussian_epsilon
from seepage.scoring.epsilon import Guesses, one_run, one_run_gaussian, split

DELTA = 1e-5
# (canaries, guesses made, right): by Steinke et al. 2023, and by Mahloujifar et al. 2024 for Gaussian mechanisms, as
# jax_privacy's `CanaryScoreAuditor` gives them at a confidence of 0.95.
PEER = {
    (1000, 100, 100): (3.465, 5.549),
    (1000, 100, 90): (1.626, 2.456),
    (1000, 1000, 750): (0.976, 1.819),
    (1000, 1000, 600): (0.297, 0.584),
    (5000, 500, 490): (3.336, 4.950),
    (10000, 10000, 5600): (0.208, 0.351),
}
NOISE_RUNS, NOISE_CANARIES = 200, 200
# (mu of a Gaussian mechanism, canaries).
MECHANISMS = ((0.5, 2000), (1.0, 2000), (2.0, 2000))
REPEATS = 20
BOUNDS = {"steinke": one_run, "gaussian": one_run_gaussian}


def drawn(m: int, mu: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Scores of canaries under a Gaussian mechanism, and which were included."""
    included = rng.random(m) < 0.5
    return rng.normal(size=m) + mu * included, included


def main() -> None:
    result: dict[str, object] = {}
    furthest = 0.0
    for counts, theirs in PEER.items():
        began = time.process_time()
        ours = [bound(Guesses(*counts), DELTA) for bound in BOUNDS.values()]
        furthest = max(furthest, *(abs(a - b) for a, b in zip(ours, theirs, strict=True)))
        name = ",".join(map(str, counts))
        row = dict(zip(BOUNDS, (round(one, 4) for one in ours), strict=True))
        result[name] = row | {"peer_steinke": theirs[0], "peer_gaussian": theirs[1]}
        print(f"{name}: {result[name]} in {time.process_time() - began:.2f} s", flush=True)
    result["furthest_apart"] = round(furthest, 5)
    for name, bound in BOUNDS.items():
        rng = np.random.default_rng(20261128)
        wrong = sum(split(*drawn(NOISE_CANARIES, 0.0, rng), DELTA, bound, rng)[0] > 0 for _ in range(NOISE_RUNS))
        result[f"{name}_false_on_noise"] = wrong / NOISE_RUNS
        print(f"{name}, noise alone: {wrong} of {NOISE_RUNS} bounds above 0 (5 % is what they state)", flush=True)
        for mu, m in MECHANISMS:
            truth = gaussian_epsilon(1 / mu, DELTA) or 0.0
            found = np.array([split(*drawn(m, mu, rng), DELTA, bound, rng)[0] for _ in range(REPEATS)])
            row = {"epsilon": round(truth, 3), "median_bound": round(float(np.median(found)), 3)}
            row |= {"above": float((found > truth).mean())}
            result[f"{name}_mu_{mu:g}"] = row
            print(f"{name}, Gaussian mechanism of mu {mu:g}, {m} canaries: {row}", flush=True)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
