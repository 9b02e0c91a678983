"""Drawn fashion products: pictures with their true foreground, described parts and text, for trying everything without data.

catalogue: pictures, masks and a table of drawn products. design: what a product is, and its colours; wording: its description;
garments/: its sketch; sketch: shapes and outlines; render: pixels. backgrounds: behind a product; scenes: pictures for the foreground
network, with people and small goods.
"""
