"""Reports of results: tables (the paper's layout), results (reading results.json), plots (matplotlib), sheets (pictures and texts)."""
