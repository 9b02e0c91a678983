"""Drawn fashion products: pictures with their true foreground, described parts and text, for trying everything without data.

catalogue: pictures, masks and a table of drawn products. design draws the lots (what a product is) out of what there is to draw, wording
describes it, garments/ sketch it in its own coordinates, render turns a sketch into pixels. scenes/: pictures for the foreground
network; scene_files: those on disk.
"""
