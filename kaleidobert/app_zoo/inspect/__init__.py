"""``kaleidobert inspect``: inspect (the command), content (of an example and of the bank's alignment),
pages (the values on a page, and their HTML), pictures (drawn with Pillow)."""
