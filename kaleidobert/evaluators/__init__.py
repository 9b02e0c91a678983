"""How results are counted; numpy only, but for the baselines and the released AUC (scikit-learn) and the pictures (matplotlib).

classification: accuracy, three macro-F1s, confusion matrix, per-class table.
candidates: fixed lists of 101 for retrieval, drawn once, saved with their SHA-256.
protocols: the ways in which public code draws such lists, as data; candidate_pool: their draws. draws: means over several.
retrieval: ranks with ties by expectation, Rank@K, MRR, mAP, chance and the subcategory oracle.
released_results: the released retrieval result file, and the released way to count.
columns, score_tables, prediction_tables: what other people's models answered, read from their files.
score_checks: whether such scores fit candidate lists, ids, texts and each other. counting: as public code counts, on request.
paired: paired tests between two models.
alignment: pointing game, patch hits, statistics of an alignment.
tasks: the metrics of pre-training as sums that add up over batches.
baselines: linear models on frozen features and on TF-IDF, for the same records.
plots: loss curves, confusion matrix, rank histogram as PNG. plots_alignment: the figures of an alignment.
"""
