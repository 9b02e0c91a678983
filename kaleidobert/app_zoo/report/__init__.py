"""``kaleidobert report``: runs (which there are), content (what is said of them), provenance (where they come from),
report (the page)."""
