"""Evaluation; numpy only, but for scipy.stats, scikit-learn (baselines, the released AUC) and matplotlib (plots), which load on use.

classification: accuracy, three macro-F1s, confusion matrix, per-class table. retrieval: ranks with ties by expectation, Rank@K, MRR, mAP,
chance and the subcategory oracle. candidates: candidate lists and their protocols. captions: BLEU, ROUGE-L, CIDEr-D, METEOR (meteor), words
(ptb_tokenizer). alignment: pointing game, patch hits, statistics of an alignment. pretraining: metrics as sums that add up over batches.
baselines: linear models on frozen features and on TF-IDF. statistics: intervals and paired tests of all of them.
files/: reads what other people's models predict. report/: results.json, tables, plots, sheets.
"""
