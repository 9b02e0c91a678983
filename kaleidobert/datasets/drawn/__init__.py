"""Drawn fashion products: pictures with their true foreground, described parts and text, for trying everything without data.

design.py draws the lots (what the product is), wording.py describes it, tops/outerwear/bottoms/dresses/shoes/bags/hats.py
sketch it in its own coordinates, render.py turns the sketch into pixels, picture.py puts the four together.
scenes.py makes pictures for the foreground network: products and what goes with them (figures.py) before surroundings.py.
"""
