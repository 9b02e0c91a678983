"""``kaleidobert index`` and ``kaleidobert search``: index and search (the commands, and the page), vectors (what stage one compares),
folder (the index on the disk), searcher (both stages, for programs and threads).
"""
