"""``kaleidobert align``: align (the command, step by step, and its report), task (its data), networks (what is trained)."""
