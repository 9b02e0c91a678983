"""``kaleidobert demo``: demo (the command), studio (what the page asks), page (what it looks like)."""
