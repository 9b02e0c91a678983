"""The two sides of a bank's products apart, for pairs of any picture with any text."""

import numpy as np

from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.preprocessors import examples
from kaleidobert.preprocessors.examples import Arrays


def pictures(bank: Bank, rows: np.ndarray) -> Arrays:
    """patch_features f16[n, P, F] of unspoiled pictures, patch_boxes f32[n, P, 5]."""
    return {**examples.clean(rows, bank.levels, bank.gather), "patch_boxes": bank.boxes[rows]}


def texts(bank: Bank, rows: np.ndarray) -> Arrays:
    """token_ids, segment_ids, token_mask [n, T]."""
    return examples.text(bank.token_ids[rows], bank.vocabulary.pad)


def lengths(bank: Bank) -> np.ndarray:
    """i64[N]: up to which position each row's text has tokens."""
    real = bank.token_ids != bank.vocabulary.pad
    return np.where(real.any(1), real.shape[1] - real[:, ::-1].argmax(1), 1)
