"""``kaleidobert ablate``: ablate (the command, its runs and its table), masked_words (one of the runs, a process of its own)."""
