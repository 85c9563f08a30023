"""Both reports of a run at once: what `seepage audit` and `seepage report` call."""

from pathlib import Path

from seepage.report.html import write_html
from seepage.report.markdown import write_markdown


def write_reports(run_folder: Path | str, show_records: bool = False) -> dict[str, Path]:
    """Write `report.html` and `report.md` beside the record.

    Args:
        run_folder: a finished run.
        show_records: whether real and recovered records may be shown.

    Returns:
        What was written, by name, the record included.

    Raises:
        StoreError: when the run has no record, or its folder cannot be written to.
    """
    run = Path(run_folder)
    return {
        "report": write_html(run, show_records=show_records),
        "text": write_markdown(run, show_records=show_records),
        "record": run / "record.json",
    }
