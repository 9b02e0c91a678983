"""Sketches of garments, shoes and bags in their own coordinates; sketches.py has the table of all."""
