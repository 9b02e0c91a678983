"""Where products come from: table (CSV, TSV, JSONL, and the way that the rows of all sources go), fashion_gen (the raw release), tfds."""
