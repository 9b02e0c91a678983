"""``kaleidobert align``: align (the command), captioner and finder (trained models), words, parts and report (what is told of them).
"""
