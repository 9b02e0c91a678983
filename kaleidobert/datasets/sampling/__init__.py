"""Batches as pure functions of (seed, step).

pretraining: spoiled patches, masked words, pairs that do not match. finetuning: labels, matching and captions of unspoiled pictures.
captions: texts for the captioner of ``align``, and the targets of its word grounder. word_presence: terms of texts, and patches with them.
"""
