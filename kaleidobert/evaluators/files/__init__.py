"""What other people's models predict, read from their files.

columns: named columns of CSV, TSV, JSONL and NPZ, with the line of every value. scores: scores of retrieval, the released result file among
them. predictions: predicted classes. captions: the formats of the COCO caption evaluation.
"""
