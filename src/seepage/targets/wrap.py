"""Anything that answers, made a victim; and how one input looks, read off records."""

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
from jaxtyping import Float
from pydantic import ConfigDict, TypeAdapter, ValidationError

from seepage.core.errors import ConfigError, DataError, ModelError, did_you_mean
from seepage.core.records import Records, Splits
from seepage.core.registry import load
from seepage.core.spec import UNIT, Bounds, InputSpec
from seepage.core.victim import Model, TextEncoder, task_of
from seepage.core.vocabulary import Modality, Task
from seepage.targets.answers import refuse_table

Array = np.ndarray

# Kind of victim -> what makes one. Loaded when asked for, so that no kind costs more than it must.
_KINDS = {
    "torch": "seepage.targets.torch_files:load_torch",
    "sklearn": "seepage.targets.sklearn:load_sklearn",
    "onnx": "seepage.targets.onnx:OnnxModel",
    "http": "seepage.targets.remote:HttpModel",
    "callable": "seepage.targets.callable:load_callable",
    "encoder": "seepage.targets.encoder:load_encoder",
}
# The same for victims that predict numbers or labels; any other kind is wrapped in a function.
_PREDICTORS = {
    "torch": "seepage.targets.torch_predictors:load_torch_predictor",
    "sklearn": "seepage.targets.sklearn_predictors:load_sklearn_predictor",
    "callable": "seepage.targets.predictors:function_predictor",
}
# Kinds that take numbers alone.
_NUMBERS_ONLY = ("torch", "onnx", "http")
_LIVE = "seepage.targets."
# What answers vectors for texts is no classifier: `open_encoder` makes it.
_ENCODER = "encoder"
_SUFFIXES = {
    ".safetensors": "torch",
    ".pt": "torch",
    ".pth": "torch",
    ".bin": "torch",
    ".ckpt": "torch",
    ".onnx": "onnx",
    ".skops": "sklearn",
    ".pkl": "sklearn",
    ".pickle": "sklearn",
    ".joblib": "sklearn",
}
# The first parameter of a kind's constructor that names a file or an address, for `wrap`.
_WHERE = {"torch": "weights", "sklearn": "path", "onnx": "path", "http": "url", "encoder": "path"}
_NOT_OPTIONS = frozenset({"self", "spec", "trust_pickle", "task", "count", "data_names"})


def kinds() -> tuple[str, ...]:
    """The kinds of victim that `open_victim` knows."""
    return tuple(_KINDS)


def option_names(kind: str) -> tuple[str, ...]:
    """The options that a kind of victim takes in an audit file.

    Raises:
        ConfigError: for an unknown kind.
    """
    return tuple(name for name in inspect.signature(_maker(kind)).parameters if name not in _NOT_OPTIONS)


def file_option(kind: str) -> str | None:
    """The option of a kind of victim that names a file, for whoever resolves it against another folder."""
    return None if kind == "http" else _WHERE.get(kind)


def open_victim(
    kind: str,
    spec: InputSpec,
    options: Mapping[str, Any],
    trust_pickle: bool = False,
    *,
    task: Task = Task.CLASSES,
    count: int = 0,
    like: Records | None = None,
) -> Model:
    """A victim from the values of an audit file.

    Args:
        kind: "torch", "sklearn", "onnx", "http" or "callable".
        spec: what one record is and how the victim wants it prepared.
        options: keyword arguments of `load_torch`, `load_sklearn`, `OnnxModel`, `HttpModel` or
            `load_callable`; files are relative to the working directory.
        trust_pickle: whether files may run code while they are loaded.
        task: what the victim answers; of values and labels the options are those of `load_torch_predictor`,
            `load_sklearn_predictor` or `function_predictor`.
        count: how many values or labels it answers a record.
        like: the members: what their classes are called, for an estimator whose labels are those names.

    Raises:
        ConfigError: for an unknown kind or option, one that is missing, or a value of the wrong type.
        ModelError: when the victim cannot be loaded.
    """
    if kind == _ENCODER:
        raise ConfigError("an encoder answers vectors, not classes: its members are texts (see the guide to victims)")
    _takes_table(kind, spec)
    maker, given = _checked(kind, options, task)
    if kind == "torch":
        given = {"build": None, "weights": None, **given}
    if task is not Task.CLASSES:
        given |= {"task": task, "count": count}
    elif like is not None and "data_names" in inspect.signature(maker).parameters:
        given["data_names"] = like.class_names
    if "trust_pickle" in inspect.signature(maker).parameters:
        given["trust_pickle"] = trust_pickle
    return maker(spec=spec, **given)


