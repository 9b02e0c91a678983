"""``kaleidobert inspect``: inspect (the command), pages (their content and HTML), examples, alignment, pictures (drawn with Pillow)."""
