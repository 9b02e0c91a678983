"""Where products come from and how they are stored and drawn.

products: the Product contract and reading pictures. catalogue: CSV/JSONL tables, and the way that the rows of all sources go.
fashion_gen: the raw release of Fashion-Gen. tfds: builders for TensorFlow Datasets, and its data sets as a source. classes: the
classes of labels. synthetic, drawn: the drawn catalogue. beam_records: a bank made on Apache Beam.
bank: the feature bank. shards: its vectors on disk. storage: floats or bytes, and copies of a bank from one to the other.
bank_builder: making a bank. cutting: picture to patches. worker_processes: their cores and GPUs. scene_files: the scenes of the
foreground network. alignments: links of tokens and patches, stored in a bank. sampler: pre-training batches. task_samplers:
fine-tuning batches.

fetching: files of a manifest, resumed and checked. manifests, partial (half-fetched files), streams and remote (http, local, S3),
archives (unpacking), cache (local copies of remote files and folders) are its parts.

The text files of the release: released_schema, released_files (a streaming reader), released_numbers and released_loops (its numbers),
released_writer, released_index (any line by its number), released_rows (rows by their numbers, of files or of a released_bank, a folder
of arrays made of them), released_samplers (batches of rows).
"""
