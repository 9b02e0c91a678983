"""Captions that need no captioner, to stand beside those of one."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from kaleidobert.app_zoo.classify import picture_features
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.evaluators import baselines


def simple_captions(bank: Bank, train: np.ndarray, texts: Sequence[str], rows: np.ndarray, subcategory: str) -> dict[str, list[str]]:
    """{"nearest_picture": the text of the nearest training picture, "commonest_of_subcategory": the commonest training text of the
    subcategory that the nearest pictures vote for} for each of ``rows``; texts: of the rows ``train``; nearest by the bank's features.

    A bank without that label: "commonest", the commonest of all texts, instead.
    """
    features = picture_features(bank, np.concatenate([train, rows]))
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    nearest = np.concatenate([(part @ unit[: len(train)].T).argmax(1) for part in np.array_split(unit[len(train) :], -(-len(rows) // 256))])
    found = {"nearest_picture": [texts[number] for number in nearest]}
    if subcategory not in bank.index["labels"]:
        return found | {"commonest": [Counter(texts).most_common(1)[0][0]] * len(rows)}
    _, labels = np.unique(bank.column(subcategory)[train], return_inverse=True)
    commonest = {label: Counter(text for text, own in zip(texts, labels) if own == label).most_common(1)[0][0] for label in set(labels)}
    guesses = baselines.nearest_neighbours(features[: len(train)], labels, features[len(train) :])
    return found | {"commonest_of_subcategory": [commonest[label] for label in guesses]}
