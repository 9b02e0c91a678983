"""Files that `kaleidobert export` copies as they are: they import PyTorch and transformers, and nothing of this package.

Nothing of the package imports them either; ``answers`` is started as a program, in a Python that need not have the package.
"""
