"""Membership attacks of one peer on answers that others gave: reads a job folder, writes scores and CPU seconds.

Run by run.py in a process of its own, with the folder of that peer alone on its path.
"""

import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class Game:
    """One victim and k reference models.

    Attributes:
        labels, people_labels: (n,) and (z,) classes of candidates and population.
        inside: (k, n) which candidates each reference was trained on.
        mine, my_people: (n, c) and (z, c) the victim's answers.
        theirs, their_people: (k, n, c) and (k, z, c) the references' answers.
        member: (n,) the truth. Some interfaces take members and others in two tables; no score may depend on it.
    """

    labels: Array
    people_labels: Array
    inside: Array
    mine: Array
    my_people: Array
    theirs: Array
    their_people: Array
    member: Array


def own(answers: Array, labels: Array) -> Array:
    """The probability of each record's own class: (..., n)."""
    index = np.broadcast_to(labels[:, None], (*answers.shape[:-1], 1))
    return np.take_along_axis(answers, index, axis=-1)[..., 0].astype(np.float64)


def logit(answers: Array, labels: Array) -> Array:
    """LiRA's signal log p_y - log(sum of the others)."""
    mine, tiny = own(answers, labels), np.finfo(np.float32).tiny
    others = answers.sum(axis=-1, dtype=np.float64) - mine
    return np.log(np.clip(mine, tiny, 1)) - np.log(np.clip(others, tiny, 1))


