import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from report_samples import empty, faces, table, write_run
from seepage.core.errors import StoreError
from seepage.core.record import SCHEMA_VERSION, Artifact
from seepage.report import load_arrays, load_record
from seepage.report.schema import schema_text, write_schema

SCHEMA = Path(__file__).parents[1] / "schema" / "record.schema.json"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    record, arrays = table()
    return write_run(tmp_path, record, arrays)


def artifact(path: str) -> Artifact:
    return Artifact(kind="gallery", path=path, private=True, keys=[])


def test_the_published_schema_is_current():
    assert SCHEMA.read_text(encoding="utf-8") == schema_text(), (
        "record.py changed: write the schema again with\n"
        "python -c \"from seepage.report.schema import write_schema; write_schema('schema/record.schema.json')\""
    )


def test_the_schema_is_written_as_it_is_checked(tmp_path: Path):
    write_schema(tmp_path / "s.json")
    assert (tmp_path / "s.json").read_text(encoding="utf-8") == schema_text()


@pytest.mark.parametrize("record", [faces()[0], table()[0], empty()], ids=["faces", "table", "empty"])
def test_a_record_follows_the_published_schema(record):
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    content = json.loads(record.model_dump_json())
    validator.validate(content)
    content["findings"] = [{"id": "x"}]
    assert not validator.is_valid(content)


def test_a_record_is_read_from_its_folder_and_from_its_file(run: Path):
    for path in (run, run / "record.json"):
        assert load_record(path).model_dump() == table()[0].model_dump()


def test_a_missing_record(tmp_path: Path):
    with pytest.raises(StoreError, match="no record"):
        load_record(tmp_path)
    with pytest.raises(StoreError, match="nowhere"):
        load_record(tmp_path / "nowhere")


@pytest.mark.parametrize("kept", [0, 1, 200, 2000])
def test_a_truncated_record(run: Path, kept: int):
    file = run / "record.json"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(StoreError, match="damaged"):
        load_record(run)


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00garbage", b"[" * 100_000, b"[]", b"null", b'{"schema_version": "1.0"}']
)
def test_what_is_no_record(run: Path, content: bytes):
    (run / "record.json").write_bytes(content)
    with pytest.raises(StoreError):
        load_record(run)


@pytest.mark.parametrize("version", ["1.9", "2.0", "11.0"])
def test_a_newer_record_says_so_and_not_that_a_field_is_wrong(run: Path, version: str):
    content = json.loads((run / "record.json").read_text())
    content |= {"schema_version": version, "something_new": 1}
    (run / "record.json").write_text(json.dumps(content))
    with pytest.raises(StoreError, match=r"(?s)(newer|[Uu]pdate)") as caught:
        load_record(run)
    assert version in str(caught.value)
    assert SCHEMA_VERSION in str(caught.value)


def test_arrays_are_read_whole_or_in_part(run: Path):
    kind = load_record(run).findings[0].artifacts[0]
    assert set(load_arrays(run, kind)) == set(table()[1]["tab"])
    assert set(load_arrays(run, kind, frozenset({"class_names"}))) == {"class_names"}


@pytest.mark.parametrize("path", ["../outside.npz", "/etc/passwd", "arrays/../../outside.npz", "..\\outside.npz"])
def test_arrays_outside_the_run_are_refused(run: Path, path: str):
    np.savez(run.parent / "outside.npz", x=np.zeros(1))
    with pytest.raises(StoreError, match="outside"):
        load_arrays(run, artifact(path))


def test_a_link_out_of_the_run_is_refused(run: Path, tmp_path_factory: pytest.TempPathFactory):
    secret = tmp_path_factory.mktemp("other") / "secret.npz"
    np.savez(secret, x=np.zeros(1))
    (run / "arrays" / "link.npz").symlink_to(secret)
    with pytest.raises(StoreError, match="outside"):
        load_arrays(run, artifact("arrays/link.npz"))


def test_arrays_of_objects_are_refused_and_nothing_of_them_runs(run: Path):
    ran = run / "ran"

    class Trap:
        def __reduce__(self):
            return (Path.touch, (ran,))

    np.savez(run / "arrays" / "trap.npz", x=np.array([Trap()], dtype=object))
    with pytest.raises(StoreError, match="cannot be read"):
        load_arrays(run, artifact("arrays/trap.npz"))
    assert not ran.exists()


def test_damaged_and_missing_arrays(run: Path):
    whole = (run / "arrays" / "tab.npz").read_bytes()
    for kept in (0, 10, len(whole) // 2):
        (run / "arrays" / "tab.npz").write_bytes(whole[:kept])
        with pytest.raises(StoreError, match="cannot be read"):
            load_arrays(run, artifact("arrays/tab.npz"))
    np.save(run / "arrays" / "bare.npy", np.zeros(3))
    with pytest.raises(StoreError, match="cannot be read"):
        load_arrays(run, artifact("arrays/bare.npy"))
    with pytest.raises(StoreError, match="not beside the record"):
        load_arrays(run, artifact("arrays/gone.npz"))


def test_the_report_needs_no_heavy_library():
    code = (
        "import seepage.report, sys; "
        "heavy = {'torch', 'pandas', 'sklearn', 'sqlalchemy', 'scipy', 'httpx'} & set(sys.modules); "
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
