"""Sweeps: an audit at every setting of a grid, what each setting costs, and the frontier of the two."""

from seepage.sweep.run import sweep_file

__all__ = ["sweep_file"]
