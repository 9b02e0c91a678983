"""``kaleidobert retrieve``: retrieve (the command), fine_tuning, ranking (scores), results (what is reported)."""
