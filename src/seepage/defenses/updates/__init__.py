"""Defenses that change what a client of federated learning sends."""
