"""Pictures for the foreground network: products and what goes with them (figures, clutter) before surroundings."""
