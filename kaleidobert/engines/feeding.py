"""Batches made ahead of the step that takes them: by threads, in order, on the device before they are needed.

Threads, not processes: the large copies and the device's transfers release the interpreter's lock, and nothing is pickled.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from time import perf_counter
from typing import Any, Generic, TypeVar

import numpy as np

from kaleidobert.specs import SCALE

T = TypeVar("T")
Batch = tuple[Mapping[str, Any], ...]  # inputs, targets, weights


def prefetch(make: Callable[[int], T | None], numbers: Iterable[int], workers: int = 1, depth: int = 2) -> Iterator[T]:
    """Yields make(n) for each number, in order whatever the number of workers; ends early where make returns None.

    workers: threads that call make at the same time; depth: results that are made ahead of the one in use, at least one for each
    worker. An exception of make is raised here, when its number's turn comes. However the iteration ends, pending numbers are
    dropped and the threads end.
    """
    ahead, waiting = max(workers, depth, 1), deque[Future[T | None]]()
    pool = ThreadPoolExecutor(max(workers, 1), "prefetch")
    try:
        for number in numbers:
            waiting.append(pool.submit(make, number))
            if len(waiting) > ahead:
                if (value := waiting.popleft().result()) is None:
                    return
                yield value
        while waiting:
            if (value := waiting.popleft().result()) is None:
                return
            yield value
    finally:
        pool.shutdown(cancel_futures=True)


class Metered(Generic[T]):
    """Iterates over batches and measures how long the consumer waits for them.

    seconds: from the first batch on; waited: the seconds of these that were spent waiting. The wait for the first batch counts in
    neither, as nothing else could be done.
    """

    def __init__(self, batches: Iterable[T]):
        self._batches, self.seconds, self.waited = batches, 0.0, 0.0

    @property
    def waited_fraction(self) -> float:
        """Waited seconds divided by all seconds, 0 to 1."""
        return self.waited / self.seconds if self.seconds else 0.0

    def __iter__(self) -> Iterator[T]:
        batches, start = iter(self._batches), None
        try:
            while True:
                before = perf_counter()
                batch = next(batches, None)
                now = perf_counter()
                if batch is None:
                    return
                if start is None:
                    start = before = now
                self.waited += now - before
                self.seconds = now - start
                yield batch
        finally:
            if hasattr(batches, "close"):
                batches.close()


def to_device() -> Callable[[Batch], Batch]:
    """Makes a function that puts a batch on the backend's first device, or on its way there.

    In the threads of ``prefetch`` the transfer happens while the device computes. Without an accelerator nothing is copied.
    """
    import keras  # here: prefetch needs no network library

    put = {"tensorflow": _tensorflow_put, "jax": _jax_put, "torch": torch_put}[keras.backend.backend()]()
    return lambda batch: tuple({name: put(array) for name, array in arrays.items()} for arrays in batch)


def _tensorflow_put():
    import tensorflow as tf

    device = "/GPU:0" if tf.config.list_logical_devices("GPU") else "/CPU:0"

    def put(array):
        with tf.device(device):
            return tf.convert_to_tensor(array)

    return put


def _jax_put():
    import jax

    return jax.device_put


def torch_put(device: Any = None) -> Callable[[np.ndarray], Any]:
    """Makes a function that puts an array on a torch.device, None = that of Keras: on GPUs beside what is being computed."""
    import torch
    from keras import ops

    device = ops.convert_to_tensor(0).device if device is None else device
    if device.type != "cuda":
        return lambda array: torch.tensor(array, device=device)  # a copy: products round by where an array begins in memory
    beside, computing = torch.cuda.Stream(device), torch.cuda.default_stream(device)

    def put(array):
        pinned = torch.from_numpy(np.require(array, requirements=("C", "W"))).pin_memory()
        with torch.cuda.stream(beside):
            tensor = pinned.to(device, non_blocking=True)
        computing.wait_stream(beside)
        tensor.record_stream(computing)  # its memory stays until what reads it is done
        return tensor

    return put


# --- Features on their way from the bank to the compiled step: float16, or bytes with a scale for each vector, half as many


def dequantize(arrays: Mapping[str, Any], dtype: str = "float32") -> dict[str, Any]:
    """Multiplies every quantised array by its scale; others are left as they are.

    A bank stored as uint8 brings ``name`` uint8[..., F] and ``name`` + specs.SCALE f32[...] in the place of ``name`` float16[..., F].
    Called INSIDE the compiled step, so that bytes travel to the device and the product is fused with what reads it.
    """
    import keras
    from keras import ops

    pairs = {name: name + SCALE for name, array in arrays.items()
             if name + SCALE in arrays and keras.backend.standardize_dtype(array.dtype) == "uint8"}
    whole = {name: array for name, array in arrays.items() if name not in pairs.values()}
    for name, scale in pairs.items():
        whole[name] = ops.cast(arrays[name], dtype) * ops.expand_dims(ops.cast(arrays[scale], dtype), -1)
    return whole
