"""Installs the package ``kaleidobert`` with one console command of the same name."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+?)"', (HERE / "kaleidobert/__init__.py").read_text()).group(1)

setup(
    name="kaleidobert",
    version=VERSION,
    description="Kaleido-BERT: vision-language pre-training for fashion, on TensorFlow and Keras 3",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    packages=find_packages(include=["kaleidobert", "kaleidobert.*"]),
    package_data={"kaleidobert.model_zoo": ["weights/*.npz"]},
    python_requires=">=3.11",
    install_requires=[
        "tensorflow>=2.21,<2.22",
        "keras>=3.15,<3.16",
        "numpy>=2.0",
        "scipy>=1.13",
        "scikit-learn>=1.5",
        "pillow>=11",
        "matplotlib>=3.9",
        "pyyaml>=6",
        "tqdm>=4.66",
        "tensorboard>=2.20",
        "tokenizers>=0.20",
        "sentencepiece>=0.2",
        "boto3>=1.36",
        "h5py>=3.11",
        "numba>=0.61",
        "tensorflow-datasets>=4.9.8",
        "importlib-resources>=6",  # tensorflow-datasets needs it for builders inside of packages and does not ask for it
    ],
    extras_require={"gpu": ["tensorflow[and-cuda]>=2.21,<2.22"], "jax": ["jax>=0.10"], "beam": ["apache-beam>=2.70"],
                    "captions": ["pycocoevalcap>=1.2"],  # METEOR's program, which needs Java; all else is counted without it
                    "tfds": ["mlcroissant>=1.0.9", "apache-beam>=2.70"],  # without both the command `tfds` does not start; tfds.load does
                    "test": ["pytest>=8", "pytest-xdist>=3.6", "hypothesis>=6", "ruff>=0.9", "moto[server]>=5", "jax>=0.10"]},
    entry_points={"console_scripts": ["kaleidobert=kaleidobert.cli:main"]},
)
