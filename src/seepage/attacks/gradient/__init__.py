"""Gradient inversion: records and labels read out of the updates of federated learning."""
