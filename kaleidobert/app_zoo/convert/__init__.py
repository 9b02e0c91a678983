"""``kaleidobert convert``: convert (the command; checkpoints), data (banks, released text files)."""
