"""How records become the body of a request, and the body of an answer becomes rows. No network here.

Two formats: JSON whose shape the user describes, and the Open Inference Protocol, version 2
(https://github.com/kserve/open-inference-protocol), which KServe, Triton and MLServer speak.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float

from seepage.core.errors import ConfigError, EndpointError, did_you_mean
from seepage.targets.answers import fit_shape

Array = np.ndarray
Pairs = tuple[tuple[Any, float], ...]

_ONE = ("$record", "$named")
_MANY = ("$records", "$named_records")


@dataclass(frozen=True)
class Answer:
    """What was answered about some records; exactly one of the three is there.

    Attributes:
        rows: (n, k) numbers, k scores a record in the order of the classes.
        labels: n labels.
        pairs: for each record, labels with their scores, in any order.
    """

    rows: Array | None = None
    labels: tuple[Any, ...] | None = None
    pairs: tuple[Pairs, ...] | None = None


class Wire(Protocol):
    """One format of requests and answers."""

    @property
    def at_most(self) -> int | None:
        """How many records one request may hold; None for any number."""
        ...

    def body(self, x: Float[Array, " n ..."]) -> Any:
        """The JSON that asks about prepared records."""
        ...

    def read(self, answer: Any, n: int, answers: str) -> Answer:
        """What a JSON answer says about `n` records, read as "scores", "top_k", "labels" or "auto".

        Raises:
            EndpointError: when it cannot be read so.
        """
        ...


@dataclass(frozen=True)
class JsonWire:
    """JSON in a shape that the user describes.

    Attributes:
        request: the body, with one placeholder in it as a value: "$records" (a list of records),
            "$record" (one record a request), or, for tables, "$named_records" and "$named" (objects
            by feature name).
        response: where the answer lies: keys and list indices joined by dots, "*" for each element
            of a list; empty for the whole body.
        label_key, score_key: the keys of answers like `{"label": "cat", "score": 0.9}`.
        flatten: whether a record is sent as one flat list of numbers.
        features: names of a table's columns.
    """

    request: Any
    response: str
    label_key: str = "label"
    score_key: str = "score"
    flatten: bool = False
    features: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        found = _placeholders(self.request)
        if len(found) != 1:
            raise ConfigError(
                f"request should hold one placeholder, {', '.join((*_MANY, *_ONE))}, as a value; it holds "
                f"{', '.join(found) or 'none'}"
            )
        if found[0] in ("$named", "$named_records") and not self.features:
            raise ConfigError(f"{found[0]} sends records by feature name: give the input's features")

    @property
    def at_most(self) -> int | None:
        return 1 if _placeholders(self.request)[0] in _ONE else None

    def body(self, x: Float[Array, " n ..."]) -> Any:
        named = _placeholders(self.request)[0] in ("$named", "$named_records")
        values = x.reshape(len(x), -1) if self.flatten or named else x
        records: list[Any] = values.tolist()
        if named:
            records = [dict(zip(self.features, record, strict=True)) for record in records]
        return _fill(self.request, records if self.at_most is None else records[0])

    def read(self, answer: Any, n: int, answers: str) -> Answer:
        value = _follow(answer, self.response)
        if self.at_most == 1:
            items = [self._unwrapped(value)]
        elif isinstance(value, list) and len(value) == n:
            items: list[Any] = value
        else:
            came = f"a list of {len(value)}" if isinstance(value, list) else f"a {type(value).__name__}"
            raise EndpointError(
                f"{n} records were sent and at '{self.response}' came {came}; a list with one entry a record was "
                'wanted (send one record a request with "$record", or say where the answer lies with response=)'
            )
        if answers == "labels" or (answers == "auto" and all(_is_label(item) for item in items)):
            return Answer(labels=tuple(self._label(item) for item in items))
        if all(_is_number(item) or _is_numbers(item) for item in items):
            return Answer(rows=_matrix([item if isinstance(item, list) else [item] for item in items]))
        return Answer(pairs=tuple(self._pairs(item) for item in items))

    def _is_pair(self, item: Any) -> bool:
        return isinstance(item, dict) and self.label_key in item and self.score_key in item

    def _unwrapped(self, value: Any) -> Any:
        """The entry of a list of one, unless that list is the answer itself."""
        if not (isinstance(value, list) and len(value) == 1):
            return value
        inner = value[0]
        return value if _is_number(inner) or self._is_pair(inner) else inner

    def _label(self, item: Any) -> Any:
        if isinstance(item, list) and len(item) == 1:
            item = item[0]
        if isinstance(item, dict) and self.label_key in item:
            item = item[self.label_key]
        if isinstance(item, (str, int, float)):
            return item
        raise EndpointError(f'labels were declared by answers="labels", and {_short(item)} came; is it scores?')

    def _pairs(self, item: Any) -> Pairs:
        if self._is_pair(item):
            item = [item]
        if isinstance(item, list) and item and all(self._is_pair(entry) for entry in item):
            found = tuple((entry[self.label_key], entry[self.score_key]) for entry in item)
        elif isinstance(item, dict) and item:
            found = tuple(item.items())
        else:
            raise EndpointError(
                f"scores at '{self.response}' should be a list of numbers, a list of objects with "
                f"'{self.label_key}' and '{self.score_key}', or an object from label to score; got {_short(item)}"
            )
        wrong = [score for _, score in found if not _is_number(score)]
        if wrong:
            raise EndpointError(f"a score should be a number, got {_short(wrong[0])}")
        return tuple((label, np.nan if score is None else float(score)) for label, score in found)


_FLOATING = ("FP32", "FP64", "FP16", "BF16")
_WHOLE = ("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64")


@dataclass(frozen=True)
class OipWire:
    """The Open Inference Protocol, version 2, over REST with tensors as JSON.

    Attributes:
        input_name: of the one input; learned from the model's metadata when empty.
        output: name of the output to read; the first floating one, else the first one, when empty.
        datatype: what the input takes; numbers are rounded for whole types.
        shape: sides of one record that the metadata declares; None when it declares none.
        at_most: records a request, when the metadata fixes that.
    """

    input_name: str = ""
    output: str = ""
    datatype: str = "FP32"
    shape: tuple[int, ...] | None = None
    at_most: int | None = None

    def described(self, metadata: Any) -> "OipWire":
        """This format, completed by what `GET /v2/models/{name}` answers.

        Raises:
            EndpointError: when the model has several inputs, or one that takes no numbers.
        """
        inputs = metadata.get("inputs") if isinstance(metadata, dict) else None
        if not inputs:
            # Some servers describe no input of models that take any; this is the protocol's own example name.
            return self if self.input_name else replace(self, input_name="input-0")
        named = [tensor for tensor in inputs if tensor.get("name") == self.input_name] if self.input_name else inputs
        if len(named) != 1:
            listed = ", ".join(f"'{tensor.get('name')}'" for tensor in inputs)
            raise EndpointError(
                f"the model has the inputs {listed}; "
                + (f"there is no '{self.input_name}'" if self.input_name else "a classifier of one record has one")
            )
        tensor = named[0]
        datatype = str(tensor.get("datatype", self.datatype))
        if datatype not in (*_FLOATING, *_WHOLE):
            raise EndpointError(f"the model's input '{tensor.get('name')}' takes {datatype}; numbers were wanted")
        sides = tensor.get("shape")
        batched = isinstance(sides, list) and len(sides) > 1
        return replace(
            self,
            input_name=str(tensor.get("name")),
            datatype=datatype,
            shape=tuple(int(side) for side in sides[1:]) if batched else None,
            at_most=int(sides[0]) if batched and int(sides[0]) > 0 else None,
        )

    def body(self, x: Float[Array, " n ..."]) -> Any:
        shaped = x if self.shape is None else fit_shape(self.shape, x, "the endpoint")
        values = np.rint(shaped).astype(np.int64) if self.datatype in _WHOLE else shaped
        tensor = {
            "name": self.input_name,
            "shape": list(shaped.shape),
            "datatype": self.datatype,
            "data": values.reshape(-1).tolist(),
        }
        body: dict[str, Any] = {"inputs": [tensor]}
        if self.output:
            body["outputs"] = [{"name": self.output}]
        return body

    def read(self, answer: Any, n: int, answers: str) -> Answer:
        tensors = answer.get("outputs") if isinstance(answer, dict) else None
        if not isinstance(tensors, list) or not all(isinstance(tensor, dict) for tensor in tensors) or not tensors:
            raise EndpointError(f"an answer of the Open Inference Protocol holds 'outputs'; got {_short(answer)}")
        tensor = self._chosen(tensors, answers)
        name, shape = tensor.get("name"), tensor.get("shape")
        flat = _flat(tensor.get("data"))
        if not isinstance(shape, list) or not shape or int(np.prod(shape)) != len(flat) or shape[0] != n:
            raise EndpointError(
                f"the output '{name}' should hold one row for each of {n} records; it has shape {shape} "
                f"and {len(flat)} values"
            )
        if answers != "labels" and (tensor.get("datatype") in _FLOATING or answers in ("scores", "top_k")):
            width = len(flat) // n
            return Answer(rows=_matrix([flat[i * width : (i + 1) * width] for i in range(n)]))
        if len(flat) != n:
            raise EndpointError(f"the output '{name}' should hold one label a record; it has shape {shape}")
        return Answer(labels=tuple(flat))

    def _chosen(self, tensors: Sequence[Mapping[str, Any]], answers: str) -> Mapping[str, Any]:
        listed = ", ".join(f"'{tensor.get('name')}' {tensor.get('datatype')}" for tensor in tensors)
        if self.output:
            found = [tensor for tensor in tensors if tensor.get("name") == self.output]
            if not found:
                raise EndpointError(f"the endpoint answered no output '{self.output}'; it answered {listed}")
            return found[0]
        floating = [tensor for tensor in tensors if tensor.get("datatype") in _FLOATING]
        if answers in ("scores", "top_k") and not floating:
            raise EndpointError(f"scores were wanted, and the endpoint answered {listed}; name one with output=")
        others = [tensor for tensor in tensors if tensor.get("datatype") not in _FLOATING]
        order = [*others, *floating] if answers == "labels" else [*floating, *others]
        return order[0]


def _placeholders(template: Any) -> list[str]:
    if isinstance(template, str) and template.startswith("$"):
        if template not in (*_ONE, *_MANY):
            raise ConfigError(f"request: unknown placeholder '{template}': {did_you_mean(template, (*_ONE, *_MANY))}")
        return [template]
    inner: list[Any] = []
    if isinstance(template, Mapping):
        inner = list(template.values())
    elif isinstance(template, (list, tuple)):
        inner = list(template)
    return [name for part in inner for name in _placeholders(part)]


def _fill(template: Any, value: Any) -> Any:
    if isinstance(template, str) and template.startswith("$"):
        return value
    if isinstance(template, Mapping):
        return {key: _fill(part, value) for key, part in template.items()}
    if isinstance(template, (list, tuple)):
        return [_fill(part, value) for part in template]
    return template


def _follow(body: Any, path: str) -> Any:
    """The part of a JSON body at a dotted path."""
    parts = [part for part in path.split(".") if part]
    return _descend(body, parts, lambda at: ".".join(parts[:at]) or "the top")


def _descend(value: Any, parts: Sequence[str], where: Callable[[int], str], at: int = 0) -> Any:
    if at == len(parts):
        return value
    part = parts[at]
    if part == "*" and isinstance(value, list):
        return [_descend(item, parts, where, at + 1) for item in value]
    if isinstance(value, dict) and part in value:
        return _descend(value[part], parts, where, at + 1)
    if isinstance(value, list) and part.lstrip("-").isdecimal() and -len(value) <= int(part) < len(value):
        return _descend(value[int(part)], parts, where, at + 1)
    if isinstance(value, dict):
        here = did_you_mean(part, [str(key) for key in value])
    else:
        here = f"a list of {len(value)} is there" if isinstance(value, list) else f"{_short(value)} is there"
    raise EndpointError(
        f"the answer has no '{part}' at {where(at)}: {here}; "
        "say where the scores lie with response=, keys joined by dots"
    )


def _is_number(item: Any) -> bool:
    # `null` stands for NaN in the JSON of many servers; it is let through to the check for finite values.
    if isinstance(item, int) and not isinstance(item, bool):
        return abs(item) < 1e300  # JSON allows whole numbers that no float can hold
    return item is None or isinstance(item, float)


def _is_numbers(item: Any) -> bool:
    return isinstance(item, list) and bool(item) and all(_is_number(value) for value in item)


def _is_label(item: Any) -> bool:
    return isinstance(item, (str, int)) and not isinstance(item, bool)


def _matrix(rows: Sequence[Sequence[Any]]) -> Array:
    widths = {len(row) for row in rows}
    if len(widths) != 1:
        raise EndpointError(f"records were answered with different numbers of scores: {sorted(widths)}")
    try:
        return np.array([[np.nan if value is None else value for value in row] for row in rows], dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise EndpointError(f"scores should be numbers, got {_short(rows[0])}") from error


def _flat(data: Any) -> list[Any]:
    """The values of a tensor, which may be written flat or nested."""
    if not isinstance(data, list):
        return []
    return [value for item in data for value in (_flat(item) if isinstance(item, list) else [item])]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else text[:197] + "..."
