"""Where products come from, how they are stored and how batches are drawn of them.

products: the Product contract and reading pictures. sources/: where they come from. bank/: the feature bank. sampling/: batches.
grid_features: the grids of cells that the captioner sees. tfds: builders for TensorFlow Datasets.
"""
