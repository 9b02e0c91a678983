"""``kaleidobert export``: what is exported (subject), its files for transformers (transformers_folder, weights), and whether both answer
alike (parity)."""
