"""Defenses of federated learning: what a client sends, and what the server sees of it."""
