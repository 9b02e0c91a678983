"""``kaleidobert report``: runs (which there are), content (what is said of them), images (pictures within a size), report (the page)."""
