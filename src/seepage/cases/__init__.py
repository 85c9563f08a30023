"""A case from a world (victim, records, recipe, seed): one file a leak."""
