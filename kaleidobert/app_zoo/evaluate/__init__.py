"""``kaleidobert evaluate``: evaluate (the command), scores, predictions, captions."""
