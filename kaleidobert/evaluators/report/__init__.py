"""Reports of results: tables (the paper's layout), results (reading results.json), figures (of a run of any task), claims and ablation
(verdicts), model_card, plots (matplotlib), sheets (pictures and texts)."""
