"""Defenses by the way a victim is trained."""
