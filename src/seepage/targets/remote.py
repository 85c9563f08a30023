"""A remote model behind HTTP as a victim."""

import logging
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import Float

from seepage.core.errors import AccessDenied, ConfigError, EndpointError
from seepage.core.spec import InputSpec
from seepage.core.vocabulary import Access
from seepage.targets.addresses import check_url, oip_model, shown
from seepage.targets.answers import (
    OUTPUTS,
    agreed_classes,
    as_batch,
    as_rows,
    choice,
    enough_classes,
    label_column,
    one_hot,
    positive,
    probe_records,
    to_logits,
    to_scores,
)
from seepage.targets.http import Endpoint
from seepage.targets.wire import Answer, JsonWire, OipWire, Wire

Array = np.ndarray
log = logging.getLogger(__name__)


class HttpModel:
    """A model behind an HTTP endpoint as a victim.

    When `classes` and `answers` are both given nothing is sent before the first query; otherwise two
    records are asked about at once, to learn them. Close it, or use it in a `with` statement.

    Args:
        url: of the model. For "oip-v2" the server's base with `model`, or ".../v2/models/NAME".
        spec: what one record is and how the endpoint wants it prepared.
        classes: how many classes.
        format: "json" or "oip-v2" (Open Inference Protocol: KServe, Triton, MLServer).
        request: JSON, the body with a placeholder: see `JsonWire`. Default `{"inputs": "$records"}`.
        response: JSON, where the answer lies; see `JsonWire`.
        label_key, score_key: JSON, keys of answers like `{"label": "cat", "score": 0.9}`.
        flatten: JSON, whether a record is sent as one flat list.
        model, version: oip-v2, the model's name and version.
        input_name: oip-v2, asked from the server when not given.
        output: oip-v2, the output to read: asked for by name.
        answers: "scores", "top_k" (some classes, with their scores), "labels", or "auto" to tell from
            the first answer. What the victim offers follows from it.
        outputs: what scores are: "probabilities", "logits" or "log_probabilities".
        class_names: what the data calls its classes, in its order, when the endpoint answers names.
        headers: see `Endpoint`: secrets as "env:NAME".
        method: "POST" or "PUT".
        batch: most records a request.
        timeout, retries, backoff, patience: see `Endpoint`.
        sum_tolerance: how far from one a record's probabilities may sum: rounding needs some.
        family: the architecture family, when it is known.

    Raises:
        ConfigError: for an option that cannot be used.
        EndpointError: when the endpoint does not answer as declared.
    """

    def __init__(
        self,
        url: str,
        spec: InputSpec,
        classes: int | None = None,
        *,
        format: str = "json",
        request: Mapping[str, Any] | list[Any] | str | None = None,
        response: str = "predictions",
        label_key: str = "label",
        score_key: str = "score",
        flatten: bool = False,
        model: str | None = None,
        version: str | None = None,
        input_name: str = "",
        output: str = "",
        answers: str = "auto",
        outputs: str = "probabilities",
        class_names: Sequence[str] = (),
        headers: Mapping[str, str] | None = None,
        method: str = "POST",
        batch: int = 32,
        timeout: float = 30.0,
        retries: int = 3,
        backoff: float = 0.5,
        patience: float = 120.0,
        sum_tolerance: float = 1e-2,
        family: str = "unknown",
    ):
        check_url(url)
        choice("format", format, ("json", "oip-v2"))
        self._answers = choice("answers", answers, ("auto", "scores", "top_k", "labels"))
        self._outputs = choice("outputs", outputs, OUTPUTS)
        self._method = choice("method", method, ("POST", "PUT"))
        positive("batch", batch)
        positive("sum_tolerance", sum_tolerance)
        self._spec, self._family, self._batch, self._tolerance = spec, family, int(batch), sum_tolerance
        self._class_names = tuple(class_names)
        self._who = f"the endpoint {shown(url)}"
        declared = agreed_classes(classes, class_names, self._who)
        if outputs != "probabilities" and answers in ("top_k", "labels"):
            raise ConfigError(f'outputs="{outputs}" goes with answers="scores", not with "{answers}"')
        self._wire: Wire
        if format == "json":
            template = {"inputs": "$records"} if request is None else request
            self._wire = JsonWire(template, response, label_key, score_key, flatten, spec.features)
            self._url, about = url, None
        else:
            about = oip_model(url, model, version)
            self._url = f"{about}/infer"
            self._wire = OipWire(input_name, output)
        self._about = about
        self._endpoint = Endpoint(
            url, headers or {}, timeout=timeout, retries=retries, backoff=backoff, patience=patience
        )
        self._classes = declared or 0
        if declared is None or answers == "auto":
            try:
                self._learn(declared)
            except BaseException:
                self.close()
                raise

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
        if self._answers == "scores":
            return frozenset({Access.LOGITS if self._outputs == "logits" else Access.SCORES})
        return frozenset({Access.TOP_K if self._answers == "top_k" else Access.LABELS})

    @property
    def fingerprint(self) -> str | None:
        """None: what stands behind a URL may change between two requests."""
        return None

    @property
    def traffic(self) -> dict[str, int | float]:
        """Requests sent, how many of them were further tries, and seconds waited between tries."""
        e = self._endpoint
        return {"requests": e.requests, "retries": e.retried, "seconds_waited": e.waited}

    def close(self) -> None:
        """Close the connections."""
        self._endpoint.close()

    def __enter__(self) -> "HttpModel":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def predict(self, x: Float[Array, " n ..."]) -> Float[Array, " n c"]:
        """(n, classes) scores as they were answered, float64: see `core.victim.Model` for labels and top-k.

        Raises:
            DataError: for records of another shape, or that are not finite.
            EndpointError: when the endpoint does not answer, or answers no predictions.
        """
        x = as_batch(self._spec, x)
        return self._over(x, self._scores)

    def logits(self, x: Float[Array, " n ..."]) -> Float[Array, " n c"]:
        """(n, classes) unnormalised outputs.

        Raises:
            AccessDenied: when the endpoint does not answer logits.
        """
        if Access.LOGITS not in self.offers:
            raise AccessDenied(f"{self._who} answers {self._answers}, no logits")
        return self._over(as_batch(self._spec, x), lambda answer, n: to_logits(self._rows(answer, n), "logits"))

    def _over(self, x: Array, read: Any) -> Array:
        """`read` over the answers to all records, one request a batch."""
        self._describe()
        step = min(self._batch, self._wire.at_most or self._batch)
        parts = [read(self._ask(x[i : i + step]), len(x[i : i + step])) for i in range(0, len(x), step)]
        return np.concatenate(parts) if parts else np.zeros((0, self._classes))

    def _ask(self, x: Array) -> Answer:
        body = self._wire.body(self._spec.prepare(x))
        found = self._endpoint.ask(self._method, self._url, body)
        try:
            return self._wire.read(found, len(x), self._answers)
        except EndpointError as error:
            raise EndpointError(f"{self._who}: {error}") from error

    def _describe(self) -> None:
        """Ask the server once what the model takes; not every server knows, and a named input is enough."""
        if self._about is None or not isinstance(self._wire, OipWire):
            return
        try:
            metadata = self._endpoint.ask("GET", self._about)
        except EndpointError as error:
            if not self._wire.input_name:
                raise EndpointError(f"{error}; or name the model's input with input_name=") from error
            log.info("%s; going on with the declared input '%s'", error, self._wire.input_name)
        else:
            self._wire = self._wire.described(metadata)
        self._about = None

    def _learn(self, declared: int | None) -> None:
        """Ask about two records: what the answers are, and how many classes there are."""
        self._describe()
        x = probe_records(self._spec, 2)[: self._wire.at_most or 2]
        answer = self._ask(x)
        if answer.rows is not None:
            if self._answers == "auto":
                self._answers = "scores"
            width = max(answer.rows.shape[1], 2)
            if declared not in (None, width) and self._answers == "scores":
                raise EndpointError(f"{self._who} tells {width} classes apart, but {declared} were declared")
            enough_classes(width, self._who)
            self._classes = declared or width
        elif declared is None:
            what = "labels" if answer.labels is not None else "labels with scores"
            raise EndpointError(
                f"{self._who} answers {what}, which do not tell how many classes there are: "
                "give class_names (or classes, when labels are class numbers)"
            )
        elif self._answers == "auto":
            full = answer.pairs is not None and all(len(pairs) >= declared for pairs in answer.pairs)
            self._answers = "labels" if answer.labels is not None else "scores" if full else "top_k"
        self._scores(answer, len(x))

    def _scores(self, answer: Answer, n: int) -> Array:
        if answer.labels is not None:
            return one_hot(np.array([self._column(label) for label in answer.labels]), self._classes)
        rows = self._rows(answer, n)
        if self._answers != "top_k":
            hint = ', labels with answers="labels"; if the endpoint rounds its scores, raise sum_tolerance'
            return to_scores(rows, self._outputs, self._who, tolerance=self._tolerance, error=EndpointError, hint=hint)
        if rows.min() < 0 or rows.sum(axis=1).max() > 1 + self._tolerance:
            raise EndpointError(
                f"{self._who} answered top scores that are no probabilities: the least is {rows.min():.4g}, "
                f"a record's sum {rows.sum(axis=1).max():.4g}"
            )
        return rows

    def _rows(self, answer: Answer, n: int) -> Array:
        """Scores by class number, unchecked; of a single number a record, one column."""
        if answer.rows is not None:
            rows = as_rows(answer.rows, n, self._who, EndpointError)
            if rows.shape[1] != self._classes and (rows.shape[1], self._classes) != (1, 2):
                raise EndpointError(f"{self._who} answered {rows.shape[1]} scores a record for {self._classes} classes")
            return rows
        full = np.zeros((n, self._classes))
        for i, pairs in enumerate(answer.pairs or ()):
            columns = [self._column(label) for label, _ in pairs]
            if len(set(columns)) != len(columns):
                raise EndpointError(f"{self._who} answered a class twice for one record: {pairs[:4]}")
            if self._answers == "scores" and len(columns) < self._classes:
                raise EndpointError(
                    f"{self._who} answered {len(columns)} of {self._classes} classes for a record; "
                    'if it gives only the likeliest ones, say answers="top_k"'
                )
            full[i, columns] = [score for _, score in pairs]
        return as_rows(full, n, self._who, EndpointError)

    def _column(self, label: Any) -> int:
        return label_column(label, self._classes, self._class_names, self._who)
