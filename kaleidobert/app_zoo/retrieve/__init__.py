"""``kaleidobert retrieve``: retrieve (the command), ranking (scores), dual_encoder, baselines, query_sheets, released_files."""
