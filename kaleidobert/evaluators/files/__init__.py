"""What other people's models predict, read from their files: scores of retrieval, predicted classes, captions, released result files."""
