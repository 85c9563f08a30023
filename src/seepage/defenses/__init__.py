"""Defenses: what turns a victim, a recipe or a corpus into another of the same type."""
