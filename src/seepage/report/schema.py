"""The published schemas of a record and of a frontier, made from the models themselves."""

import json
from pathlib import Path

from pydantic import BaseModel

from seepage.core.frontier import Frontier
from seepage.core.record import AuditRecord
from seepage.store.files import write_bytes


def schema_text(model: type[BaseModel] = AuditRecord) -> str:
    """The JSON schema of a model as the text of its file under `schema`."""
    return json.dumps(model.model_json_schema(), indent=2, ensure_ascii=False) + "\n"


def write_schema(path: Path | str, model: type[BaseModel] = AuditRecord) -> None:
    """Write the schema of a record to `path`.

    Raises:
        StoreError: when `path` cannot be written.
    """
    write_bytes(Path(path), schema_text(model).encode())


def write_schemas(folder: Path | str) -> None:
    """Write both schemas into `folder`.

    Raises:
        StoreError: when it cannot be written to.
    """
    write_schema(Path(folder) / "record.schema.json")
    write_schema(Path(folder) / "frontier.schema.json", Frontier)
