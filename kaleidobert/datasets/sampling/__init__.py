"""Batches as pure functions of (seed, step).

pretraining: spoiled patches, masked words, pairs that do not match. finetuning: labels and matching. captions: texts to write.
cooccurrence: which words say what of a picture, for the word grounder. pairs: the two sides of products apart.
"""
