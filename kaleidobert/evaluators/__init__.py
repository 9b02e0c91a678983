"""How results are counted; numpy only, but for the baselines and the released AUC (scikit-learn) and the pictures (matplotlib).

classification: accuracy, three macro-F1s, confusion matrix, per-class table.
candidates: fixed lists of 101 for retrieval, drawn once, saved with their SHA-256.
retrieval: ranks with ties by expectation, Rank@K, MRR, mAP, chance and the subcategory oracle.
released_results: the released retrieval result file, and the released way to count.
alignment: pointing game, patch hits, statistics of an alignment.
tasks: the metrics of pre-training as sums that add up over batches.
baselines: linear models on frozen features and on TF-IDF, for the same records.
plots: loss curves, confusion matrix, rank histogram as PNG. plots_alignment: the figures of an alignment.
"""
