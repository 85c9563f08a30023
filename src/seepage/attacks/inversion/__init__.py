"""Class inversion: recover what the records of a class look like."""
