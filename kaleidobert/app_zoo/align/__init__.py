"""``kaleidobert align``: align (the command, step by step), task, captioner and word_grounding (what is trained), words, report."""
