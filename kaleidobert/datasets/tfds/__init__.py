"""TensorFlow Datasets: importing this package registers the builders fashion_gen and kaleido_synthetic.

builders: both of them. Any prepared TFDS data set is a source of products, too: datasets/sources/tfds.py (source.kind: tfds).
"""

from kaleidobert.datasets.tfds.builders import FashionGen, KaleidoSynthetic, SyntheticConfig

__all__ = ["FashionGen", "KaleidoSynthetic", "SyntheticConfig"]
