"""What a client sent, as it was captured: held against the model that it is of, before any record is looked at."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from seepage.audit.records import Facts, beside
from seepage.audit.round import Round
from seepage.audit.tables import DataTable, FederatedTable
from seepage.core.errors import ConfigError, DataError, did_you_mean
from seepage.core.victim import Update
from seepage.targets.update_files import Tensors, as_update, difference, fill, load_tensors, same_weights

_FILES = ("update", "before", "after")
# Keys of `[victim]` that say where an update lies, and the weights that it is of.
FROM_FILES = ("weights", *_FILES)


@dataclass(frozen=True)
class Sent:
    """An update, the model it is of, and what is known of its making.

    Attributes:
        module: the model at the weights that the server sent.
        update: what came back.
        known: what is known of the round.
        facts: what a record says of where it comes from.
        digest: what tells it from others, besides its values.
        words: what stands in the paths of `[data]` for a word in braces.
    """

    module: nn.Module
    update: Update
    known: Round
    facts: Facts = field(default_factory=dict[str, float | str | None])
    digest: Mapping[str, Any] = field(default_factory=dict[str, Any])
    words: Mapping[str, str] = field(default_factory=dict[str, str])

    def places(self, table: DataTable, base: Path) -> tuple[Path | None, Path | None, Path | None]:
        """Where the true batch, other records and public ones lie; None where they are not given."""
        members, nonmembers, public = (
            None if place is None else beside(self._named(place), base)
            for place in (table.members, table.nonmembers, table.public)
        )
        return members, nonmembers, public

    def _named(self, place: str) -> str:
        for word, value in self.words.items():
            place = place.replace(f"{{{word}}}", value)
        return place


def check_keys(options: Mapping[str, Any], known: tuple[str, ...]) -> None:
    """Nothing, unless `[victim]` has a key that such a victim does not take.

    Raises:
        ConfigError: with a "did you mean".
    """
    for name in options:
        if name not in known:
            raise ConfigError(f"[victim] unknown key '{name}': {did_you_mean(name, known)}")


def from_files(
    options: Mapping[str, Any], table: FederatedTable | None, module: nn.Module, trust_pickle: bool = False
) -> Sent:
    """What the files that `[victim]` names hold: gradients or changes by name, or the weights before and after.

    Args:
        options: those of `[victim]`, their paths resolved.
        table: `[federated]`: what is known of the round.
        module: the model; of a pair, the weights before are put into it.
        trust_pickle: whether torch files may run code.

    Raises:
        ConfigError, DataError, ModelError: for what cannot be used.
    """
    pair = "before" in options or "after" in options
    if pair == ("update" in options) or ("before" in options) != ("after" in options):
        raise ConfigError(
            '[victim] kind = "update" needs update = "..." (gradients or weight changes by name), or before = "..." '
            'and after = "..." (the weights of both), one of the two'
        )
    known = Round.of_table(table, pair)
    given = (options["before"], options["after"]) if pair else options["update"]
    update = read(module, given, known.kind, weights=options.get("weights") is not None, trust_pickle=trust_pickle)
    return Sent(module, update, known)


def read(
    module: nn.Module,
    given: Tensors | tuple[Tensors, Tensors],
    kind: str,
    *,
    weights: bool,
    trust_pickle: bool = False,
) -> Update:
    """The update, held against the module; of a pair, the weights before are put into the module.

    Args:
        module: the model.
        given: an update, or a tuple of the weights before and after.
        kind: what an update is.
        weights: whether the module has the weights of the round already: those before must then be the same.
        trust_pickle: whether torch files may run code.

    Raises:
        DataError, ModelError: for what is damaged or does not fit.
    """
    if not isinstance(given, tuple):
        return as_update(load_tensors(given, module, "update", trust_pickle), module, kind)
    if len(given) != 2:
        raise DataError(f"a tuple of the weights before and after was wanted, got {len(given)} parts")
    before, after = (load_tensors(one, module, what, trust_pickle) for one, what in zip(given, _FILES[1:], strict=True))
    if weights and (name := same_weights(module, before)) is not None:
        raise DataError(
            f"before: '{name}' differs from the weights of the model: is it an update of another model or round? Give "
            "the weights that the server sent in that round, or leave them out: before has them"
        )
    fill(module, before)
    return difference(before, after, module)
