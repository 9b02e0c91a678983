"""An array that still lies in a file, so that a checkpoint larger than memory allows twice is converted one array at a time."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LazyArray:
    """shape and dtype are known; load() reads the array, checks it, and raises UserError where it is damaged.

    numpy functions take it for the array, which is read anew every time.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    load: Callable[[], np.ndarray]

    @property
    def T(self) -> "LazyArray":
        """Transposed, unread."""
        return LazyArray(self.shape[::-1], self.dtype, lambda: self.load().T)

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.load(), dtype)
