"""Prediction: batches in, outputs out, with progress."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tqdm import tqdm

from kaleidobert.engines import steps


def prefetch(make, numbers: Iterable[int]):
    """Yield make(n) for each number, the next one computed in a thread meanwhile; ends early where make returns None."""
    with ThreadPoolExecutor(1) as pool:
        waiting = None
        for number in numbers:
            waiting, ready = pool.submit(make, number), waiting
            if ready is not None:
                value = ready.result()
                if value is None:
                    return
                yield value
        if waiting is not None and (value := waiting.result()) is not None:
            yield value


def predict(forward: Callable[[steps.Arrays], dict[str, np.ndarray]], make_inputs: Callable[[np.ndarray], steps.Arrays],
            rows: np.ndarray, batch_size: int, title: str = "") -> dict[str, np.ndarray]:
    """The model's outputs for all rows, at least one, concatenated; make_inputs(rows of a batch) -> inputs.

    forward: steps.forward(model), made once per model, for it compiles anew each time. Raises UserError where an output is
    not finite.
    """
    parts = []
    starts = range(0, len(rows), batch_size)
    batches = prefetch(lambda number: make_inputs(rows[starts[number] : starts[number] + batch_size]), range(len(starts)))
    for inputs in tqdm(batches, desc=title, total=len(starts), unit="batch", disable=not title, leave=False):
        outputs = forward(inputs)
        for name, array in outputs.items():
            if not np.isfinite(array).all():
                raise steps.not_finite(f"the model's answer {name!r}", title or "prediction", inputs)
        parts.append(outputs)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
