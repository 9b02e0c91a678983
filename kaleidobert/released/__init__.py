"""All that knows the release of 2021.

Text files: schema (columns), files (lines in order and by number), numbers and loops (their numbers), rows (rows by number, of files
or of a folder of arrays), samplers (batches of rows).
Checkpoints: tf_checkpoint (the format), checkpoints (names, config.json, weights, the state of Adam, Google's BERT), any_checkpoint
(one of ours or a released one).
Result files: counting (as the release, other public code and ours count them).
"""
