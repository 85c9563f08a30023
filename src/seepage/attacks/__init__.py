"""Attacks: frozen configurations that turn a target and knowledge into a guess. One folder a leak."""
