"""``kaleidobert index`` and ``kaleidobert search``: index and search (the commands, search with its table and its page), vectors (what stage
one compares), folder (the index on the disk), searcher (both stages, for programs and threads).
"""
