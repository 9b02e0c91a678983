"""Batches of released rows: masking, pretexts and pairs are baked into the files, so only the order is drawn here.

The samplers have the protocol of pretraining.PretrainSampler and finetuning.LabelSampler: a batch is a pure function of (seed, step).
Letters as in specs.py. Features are float32 and boxes the files' own integers, as the release fed them.
"""

from collections.abc import Sequence

import numpy as np

from kaleidobert import levels as kaleido
from kaleidobert.configs import Noise
from kaleidobert.datasets.sampling.pretraining import EXAMPLES, EpochOrder, generator
from kaleidobert.errors import UserError
from kaleidobert.levels import KaleidoLevel
from kaleidobert.preprocessors import examples, pretexts
from kaleidobert.preprocessors.examples import Arrays
from kaleidobert.released.rows import Columns, Rows, check_finite, check_values
from kaleidobert.released.schema import BOX, box_column, class_column, feature_column

PAD, CLS, SEP, MASK = 0, 101, 102, 103  # of bert-base-uncased, with which the files were made
SEGMENTS = 2
CLASSES = {"category": 48, "subcategory": 122}  # of the label maps, as in the heads of the release


class Reader:
    """Makes model inputs of columns; UserError with the location of the row for an id outside its range."""

    def __init__(self, rows: Rows, levels: Sequence[KaleidoLevel], vocabulary_size: int):
        self.rows, self.levels, self.vocabulary_size = rows, tuple(levels), vocabulary_size

    def inputs(self, numbers: np.ndarray, columns: Columns) -> Arrays:
        """Returns token_ids, segment_ids, token_mask [B, T], patch_features f32[B, P, F] and patch_boxes f32[B, P, 5] of the files."""
        for name, limit, meaning in (("input_ids", self.vocabulary_size, "ids of the vocabulary (data.vocabulary_size)"),
                                     ("input_mask", 2, "1 for a real piece"), ("segment_ids", SEGMENTS, "segments")):
            check_values(self.rows, numbers, name, columns[name], limit, meaning)
        features, boxes = [], []
        for level in self.levels:
            name = feature_column(level)
            check_finite(self.rows, numbers, name, columns[name])
            features.append(columns[name].reshape(len(numbers), level.num_patches, -1))
            boxes.append(columns[box_column(level)].reshape(len(numbers), level.num_patches, BOX))
        return {"token_ids": columns["input_ids"].astype(np.int32), "segment_ids": columns["segment_ids"].astype(np.int32),
                "token_mask": columns["input_mask"].astype(bool), "patch_features": np.concatenate(features, 1),
                "patch_boxes": np.concatenate(boxes, 1).astype(np.float32)}

    def pretraining(self, numbers: np.ndarray, columns: Columns, all_losses: bool) -> tuple[Arrays, Arrays, Arrays]:
        """Returns (inputs, targets, weights) of pre-training.

        Blank patches are multiplied by 1 - sum(one_hot(ids)): an id that occurs twice NEGATES its patch, as released. Grey patches
        are grey in the files, with their colour features in a separate column. all_losses: pairs that do not match count in all
        losses (as released), else in the matching loss only.
        """
        inputs, targets, masked = self.inputs(numbers, columns), {}, []
        for level, patches in zip(self.levels, kaleido.patch_slices(self.levels).values()):
            if level.answer == "class":
                targets[level.name] = self.classes(numbers, columns, class_column(level), level.num_classes)
            if level.answer != "feature":
                continue
            name, raw = f"img_{level.name}_lm_ids", inputs["patch_features"][:, patches]
            chosen = columns[name]
            check_values(self.rows, numbers, name, chosen, level.num_patches, f"patches of the level {level.name!r}")
            masked.append(patches.start + chosen)
            if level.pretext == "grey":
                target = columns[f"img_{level.name}_mask_gt"]
                check_finite(self.rows, numbers, f"img_{level.name}_mask_gt", target)
                targets[level.name] = target.reshape(len(numbers), level.num_masked, -1)
            else:
                targets[level.name] = np.take_along_axis(raw, chosen[:, :, None], 1)
                inputs["patch_features"][:, patches] = pretexts.blank(raw, chosen)
        check_values(self.rows, numbers, "masked_lm_positions", columns["masked_lm_positions"], columns["input_ids"].shape[1],
                     "positions in the text")
        check_values(self.rows, numbers, "masked_lm_ids", columns["masked_lm_ids"], self.vocabulary_size, "ids of the vocabulary")
        check_finite(self.rows, numbers, "masked_lm_weights", columns["masked_lm_weights"])
        inputs["masked_tokens"] = columns["masked_lm_positions"].astype(np.int32)
        if masked:
            inputs["masked_patches"] = np.concatenate(masked, 1).astype(np.int32)
        targets["mlm"] = columns["masked_lm_ids"].astype(np.int32)
        targets["itm"] = self.classes(numbers, columns, "nx_sent_labels", 2)
        counts = np.ones(len(numbers), np.float32) if all_losses else targets["itm"].astype(np.float32)
        weights = {level.name: counts for level in kaleido.target_levels(self.levels)}
        weights |= {"mlm": columns["masked_lm_weights"] * counts[:, None], "itm": np.ones(len(numbers), np.float32)}
        return inputs, targets, weights

    def classes(self, numbers: np.ndarray, columns: Columns, name: str, count: int) -> np.ndarray:
        """Returns i32[B] of a column of class numbers. UserError for a number outside the range, for which the release has a loss of 0."""
        check_values(self.rows, numbers, name, columns[name], count, "classes")
        return columns[name][:, 0].astype(np.int32)

    def restrict(self, inputs: Arrays, modality: str) -> Arrays:
        """Returns the same examples with the picture alone ("image"), the text alone ("text") or both."""
        if modality == "image":
            return examples.without_text(inputs, CLS, SEP, PAD)
        return examples.without_picture(inputs) if modality == "text" else inputs


