"""Runs on disk (`files`) and an index over them (`index`), which can always be rebuilt from the files."""
