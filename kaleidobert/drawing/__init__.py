"""Drawn fashion products: pictures with their true foreground, described parts and text, for trying everything without data.

catalogue: a table of drawn products with pictures and masks. design draws the lots (what a product is), kinds and palette what there is
to draw from, wording and phrases describe it, garments/ sketch it in its own coordinates, render turns a sketch into pixels, picture puts
them together. scenes/: pictures for the foreground network, scene_files: those on disk.
"""