def open_encoder(options: Mapping[str, Any]) -> TextEncoder:
    """An encoder of texts from the values of an audit file: keyword arguments of `load_encoder`.

    Raises:
        ConfigError: for an unknown option, or a value of the wrong type.
        ModelError: when the encoder cannot be loaded.
    """
    maker, given = _checked(_ENCODER, options)
    return maker(**given)


def _takes_table(kind: str, spec: InputSpec) -> None:
    if kind in _NUMBERS_ONLY:
        refuse_table(spec, f'a victim of kind "{kind}"')


def _checked(
    kind: str, options: Mapping[str, Any], task: Task = Task.CLASSES
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """What makes a kind of victim, and the options it was given, held against what it takes."""
    maker = _maker(kind, task)
    parameters = inspect.signature(maker).parameters
    for name in options:
        if name not in parameters or name in _NOT_OPTIONS:
            known = [known for known in parameters if known not in _NOT_OPTIONS]
            told = "" if task is Task.CLASSES else f" of {task}"
            raise ConfigError(f"a {kind} victim{told} has no option '{name}': {did_you_mean(name, known)}")
    required = [
        name for name, p in parameters.items() if p.default is p.empty and name not in _NOT_OPTIONS and kind != "torch"
    ]
    missing = [name for name in required if name not in options]
    if missing:
        raise ConfigError(f"a {kind} victim needs the option '{missing[0]}'")
    return maker, _typed(maker, kind, options)


def wrap(
    thing: Any,
    spec: InputSpec | None = None,
    *,
    like: Any = None,
    classes: int | None = None,
    task: Task | str | None = None,
    trust_pickle: bool = False,
    **options: Any,
) -> Model:
    """Make a victim of whatever answers.

    Args:
        thing: a `torch.nn.Module`, a fitted scikit-learn estimator, a function, a URL, the path of an
            `.onnx`, `.skops`, pickled or (with `build=`) torch file, or a victim, which is returned
            as it is.
        spec: what one record is and how the victim wants it prepared; read off `like` when not given.
        like: `Records`, `Splits` or an array such as the victim takes: all of them, since their range
            becomes the range within which the victim may be asked.
        classes: how many classes; found by asking where that can be. Of values and labels, how many a record: as
            many as the targets of `like` when not given.
        task: what it answers: "classes", "values" or "labels"; that of the records in `like` when not given.
        trust_pickle: whether files may run code while they are loaded.
        options: further arguments of the adapter: `TorchModel`, `load_torch`, `SklearnModel`,
            `load_sklearn`, `OnnxModel`, `CallableModel` or `HttpModel`; of values and labels `network_predictor`,
            `estimator_predictor`, `function_predictor` or what loads them.

    Raises:
        ConfigError: when it is nothing that can be asked, or for an unknown option.
        ModelError: when the victim cannot be loaded, or does not answer predictions.
    """
    if isinstance(thing, Model):
        if options or classes not in (None, thing.classes):
            raise ConfigError("this is a victim already: give its options where it is made")
        return thing
    if spec is None:
        if like is None:
            raise ConfigError("what does one record look like? give spec=InputSpec(...), or like=records")
        spec = infer_spec(like)
    records = like.members if isinstance(like, Splits) else like
    found = Task(task) if task is not None else (records.task if isinstance(records, Records) else Task.CLASSES)
    count = classes or (len(records.outputs) if isinstance(records, Records) else 0)
    if found is not Task.CLASSES and not count:
        raise ConfigError(f"how many {found} a record does it answer? give classes=, or like=records with targets")
    if isinstance(thing, (str, Path)):
        kind, where = _kind_of_place(str(thing))
        more = {} if classes is None or found is not Task.CLASSES else {"classes": classes}
        placed = {_WHERE[kind]: where, **more, **options}
        named = records if isinstance(records, Records) else None
        return open_victim(kind, spec, placed, trust_pickle, task=found, count=count, like=named)
    maker = _live_maker(thing, spec, found)
    if found is not Task.CLASSES:
        options |= {"task": found, "count": count}
    elif classes is not None:
        options["classes"] = classes
    if found is Task.CLASSES and isinstance(records, Records) and is_estimator(thing):
        options["data_names"] = records.class_names
    known = [name for name in inspect.signature(maker).parameters if name != "spec"]
    for name in options:
        if name not in known:
            raise ConfigError(f"{maker.__name__} has no option '{name}': {did_you_mean(name, known[1:])}")
    return maker(thing, spec, **options)


def _live_maker(thing: Any, spec: InputSpec, task: Task) -> Callable[..., Any]:
    """What makes a victim of something live."""
    classes = task is Task.CLASSES
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(thing, torch.nn.Module):
        _takes_table("torch", spec)
        return load(_LIVE + ("torch:TorchModel" if classes else "torch_predictors:network_predictor"))
    if is_estimator(thing):
        return load(_LIVE + ("sklearn:SklearnModel" if classes else "sklearn_predictors:estimator_predictor"))
    if callable(thing):
        return load(_LIVE + ("callable:CallableModel" if classes else "predictors:function_predictor"))
    raise ConfigError(
        f"a {type(thing).__name__} is nothing that can be asked: give a torch module, a fitted scikit-learn "
        "estimator, a function, a URL, or the path of a model file"
    )


def is_estimator(thing: Any) -> bool:
    """True for a scikit-learn estimator, or anything with its methods: it takes tables as they are."""
    return hasattr(thing, "fit") and hasattr(thing, "predict") and not isinstance(thing, Model)


def task_told(thing: Any) -> Task | None:
    """What something answers, as far as it shows; None where it does not: a network, a function, a file."""
    if isinstance(thing, Model):
        return task_of(thing)
    return load(_LIVE + "sklearn_predictors:told_task")(thing) if is_estimator(thing) else None


def takes_tables(thing: Any) -> bool:
    """True for an estimator, or the path of a file of one."""
    return is_estimator(thing) or (isinstance(thing, str | Path) and _SUFFIXES.get(Path(thing).suffix) == "sklearn")


def infer_spec(records: Any, *more: Any) -> InputSpec:
    """What one input looks like, read off records.

    Images, (n, c, h, w), get the range [0, 1], [0, 255] or [-1, 1] when their values lie in it, else
    their least and greatest value rounded outwards to two digits. Tables, (n, d), get the least and the
    greatest value of each feature.

    Args:
        records: everything the victim may be asked about: `Records`, an array, tensor or data frame,
            or `Splits` (whose members, non-members and public records all count).
        more: further `Records` or arrays.

    Raises:
        DataError: when they are empty, not finite, or not of one shape.
    """
    parts = [records.members, records.nonmembers, records.public] if isinstance(records, Splits) else [records]
    known = [part for part in (*parts, *more) if part is not None]
    arrays = [_numbers(part.x if isinstance(part, Records) else part) for part in known]
    shape = arrays[0].shape[1:]
    for array in arrays:
        if array.shape[1:] != shape:
            raise DataError(f"records of one shape were wanted, got {shape} and {array.shape[1:]}")
    first = known[0]
    modality = first.modality if isinstance(first, Records) else (Modality.IMAGE if len(shape) == 3 else Modality.TABLE)
    features = first.features if isinstance(first, Records) else tuple(map(str, getattr(first, "columns", ())))
    if modality is Modality.IMAGE:
        return InputSpec(_image_shape(shape), _image_bounds(arrays))
    if modality is Modality.TABLE:
        low = np.min([array.min(axis=0) for array in arrays], axis=0)
        high = np.max([array.max(axis=0) for array in arrays], axis=0)
        form = first.form if isinstance(first, Records) else None
        return InputSpec(shape, Bounds.of(low, high), Modality.TABLE, features=features, form=form)
    raise DataError(f"images or tables were wanted, got records of {modality}")


def _maker(kind: str, task: Task = Task.CLASSES) -> Callable[..., Any]:
    if kind not in _KINDS:
        raise ConfigError(f"unknown kind of victim '{kind}': {did_you_mean(kind, _KINDS)}")
    if task is Task.CLASSES:
        return load(_KINDS[kind])
    if kind not in _PREDICTORS:
        raise ConfigError(
            f'a victim of kind "{kind}" tells classes apart here; one that predicts {task} can be of kind '
            f"{', '.join(_PREDICTORS)}: wrap it in a Python function"
        )
    return load(_PREDICTORS[kind])


def _typed(maker: Callable[..., Any], kind: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with their values checked against the types that the adapter declares."""
    hints = get_type_hints(maker.__init__ if inspect.isclass(maker) else maker)
    given: dict[str, Any] = {}
    for name, value in options.items():
        try:
            adapter: TypeAdapter[Any] = TypeAdapter(hints[name], config=ConfigDict(arbitrary_types_allowed=True))
            given[name] = adapter.validate_python(value)
        except ValidationError as error:
            said = error.errors()[0]["msg"]
            raise ConfigError(f"{kind} victim, option '{name}': {value!r} cannot be used ({said})") from error
    return given


def _kind_of_place(text: str) -> tuple[str, str]:
    """The kind of victim at a URL or path."""
    if re.match(r"https?://", text):
        return "http", text
    path = Path(text)
    kind = _SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise ModelError(
            f"'{text}' is neither a URL nor a model file of a known kind ({', '.join(_SUFFIXES)}); "
            "a SavedModel or another format can be wrapped in a Python function"
        )
    return kind, text


def _numbers(x: Any) -> Float[Array, " n ..."]:
    if hasattr(x, "detach"):
        x = x.detach().cpu()
    array = np.asarray(x)
    if array.dtype.kind not in "fiub":
        raise DataError(f"records: numbers were wanted, got values of type {array.dtype}")
    array = array.astype(np.float32)
    if array.ndim < 2 or not array.size:
        raise DataError(f"records: an array (n, ...) with at least one record was wanted, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise DataError("records: finite values were wanted, got NaN or infinity; drop or impute these records")
    return array


def _image_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) != 3:
        raise DataError(f"an image is (channels, height, width), got records of shape {shape}; add the axis that lacks")
    if shape[0] > 4 and shape[-1] in (1, 3, 4):
        raise DataError(
            f"these images seem to have their channels last, {shape}: give them as (n, channels, height, width), "
            'and say layout="hwc" if the victim wants them last'
        )
    return shape


def _image_bounds(arrays: Iterable[Array]) -> Bounds:
    extremes = [(float(array.min()), float(array.max())) for array in arrays]
    low, high = min(e[0] for e in extremes), max(e[1] for e in extremes)
    if low >= 0 and high <= 1:
        return UNIT
    if low >= 0 and 1.5 < high <= 255:
        return Bounds.of(0.0, 255.0)
    if -1 <= low < 0 and high <= 1:
        return Bounds.of(-1.0, 1.0)
    step = 10.0 ** (np.floor(np.log10(max(high - low, abs(high), abs(low)))) - 1)
    # 1.2 read as float32 is a little more than 1.2: the slack lies within that of `Bounds.contain`.
    return Bounds.of(float(np.floor(low / step + 1e-4) * step), float(np.ceil(high / step - 1e-4) * step))
