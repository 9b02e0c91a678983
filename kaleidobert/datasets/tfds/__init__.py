"""TensorFlow Datasets: importing this package registers the builders fashion_gen and kaleido_synthetic.

builders: both of them. products: any prepared TFDS data set as a source of products (source.kind: tfds).
"""

from kaleidobert.datasets.tfds.builders import FashionGen, KaleidoSynthetic, SyntheticConfig

__all__ = ["FashionGen", "KaleidoSynthetic", "SyntheticConfig"]
