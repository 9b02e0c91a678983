"""Small files in the released format, for the tests of what reads them: every column holds what its task allows."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kaleidobert import levels as kaleido
from kaleidobert.levels import KALEIDO
from kaleidobert.released import schema as released_schema
from kaleidobert.released.schema import Schema
from tests.support import released_writer

TEXT, MASKED, FEATURES, VOCABULARY = 12, 3, 4, 150


@dataclass(frozen=True)
class Sizes:
    """Numbers in a text, in its masked words, in a feature; ids."""

    text: int = TEXT
    masked: int = MASKED
    features: int = FEATURES
    vocabulary: int = VOCABULARY


TINY, RELEASE = Sizes(), Sizes(64, 10, 2048, 30522)


def schema(task: str, levels=KALEIDO, sizes: Sizes = TINY) -> Schema:
    return released_schema.released(task, levels, sizes.text, sizes.masked, sizes.features)


def columns(task: str, rows: int, levels=KALEIDO, seed: int = 0, sizes: Sizes = TINY) -> dict[str, np.ndarray]:
    """{column: [rows, length]} of the task's schema."""
    rng = np.random.Generator(np.random.Philox(seed))
    text, masked = sizes.text, sizes.masked
    length = rng.integers(3, text + 1, rows)
    made = {"input_ids": np.where(np.arange(text) < length[:, None], rng.integers(1, sizes.vocabulary, (rows, text)), 0),
            "input_mask": (np.arange(text) < length[:, None]).astype(int), "segment_ids": np.zeros((rows, text), int),
            "masked_lm_positions": np.sort(rng.integers(0, 3, (rows, masked)), 1),
            "masked_lm_ids": rng.integers(1, sizes.vocabulary, (rows, masked)),
            "masked_lm_weights": (np.arange(masked) < rng.integers(1, masked + 1, (rows, 1))).astype(np.float32)}
    for level in levels:
        if level.answer == "class":
            made[released_schema.class_column(level)] = rng.integers(0, level.num_classes, rows)
        else:
            ids = [rng.permutation(level.num_patches)[: level.num_masked] for _ in range(rows)]
            made[f"img_{level.name}_lm_ids"] = np.array(ids)
    made |= {"nx_sent_labels": (np.arange(rows) % 3 == 0).astype(int), "img_category_id": np.arange(rows) % 2,
             "img_subcategory_id": np.arange(rows) % 3, "img_category": np.array(["BAGS", "tops é"])[np.arange(rows) % 2],
             "img_subcategory": np.array(["TOTE", "VEST", "HEM"])[np.arange(rows) % 3], "prod_desc": np.array(["a red tote, big"] * rows),
             "text_prod_id": np.array([f"T{row}" for row in range(rows)]),
             "image_prod_id": np.array([f"P{row // 3}" for row in range(rows)]),
             "prod_img_id": np.array([f"P{row // 3}_0" for row in range(rows)]), "img_subtasks_flag": np.ones(rows, int),
             "image_mask": np.ones((rows, kaleido.num_patches(levels)), int)}
    for column in schema(task, levels, sizes).columns:
        if column.name not in made:
            shape = rows, column.length
            made[column.name] = (np.abs(rng.normal(0, 1, shape)).astype(np.float32) if column.type == "float" else
                                 rng.integers(0, 200, shape))
    return {name: array if array.ndim == 2 else array[:, None] for name, array in made.items()}


def write(folder: Path, task: str, rows: int, name: str = "rows", levels=KALEIDO, seed: int = 0, **changes) -> Path:
    """The list file of two data files; changes: columns to put in the place of others."""
    folder.mkdir(parents=True, exist_ok=True)
    made, half = columns(task, rows, levels, seed) | changes, (rows + 1) // 2
    parts = [part for part in (slice(half), slice(half, rows)) if part.stop != part.start]
    for number, part in enumerate(parts):
        released_writer.write(folder / f"{name}__{number}", schema(task, levels), [{key: value[part] for key, value in made.items()}])
    released_writer.write_list(folder / f"{name}.list_csv", [folder / f"{name}__{number}" for number in range(len(parts))])
    return folder / f"{name}.list_csv"