class FilePretrainSampler:
    """Pre-training batches, whose targets are baked into the rows."""

    def __init__(self, reader: Reader, losses_on_negatives: str, batch_size: int, seed: int):
        self._reader, self._all_losses = reader, losses_on_negatives == "all"
        self.order = EpochOrder(np.arange(len(reader.rows)), batch_size, seed)

    def batch(self, step: int) -> tuple[Arrays, Arrays, Arrays]:
        """Returns the training batch of a step."""
        return self.examples(self.order.batch(step))

    def validation(self, step: int) -> tuple[Arrays, Arrays, Arrays] | None:
        """Returns the step-th batch of the rows in their own order, the last one smaller; None after the end."""
        size = self.order.batch_size
        numbers = self.order.rows[step * size : (step + 1) * size]
        return self.examples(numbers) if len(numbers) else None

    def examples(self, numbers: np.ndarray) -> tuple[Arrays, Arrays, Arrays]:
        """Returns the examples of the given rows."""
        return self._reader.pretraining(numbers, self._reader.rows.take(numbers), self._all_losses)


class FileLabelSampler:
    """Fine-tuning batches: inputs, {"label": i32[B]}, {"label": f32[B]} (all ones). label: category or subcategory."""

    def __init__(self, reader: Reader, label: str, modality: str, noise: Noise, batch_size: int, seed: int):
        self._reader, self._modality, self._noise, self._seed = reader, modality, noise, seed
        self._column, self._classes = label_column(label), CLASSES[label]
        self.order = EpochOrder(np.arange(len(reader.rows)), batch_size, seed)

    def batch(self, step: int) -> tuple[Arrays, Arrays, Arrays]:
        """Returns the training batch of a step."""
        numbers = self.order.batch(step)
        columns = self._reader.rows.take(numbers)
        labels = self._reader.classes(numbers, columns, self._column, self._classes)
        inputs = self._reader.restrict(self._reader.inputs(numbers, columns), self._modality)
        inputs = examples.hide(inputs, self._noise.patch_dropout, self._noise.token_dropout, MASK, generator(self._seed, EXAMPLES, step))
        return inputs, {"label": labels}, {"label": np.ones(len(numbers), np.float32)}


def label_column(label: str) -> str:
    """Returns the column of a label's class numbers; UserError for a label that the files do not have."""
    if label not in CLASSES:
        raise UserError(f"released files have no label {label!r}", "label", " or ".join(CLASSES))
    return f"img_{label}_id"


def label_map(rows: Rows, label: str) -> tuple[np.ndarray, dict[int, str]]:
    """Returns (i64[N] class numbers of all rows, {number: name} where the files name them); UserError for an unknown number."""
    column, name = label_column(label), f"img_{label}"
    scanned = rows.scan([column, name] if name in rows.schema.names else [column])
    check_values(rows, np.arange(len(scanned[column])), column, scanned[column], CLASSES[label], "classes")
    numbers = scanned[column][:, 0].astype(np.int64)
    values, first = np.unique(numbers, return_index=True)
    names = {int(value): str(scanned[name][row, 0]) for value, row in zip(values, first)} if name in scanned else {}
    return numbers, names
