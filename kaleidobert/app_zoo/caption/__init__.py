"""``kaleidobert caption``: caption (the command), writing (captions written, chosen by a matcher, and simple ones)."""
