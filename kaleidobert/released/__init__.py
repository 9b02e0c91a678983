"""All that knows the release of 2021.

Text files: schema, files (a streaming reader), numbers, loops (its numbers), writer, index (any line by its number), bank (a folder of
arrays made of the files), rows (rows by their numbers, of either), samplers (batches of rows).
Checkpoints: tf_checkpoint (the format), names (the name map), config (config.json),
checkpoints (to ours and back), optimizer (the state of Adam), bert (Google's BERT as a start), any_checkpoint (one of ours or of theirs).
Result files: results (the released way to count them), counting (as other public code counts).
"""
