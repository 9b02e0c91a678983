"""``kaleidobert ablate``, in modules: plan (the runs of Table 4), running (processes), masked_words (one of them), ablate (the command, the
table)."""
