"""How results are counted; numpy only, but for the baselines and the released AUC (scikit-learn) and the pictures (matplotlib).

classification: accuracy, three macro-F1s, confusion matrix, per-class table. retrieval: ranks with ties by expectation, Rank@K, MRR, mAP,
chance and the subcategory oracle. captions/: what is written. alignment: pointing game, patch hits, statistics of an alignment.
pretraining: the metrics of pre-training as sums that add up over batches. baselines: linear models on frozen features and on TF-IDF.
candidates/: lists for retrieval. paired: paired tests between two models.
files/: what other people's models answered. report/: tables and plots.
"""
