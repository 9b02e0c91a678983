"""Lists of candidates for retrieval: candidates (drawn once, saved with their SHA-256), lists, protocols (as data)."""
