"""``kaleidobert inspect``: inspect (the command), content (what a page says), examples, alignment, pages* (HTML, PNG), pictures."""
