"""An ONNX file as a victim, run by onnxruntime on one processor core."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from seepage.core.errors import AccessDenied, MissingExtra, ModelError
from seepage.core.spec import InputSpec
from seepage.core.vocabulary import Access
from seepage.targets.answers import (
    OUTPUTS,
    agreed_classes,
    as_batch,
    as_rows,
    choice,
    digest,
    enough_classes,
    fit_shape,
    kind_of,
    label_column,
    label_columns,
    one_hot,
    positive,
    probe_records,
    scatter,
    spec_text,
    to_logits,
    to_scores,
)
from seepage.targets.trust import existing

Array = np.ndarray

_FLOATS = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}
_WHOLE = {
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}
_LABELS = ("tensor(int64)", "tensor(int32)", "tensor(string)")


class OnnxModel:
    """A classifier in an ONNX file as a victim.

    The file has one input. Of its outputs, `output` is read; when that is not given, the one whose
    scores are (n, classes) floats; else a sequence of maps from label to score, as converters from
    scikit-learn write it; else labels, and then labels are all that the victim offers. Sessions use
    one thread, so that sums are formed in the same order every time.

    Args:
        path: the `.onnx` file.
        spec: what one record is and how the file wants it prepared.
        classes: how many classes; found by asking when not given, which labels alone do not allow.
        output: name of the output to read.
        outputs: "logits", "probabilities", "log_probabilities", or "auto" to tell from a few answers.
        class_names: what the data calls its classes, in its order, when the file answers names.
        batch: how many records are run at a time, when the file leaves that free.
        family: the architecture family; an ONNX file does not say.

    Raises:
        MissingExtra: when onnxruntime is not installed.
        ModelError: when the file is missing, damaged, or no classifier of such records.
        ConfigError: for an option that cannot be used.
    """

    def __init__(
        self,
        path: str | Path,
        spec: InputSpec,
        classes: int | None = None,
        *,
        output: str | None = None,
        outputs: str = "auto",
        class_names: Sequence[str] = (),
        batch: int = 256,
        family: str = "unknown",
    ):
        self._path = existing(path, "ONNX model")
        self._who = f"the ONNX model '{self._path.name}'"
        declared = agreed_classes(classes, class_names, self._who)
        choice("outputs", outputs, (*OUTPUTS, "auto"))
        positive("batch", batch)
        self._spec = spec
        self._family = family
        self._class_names = tuple(class_names)
        self._session = _session(self._path)
        self._input = self._only_input()
        self._dtype = self._input_type()
        first = self._input.shape[0] if self._input.shape else None
        self._fixed = first if isinstance(first, int) and first > 0 else None
        self._batch = self._fixed or int(batch)
        self._output, self._form = self._choose_output(output)
        self._columns: tuple[int, ...] | None = None
        self._outputs = "probabilities" if outputs == "auto" else outputs
        self._classes = declared or 0
        self._learn(declared, outputs)

    @property
    def spec(self) -> InputSpec:
        return self._spec

    @property
    def classes(self) -> int:
        return self._classes

    @property
    def family(self) -> str:
        return self._family

    @property
    def offers(self) -> frozenset[Access]:
        if self._form == "labels":
            return frozenset({Access.LABELS})
        return frozenset({Access.LOGITS if self._unnormalised else Access.SCORES})

    @property
    def _unnormalised(self) -> bool:
        return self._form == "rows" and self._outputs == "logits"

    @cached_property
    def fingerprint(self) -> str | None:
        """SHA-256 over the file, the files of weights beside it that it names, and the declaration."""
        said = repr((self._output, self._outputs, self._columns, self._classes)).encode()
        content = self._path.read_bytes()
        beside = [p for p in sorted(self._path.parent.iterdir()) if p != self._path and p.is_file()]
        named = [p.read_bytes() for p in beside if p.name.encode() in content]
        return digest(content, said, spec_text(self._spec), *named)

    def predict(self, x: Float[Array, " n ..."]) -> Float[Array, " n c"]:
        """(n, classes) probabilities, float64, or one-hot rows of a victim that gives labels alone.

        Raises:
            DataError: for records of another shape, or that are not finite.
            ModelError: when the file cannot be run on them or answers no probabilities.
        """
        x = as_batch(self._spec, x)
        if not len(x):
            return np.zeros((0, self._classes))
        if self._form == "labels":
            return one_hot(self._labels(x), self._classes)
        scores = to_scores(self._rows(x), self._outputs, self._who)
        columns = self._columns or tuple(range(self._classes))
        if scores.shape[1] != len(columns):
            raise ModelError(f"{self._who} answered {scores.shape[1]} scores for {len(columns)} classes")
        return scatter(scores, columns, self._classes)

    def logits(self, x: Float[Array, " n ..."]) -> Float[Array, " n c"]:
        """(n, classes) unnormalised outputs.

        Raises:
            AccessDenied: when the file answers probabilities or labels.
        """
        if not self._unnormalised:
            raise AccessDenied(
                f"{self._who} answers {self._form if self._form == 'labels' else self._outputs}, no logits"
            )
        x = as_batch(self._spec, x)
        return to_logits(self._rows(x), "logits") if len(x) else np.zeros((0, self._classes))

    def _only_input(self) -> Any:
        inputs = self._session.get_inputs()
        if len(inputs) != 1:
            names = ", ".join(f"'{i.name}'" for i in inputs) or "none"
            raise ModelError(f"{self._who} has {len(inputs)} inputs ({names}); a classifier of one record has one")
        return inputs[0]

    def _input_type(self) -> Any:
        found = _FLOATS.get(self._input.type, _WHOLE.get(self._input.type))
        if found is None:
            raise ModelError(f"{self._who} takes a {self._input.type}; a tensor of numbers was wanted")
        return found

    def _choose_output(self, name: str | None) -> tuple[str, str]:
        """The output to read and its form: "rows", "maps" or "labels"."""
        found = {o.name: o for o in self._session.get_outputs()}
        listed = ", ".join(f"'{o.name}' {o.type} {o.shape}" for o in found.values())
        if name is not None and name not in found:
            raise ModelError(f"{self._who} has no output '{name}'; it has {listed}")
        pool = list(found.values()) if name is None else [found[name]]
        floats = [o for o in pool if o.type in _FLOATS]
        rows = [o for o in floats if len(o.shape or ()) == 2] or floats
        maps = [o for o in pool if o.type.startswith("seq(map(")]
        labels = [o for o in pool if o.type in _LABELS]
        for form, candidates in (("rows", rows), ("maps", maps), ("labels", labels)):
            if len(candidates) == 1:
                return candidates[0].name, form
            if candidates:
                raise ModelError(
                    f"{self._who} has several outputs to choose from: name one with output=; it has {listed}"
                )
        raise ModelError(f"{self._who} has no output with scores or labels; it has {listed}")

    def _learn(self, declared: int | None, outputs: str) -> None:
        """Ask about a few records: what the answers are, and how many classes they tell apart."""
        x = probe_records(self._spec)
        if self._form == "labels":
            if declared is None:
                raise ModelError(
                    f"{self._who} answers labels alone, which do not tell how many there are: give classes"
                )
            self._labels(x)
            return
        rows = self._rows(x)
        if outputs == "auto" and self._form == "rows":
            kind = kind_of(rows)
            if kind is None:
                raise ModelError(
                    f"{self._who} answers one number between 0 and 1, which may be a probability or a logit: "
                    'say outputs="probabilities" or outputs="logits"'
                )
            self._outputs = kind
        elif outputs == "logits" and kind_of(rows) == "probabilities":
            raise ModelError(f'{self._who} answers probabilities already: say outputs="probabilities"')
        width = to_scores(rows, self._outputs, self._who).shape[1]
        enough_classes(width, self._who)
        if self._form == "rows" and declared not in (None, width):
            raise ModelError(f"{self._who} tells {width} classes apart, but {declared} were declared")
        self._classes = declared or width

    def _run(self, x: Array) -> list[Any]:
        """What the chosen output answers, one item a batch."""
        prepared = self._spec.prepare(x)
        sides = self._input.shape
        shaped = fit_shape(sides[1:], prepared, self._who) if sides else prepared
        given = np.rint(shaped) if self._input.type in _WHOLE else shaped
        answers: list[Any] = []
        for i in range(0, len(given), self._batch):
            part = given[i : i + self._batch]
            n = len(part)
            if self._fixed is not None and n < self._fixed:
                part = np.concatenate([part, np.repeat(part[-1:], self._fixed - n, axis=0)])
            try:
                (answer,) = self._session.run([self._output], {self._input.name: part.astype(self._dtype)})
            except Exception as error:
                raise ModelError(f"{self._who} failed on {n} records: {error}") from error
            answers.append(answer[:n])
        return answers

    def _rows(self, x: Array) -> Array:
        answers = self._run(x)
        if self._form == "rows":
            return as_rows(np.concatenate(answers), len(x), self._who)
        maps: list[Mapping[Any, float]] = [row for answer in answers for row in answer]
        order = list(maps[0])
        if self._columns is None:
            self._columns = label_columns(order, self._classes or None, self._class_names, self._who)
        if any(set(row) != set(order) for row in maps):
            raise ModelError(f"{self._who} answered maps with different labels for different records")
        return as_rows([[row[label] for label in order] for row in maps], len(x), self._who)

    def _labels(self, x: Array) -> Array:
        labels = [label for answer in self._run(x) for label in np.asarray(answer).reshape(-1).tolist()]
        if len(labels) != len(x):
            raise ModelError(f"{self._who} was asked about {len(x)} records and answered {len(labels)} labels")
        return np.array([label_column(label, self._classes, self._class_names, self._who) for label in labels])


def _session(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtra("onnxruntime", "onnx", "an ONNX victim") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        first = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"ONNX model: '{path.name}' cannot be loaded, it seems damaged or unsupported ({first})"
        ) from error
