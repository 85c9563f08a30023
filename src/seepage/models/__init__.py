"""Small nets, training loops, priors and judges."""
