"""``kaleidobert retrieve``: retrieve (the command), ranking (scores), towers, baselines, query_sheets, released_files."""
