"""``kaleidobert caption``: caption (the command), writing, choice (by a matcher), baselines (simple captions)."""
