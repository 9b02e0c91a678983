"""All that knows the release of 2021.

Text files: schema (columns), files (lines in order and by number), numbers (their numbers, bit for bit; loops is its compiled part, apart
because importing numba is slow), rows (rows by number, of files or of a folder of arrays), samplers (batches of rows).
Checkpoints: tf_checkpoint (the format), checkpoints (names, config.json, weights, the state of Adam, Google's BERT; and either kind, ours
or released, where ``init`` names it).
Result files: counting (as the release, other public code and ours count them).
"""
