"""``kaleidobert align``: align (the command), captioner and word_grounding (trained models), words, report (what is told of them)."""
