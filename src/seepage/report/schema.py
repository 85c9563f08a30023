"""The published schema of a record, made from the model itself."""

import json
from pathlib import Path

from seepage.core.record import AuditRecord
from seepage.store.files import write_bytes


def schema_text() -> str:
    """`AuditRecord.model_json_schema()` as the text of `schema/record.schema.json`."""
    return json.dumps(AuditRecord.model_json_schema(), indent=2, ensure_ascii=False) + "\n"


def write_schema(path: Path | str) -> None:
    """Write the schema to `path`.

    Raises:
        StoreError: when `path` cannot be written.
    """
    write_bytes(Path(path), schema_text().encode())
