"""``kaleidobert align``: align (the command), captioner and finder (trained models), words, report (what is told of them)."""
