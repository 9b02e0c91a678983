"""Where products come from and how they are stored and drawn.

products: the Product contract and reading pictures. catalogue: CSV/JSONL tables. synthetic, drawn: the drawn catalogue.
bank: the feature bank. bank_builder: making one. cutting: picture to patches. scene_files: the scenes of the
foreground network. alignments: links of tokens and patches, stored in a bank. sampler:
pre-training batches. task_samplers: fine-tuning batches.

fetching: files of a manifest, resumed and checked. manifests, partial (half-fetched files), streams and remote (http, local, S3),
archives (unpacking), cache (local copies of remote files and folders) are its parts.
"""
