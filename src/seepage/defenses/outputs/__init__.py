"""Defenses of what a model answers."""
