"""``kaleidobert inspect``: inspect (the command), content (what a page says), examples, links, alignment, pages* (HTML, PNG), pictures.
"""
