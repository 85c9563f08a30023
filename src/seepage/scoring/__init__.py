"""Scorers: pure functions from a guess, the secret and the controls' guesses to scores. One file a leak."""
