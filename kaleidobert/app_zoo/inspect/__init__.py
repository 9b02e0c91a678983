"""``kaleidobert inspect``: inspect (the command), content (of a page: an example, and the bank's alignment), pages (the values on a page,
and their HTML), pictures (drawn with Pillow).
"""
