"""``kaleidobert caption``: caption (the command), writing, choice (by a matcher), pictures, baselines (simple captions).
"""
