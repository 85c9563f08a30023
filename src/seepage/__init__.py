"""Seepage measures what a trained model gives away about the data it was trained on, and stops it.

The public names are loaded when they are first used, so that `import seepage` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from seepage.audit.api import audit as audit
    from seepage.audit.rounds import audit_rounds as audit_rounds
    from seepage.audit.updates import audit_update as audit_update
    from seepage.core.attack import Attack as Attack
    from seepage.core.case import Case as Case
    from seepage.core.defense import Defense as Defense
    from seepage.core.errors import SeepageError as SeepageError
    from seepage.core.recipe import Recipe as Recipe
    from seepage.core.record import AuditRecord as AuditRecord
    from seepage.core.record import Finding as Finding
    from seepage.core.records import Records as Records
    from seepage.core.spec import Bounds as Bounds
    from seepage.core.spec import InputSpec as InputSpec
    from seepage.core.target import Target as Target
    from seepage.core.vocabulary import Access as Access
    from seepage.core.vocabulary import Leak as Leak

_PUBLIC = {
    "audit": "seepage.audit.api",
    "audit_rounds": "seepage.audit.rounds",
    "audit_update": "seepage.audit.updates",
    "Attack": "seepage.core.attack",
    "Case": "seepage.core.case",
    "Defense": "seepage.core.defense",
    "SeepageError": "seepage.core.errors",
    "AuditRecord": "seepage.core.record",
    "Finding": "seepage.core.record",
    "Recipe": "seepage.core.recipe",
    "Records": "seepage.core.records",
    "Bounds": "seepage.core.spec",
    "InputSpec": "seepage.core.spec",
    "Target": "seepage.core.target",
    "Access": "seepage.core.vocabulary",
    "Leak": "seepage.core.vocabulary",
}

__all__ = [
    "Access",
    "Attack",
    "AuditRecord",
    "Bounds",
    "Case",
    "Defense",
    "Finding",
    "InputSpec",
    "Leak",
    "Recipe",
    "Records",
    "SeepageError",
    "Target",
    "__version__",
    "audit",
    "audit_rounds",
    "audit_update",
]


def __getattr__(name: str) -> Any:
    if name == "audit":
        # The package, which can be called: `import seepage.audit.api` and `seepage.audit(...)` then both work.
        return import_module("seepage.audit")
    if name in _PUBLIC:
        value = getattr(import_module(_PUBLIC[name]), name)
        globals()[name] = value
        return value
    if name in ("targets", "data", "attacks", "testing", "report", "store", "sweep"):
        return import_module(f"seepage.{name}")
    raise AttributeError(f"module 'seepage' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
