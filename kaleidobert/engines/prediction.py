"""Prediction: batches in, outputs out, with progress."""

from collections.abc import Callable

import numpy as np
from tqdm import tqdm

from kaleidobert.engines import steps
from kaleidobert.engines.feeding import prefetch


def predict(forward: Callable[[steps.Arrays], dict[str, np.ndarray]], make_inputs: Callable[[np.ndarray], steps.Arrays],
            rows: np.ndarray, batch_size: int, title: str = "", lengths: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """The model's outputs for all rows, at least one, in their order; make_inputs(rows of a batch) -> inputs.

    lengths: of the rows' texts; rows of one length then go together, so that make_inputs can cut their texts. forward:
    steps.forward(model), made once per model, for it compiles anew each time. Raises UserError where an output is not finite.
    """
    order = np.arange(len(rows)) if lengths is None else np.argsort(lengths, kind="stable")
    rows, parts = rows[order], []
    starts = range(0, len(rows), batch_size)
    batches = prefetch(lambda number: make_inputs(rows[starts[number] : starts[number] + batch_size]), range(len(starts)))
    with steps.held(forward):
        for inputs in tqdm(batches, desc=title, total=len(starts), unit="batch", disable=not title, leave=False):
            outputs = forward(inputs)
            for name, array in outputs.items():
                if not np.isfinite(array).all():
                    raise steps.not_finite(f"the model's answer {name!r}", title or "prediction", inputs)
            parts.append(outputs)
    return {name: np.concatenate([part[name] for part in parts])[np.argsort(order)] for name in parts[0]}
