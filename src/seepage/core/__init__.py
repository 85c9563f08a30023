"""The vocabulary. Imports nothing from the rest of the package, and no torch."""
