"""How features travel from the bank to the compiled step: as float16, or as bytes with a scale for each vector, half as many.

A bank stored as uint8 brings ``name`` uint8[..., F] and ``name`` + specs.SCALE f32[...] in the place of ``name`` float16[..., F].
"""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from kaleidobert.specs import SCALE


def expand(arrays: Mapping[str, Any], dtype: str = "float32") -> dict[str, Any]:
    """The arrays with every quantised pair as one of floats, numbers * scale; others are left as they are.

    Called INSIDE the compiled step, so that bytes cross the wire and the product is fused with what reads it.
    """
    pairs = {name: name + SCALE for name, array in arrays.items()
             if name + SCALE in arrays and keras.backend.standardize_dtype(array.dtype) == "uint8"}
    whole = {name: array for name, array in arrays.items() if name not in pairs.values()}
    for name, scale in pairs.items():
        whole[name] = ops.cast(arrays[name], dtype) * ops.expand_dims(ops.cast(arrays[scale], dtype), -1)
    return whole
