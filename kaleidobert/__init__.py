"""Kaleido-BERT: vision-language pre-training for fashion (CVPR 2021) on TensorFlow and Keras 3."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kaleidobert.app_zoo.product_model import ProductModel

__version__ = "0.1.0"


def load(*paths: str | Path, bank: str | Path | None = None) -> ProductModel:
    """Returns trained models as one object with ``classify``, ``match``, ``embed``, ``caption`` and ``search``.

        model = kaleidobert.load("runs/quickstart")
        model.match("photo.jpg", ["red striped t-shirt", "blue jeans"])

    paths: the folder of a run, its best.npz, or a folder that holds runs, of which all finished ones below it are found; several are taken
    together. Of runs that answer the same (one label, or matching, or captions) the last to finish of those that trained is taken;
    printing the model shows which. bank: the folder of their bank, where it is not where the runs say. Raises UserError where no such run
    is there, where the runs are of several banks, which it names, and where bank, encoder or weights do not fit.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # as the commands: TensorFlow's start-up chatter
    from kaleidobert.app_zoo import backends

    backends.load()
    from kaleidobert.app_zoo import product_model  # here: it loads a network library, which takes seconds

    return product_model.load(*paths, bank=bank)
