"""``kaleidobert index`` and ``kaleidobert search``: index and search (the commands), vectors (what stage one compares), folder (the index
on the disk), searcher (both stages, for programs and threads), answers (table, JSON lines and page).
"""
