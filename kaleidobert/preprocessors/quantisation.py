"""Features as bytes: one scale for each vector, half the room of float16 on disk and on the way to the device.

The relative error of a vector of pooled ReLU features is about 4e-3 (float16: 2e-4). Quantised arrays travel in pairs: ``name``
uint8[..., F] and ``name`` + specs.SCALE f32[...].
"""

import numpy as np

from kaleidobert.errors import UserError
from kaleidobert.specs import SCALE

Arrays = dict[str, np.ndarray]
MOST = 255


def quantise(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(uint8[..., F], f32[...]): features are numbers * scale, the largest of a vector 255 * scale. UserError for negative ones."""
    values = features.astype(np.float32)
    if values.size and values.min() < 0:
        raise UserError(f"a feature is {values.min():.3g}, and bytes hold none below 0", "storage: uint8", "features of at least 0, as "
                        "those of the encoders with a ReLU at their end are", "set storage=float16")
    scale = values.max(-1) / np.float32(MOST)
    return np.rint(values / np.where(scale > 0, scale, 1)[..., None]).astype(np.uint8), scale


def dequantise(numbers: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """f16[..., F]: numbers * scale."""
    return (numbers * scale[..., None].astype(np.float32)).astype(np.float16)


def floats(arrays: Arrays) -> Arrays:
    """The arrays with every quantised pair as one of float16; others are left as they are. In the compiled step: engines/feeding.py."""
    pairs = {name: name + SCALE for name, array in arrays.items() if array.dtype == np.uint8 and name + SCALE in arrays}
    whole = {name: array for name, array in arrays.items() if name not in pairs.values()}
    return whole | {name: dequantise(arrays[name], arrays[scale]) for name, scale in pairs.items()}
