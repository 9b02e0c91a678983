"""``kaleidobert retrieve``: retrieve (the command), fine_tuning, ranking (scores and their cache), results (what is reported)."""
