"""Other tools' lower bounds on epsilon at 95 %, on the same null victims; none of their code is kept here.

Each is run as it is found: installed, or from a checkout whose path is given. What is missing is skipped, with why.
"""

import ast
import importlib.util
import math
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType

import numpy as np
import scipy.stats

Array = np.ndarray
Bound = Callable[[Array, Array], float]  # scores and which were called members -> a lower bound on epsilon

DELTA = 1e-5
_TF = "tensorflow_privacy/privacy/privacy_tests/epsilon_lower_bound.py"


def peers(
    worlds: Iterable[tuple[Array, Array]], tf_privacy: str | None, privacy_meter: str | None
) -> dict[str, str | float]:
    """By tool: how many of its bounds lie above 0 where nothing leaks, or why it was skipped."""
    makers: dict[str, Callable[[], Bound]] = {
        "tf_privacy": lambda: _tf_privacy(tf_privacy),
        "privacy_meter": lambda: _privacy_meter(privacy_meter),
        "privacyguard": _privacyguard,
        "jax_privacy": _jax_privacy,
    }
    bounds: dict[str, Bound] = {}
    found: dict[str, str | float] = {}
    for name, make in makers.items():
        try:
            bounds[name] = make()
        except (ImportError, OSError, subprocess.SubprocessError) as error:
            found[name] = f"skipped: {error}"
    drawn = list(worlds) if bounds else []
    for name, bound in bounds.items():
        values = np.array([bound(scores, is_member) for scores, is_member in drawn])
        found[name] = f"{int((values > 0).sum())}/{len(values)}"
        found[f"{name}_median"] = round(float(np.median(values)), 3)
    return found


def _source(checkout: str | None, file: str) -> str:
    """A file of a checkout, with a work tree or without."""
    if checkout is None:
        raise ImportError("no checkout was given")
    if (Path(checkout) / file).is_file():
        return (Path(checkout) / file).read_text(encoding="utf-8")
    command = ["git", "-C", checkout, "show", f"HEAD:{file}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _tf_privacy(checkout: str | None) -> Bound:
    """The greatest of `EpsilonLowerBound`'s bounds by Clopper and Pearson, over the thresholds that it tries."""
    module = ModuleType("epsilon_lower_bound")
    sys.modules[module.__name__] = module
    exec(compile(_source(checkout, _TF), _TF, "exec"), module.__dict__)

    def bound(scores: Array, is_member: Array) -> float:
        made = module.EpsilonLowerBound(scores[is_member], scores[~is_member], alpha=0.05)
        return float(made.compute_epsilon_lower_bound(module.BoundMethod.CLOPPER_PEARSON, k=1)[0])

    return bound


def _privacy_meter(checkout: str | None) -> Bound:
    """`compute_abstain_attack_results`, which reports the best of all pairs of thresholds; read from its file alone."""
    wanted = ("p_value_DP_audit", "get_eps_audit", "compute_abstain_attack_results")
    tree = ast.parse(_source(checkout, "audit.py"))
    tree.body = [part for part in tree.body if isinstance(part, ast.FunctionDef) and part.name in wanted]
    known: dict[str, object] = {"np": np, "math": math, "scipy": scipy}
    exec(compile(tree, "audit.py", "exec"), known)
    run = known["compute_abstain_attack_results"]
    assert callable(run)
    return lambda scores, is_member: float(run(scores, is_member.astype(int))["eps_opt"])


def _privacyguard() -> Bound:
    """`MIAResults.compute_acc_auc_ci_epsilon`: by Clopper and Pearson, the best of all thresholds."""
    if importlib.util.find_spec("privacy_guard") is None:
        raise ImportError("privacyguard is not installed")
    import torch
    from privacy_guard.analysis.mia.mia_results import MIAResults

    def bound(scores: Array, is_member: Array) -> float:
        made = MIAResults(torch.tensor(scores[is_member]), torch.tensor(scores[~is_member]))
        return float(made.compute_acc_auc_ci_epsilon(DELTA)[2])

    return bound


def _jax_privacy() -> Bound:
    """`CanaryScoreAuditor.epsilon_one_run`, with its thresholds corrected by Bonferroni.

    Its file alone is loaded, which needs dp_accounting and no JAX.
    """
    package = importlib.util.find_spec("jax_privacy")
    if package is None or not package.submodule_search_locations:
        raise ImportError("jax_privacy is not installed")
    file = Path(package.submodule_search_locations[0]) / "auditing.py"
    auditing = ModuleType("jax_privacy_auditing")
    sys.modules[auditing.__name__] = auditing
    exec(compile(file.read_text(encoding="utf-8"), str(file), "exec"), auditing.__dict__)

    def bound(scores: Array, is_member: Array) -> float:
        made = auditing.CanaryScoreAuditor(scores[is_member], scores[~is_member])
        return float(made.epsilon_one_run(0.05, DELTA, threshold_strategy=auditing.Bonferroni()))

    return bound
