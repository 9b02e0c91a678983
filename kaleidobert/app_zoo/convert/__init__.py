"""``kaleidobert convert``: convert (checkpoints), files (released text files), bank (banks).
"""
