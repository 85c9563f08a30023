"""For whoever writes a plugin: victims whose leakage is known, and the contracts a plugin must satisfy."""
