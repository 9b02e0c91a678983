"""``kaleidobert align``: align (the command, step by step, and its report), task (its data), networks (captioner and word
grounder), presence (word presence)."""