def privacy_meter(games: list[Game]) -> dict[str, Callable[[Game], Array]]:
    """Models as columns: the victim, the one that its own design pairs with it, and the references.

    The last reference stands twice: as the partner on which the offline share is tuned, and in its own place. Tuning
    takes the first two references alone.
    """
    del games
    import attacks  # of the checkout

    def columns(game: Game) -> tuple[Array, Array, Array]:
        theirs, people = own(game.theirs, game.labels), own(game.their_people, game.people_labels)
        signals = np.vstack([own(game.mine, game.labels), theirs[-1:], theirs]).T
        population = np.vstack([own(game.my_people, game.people_labels), people[-1:], people]).T
        # The victim's own column is not looked at.
        memberships = np.vstack([np.zeros_like(game.inside[:1]), game.inside[-1:], game.inside]).T
        return signals, population, memberships

    def rmia(game: Game, a: float | None = None) -> Array:
        signals, population, memberships = columns(game)
        if a is None:
            log = logging.getLogger("quiet")
            a = attacks.tune_offline_a(0, signals, population, memberships, log)[0]
        return attacks.run_rmia(0, signals, population, memberships, len(game.inside) // 2, a)

    return {
        "LOSS": lambda game: attacks.run_loss(own(game.mine, game.labels)),
        "RMIA, a tuned": rmia,
        "RMIA, a = 0.3": lambda game: rmia(game, 0.3),
    }


def privacy_guard(games: list[Game]) -> dict[str, Callable[[Game], Array]]:
    """Tables of members and others, a row a record."""
    del games
    import pandas as pd
    from privacy_guard.analysis.mia.aggregate_analysis_input import AggregationType
    from privacy_guard.attacks.lira_attack import LiraAttack
    from privacy_guard.attacks.rmia_attack import RmiaAttack

    def back(game: Game, found: Any) -> Array:
        values = np.full(len(game.labels), -np.inf)
        for table in (found.df_train_merge, found.df_test_merge):
            values[table.user_id.to_numpy()] = table.score.to_numpy()
        return np.nan_to_num(values, posinf=np.finfo(np.float64).max, neginf=np.finfo(np.float64).min)

    def lira(game: Game, **options: Any) -> Array:
        theirs = logit(game.theirs, game.labels)
        kinds = {"in": np.where(game.inside, theirs, np.nan), "out": np.where(game.inside, np.nan, theirs)}
        table = pd.DataFrame({"user_id": np.arange(len(game.labels)), "score_orig": logit(game.mine, game.labels)})
        for kind, values in kinds.items():
            table[f"score_mean_{kind}"] = np.nanmean(values, axis=0)
            table[f"score_std_{kind}"] = np.nanstd(values, axis=0, ddof=1)
        table["score_mean"], table["score_std"] = table.score_mean_out, table.score_std_out
        parts = table[game.member].copy(), table[~game.member].copy()
        return back(game, LiraAttack(*parts, AggregationType.NONE, **options).run_attack())

    def rmia(game: Game, **options: Any) -> Array:
        def table(mine: Array, theirs: Array, inside: Array) -> Any:
            columns: dict[str, Array] = {"user_id": np.arange(len(mine)), "score_orig": mine}
            columns |= {f"score_ref_{i}": row for i, row in enumerate(theirs)}
            return pd.DataFrame(columns | {f"member_ref_{i}": row for i, row in enumerate(inside)})

        candidates = table(own(game.mine, game.labels), own(game.theirs, game.labels), game.inside)
        people = own(game.their_people, game.people_labels)
        population = table(own(game.my_people, game.people_labels), people, np.zeros(people.shape, dtype=bool))
        parts = candidates[game.member], candidates[~game.member], population
        return back(game, RmiaAttack(*parts, AggregationType.NONE, **options).run_attack())

    return {
        "LiRA offline": lira,
        "LiRA online": lambda game: lira(game, online_attack=True),
        "LiRA online, fixed variance": lambda game: lira(game, online_attack=True, use_fixed_variance=True),
        "LiRA online, fixed variance, mix": lambda game: lira(
            game, online_attack=True, use_fixed_variance=True, std_dev_type="mix"
        ),
        "RMIA offline": rmia,
        "RMIA online": lambda game: rmia(game, online=True),
        "RMIA online, all models": lambda game: rmia(game, online=True, num_reference_models=len(game.inside)),
    }


def art(games: list[Game]) -> dict[str, Callable[[Game], Array]]:
    """Classifiers of answers, trained on the references', and the rule "what is answered rightly was trained on"."""
    from art.attacks.inference.membership_inference import (
        MembershipInferenceBlackBox,
        MembershipInferenceBlackBoxRuleBased,
    )
    from art.estimators.classification import BlackBoxClassifier

    first = games[0]
    classes = first.mine.shape[1]

    def estimator(answers: Array) -> Any:
        """A model whose record i is the number i."""
        return BlackBoxClassifier(lambda x: answers[np.asarray(x)[:, 0].astype(int)], (1,), classes)

    def learned(kind: str) -> Callable[[Game], Array]:
        fitted: list[Any] = []

        def attack(game: Game) -> Array:
            if not fitted:
                # The references are the same for every victim: it learns from them once.
                found = MembershipInferenceBlackBox(estimator(game.mine), attack_model_type=kind)
                labels = np.broadcast_to(game.labels, game.inside.shape)
                seen = game.inside
                found.fit(y=labels[seen], test_y=labels[~seen], pred=game.theirs[seen], test_pred=game.theirs[~seen])
                fitted.append(found)
            told = fitted[0].infer(None, game.labels, pred=game.mine, probabilities=True)
            return np.asarray(told, dtype=np.float64).reshape(-1)

        return attack

    def rule(game: Game) -> Array:
        rows = np.arange(len(game.labels), dtype=np.float32)[:, None]
        return np.asarray(MembershipInferenceBlackBoxRuleBased(estimator(game.mine)).infer(rows, game.labels), float)

    made: dict[str, Callable[[Game], Array]] = {"rule-based": rule}
    # The network reads its records one by one: with many references it takes minutes.
    kinds = ("nn", "rf", "gb") if len(first.inside) <= 4 else ("rf",)
    return made | {f"black-box, {kind}": learned(kind) for kind in kinds}


PEERS = {"privacy-meter": privacy_meter, "privacy-guard": privacy_guard, "art": art}


def main(job: Path, peer: str) -> None:
    np.random.seed(0)  # noqa: NPY002 - peers draw from it
    with np.load(job / "answers.npz") as kept:
        told, people, inside = kept["candidates"], kept["population"], kept["inside"]
        labels, people_labels, targets = kept["labels"], kept["people_labels"], int(kept["targets"])
        numbers = kept["numbers"].tolist()
    made: dict[str, Array] = {}
    for number in numbers:
        chosen = slice(targets, targets + number)
        games = [
            Game(labels, people_labels, inside[chosen], told[t], people[t], told[chosen], people[chosen], inside[t])
            for t in range(targets)
        ]
        for name, attack in PEERS[peer](games).items():
            began = time.process_time()
            with np.errstate(all="ignore"):
                made[f"{number}|{name}"] = np.stack([attack(game) for game in games])
            made[f"{number}|{name}|seconds"] = np.array((time.process_time() - began) / targets)
            print(peer, number, name, f"{made[f'{number}|{name}|seconds']:.2f} CPU s a victim", flush=True)
    np.savez(job / f"{peer}.npz", **made)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
