"""``kaleidobert align``: align (the command, step by step), task (its data), networks (what is trained), report."""
