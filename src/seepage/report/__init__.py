"""Reports of a run: HTML, Markdown, comparisons. They read records and arrays, and run nothing.

`write_reports(run)` writes beside the record; `compare(a, b)` sets two records side by side.
"""

from seepage.report.compare import Comparison, compare, compare_text, write_compare_html
from seepage.report.html import render_html, write_html
from seepage.report.load import load_arrays, load_record
from seepage.report.markdown import render_markdown, write_markdown
from seepage.report.write import write_reports

__all__ = [
    "Comparison",
    "compare",
    "compare_text",
    "load_arrays",
    "load_record",
    "render_html",
    "render_markdown",
    "write_compare_html",
    "write_html",
    "write_markdown",
    "write_reports",
]
