"""What ranks the same lists without a model, beside every retrieval result: the oracle of the subcategory, and ridge regression."""

from functools import cached_property, partial

import numpy as np

from kaleidobert.app_zoo.classify import picture_features
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.evaluators import baselines, retrieval
from kaleidobert.evaluators.candidates import CandidateLists, Gallery

METRICS = ("rank@1", "rank@5", "rank@10", "mrr")
RESAMPLES = 100  # their intervals are not shown


class Baselines:
    """Over lists whose rows are those of ``val_rows``. ridge: fit the regression too, on the rows ``rows``, once."""

    def __init__(self, bank: Bank, rows: np.ndarray, val_rows: np.ndarray, subcategory: str, ridge: bool, seed: int):
        self._bank, self._rows, self._val_rows, self._seed, self._ridge = bank, rows, val_rows, seed, ridge
        self._subcategories = bank.column(subcategory)[val_rows].tolist()

    def compare(self, lists: CandidateLists | Gallery, rng: np.random.Generator) -> dict[str, dict[str, float]]:
        """{baseline: {metric: value}}."""
        def oracle(part: CandidateLists) -> np.ndarray:
            return retrieval.subcategory_oracle(self._subcategories, part.queries, part.candidates)

        scorers = {"subcategory_oracle": oracle} | ({"ridge": partial(baselines.products, *self._sides)} if self._ridge else {})
        compared = {}
        for name, score in scorers.items():
            tallies = [retrieval.per_query_metrics(score(part), part.relevant, part.valid) for part in lists.chunks()]
            report = retrieval.summarise(retrieval.concatenate(tallies), rng, RESAMPLES)
            compared[name] = {metric: report[metric]["value"] for metric in METRICS}
        return compared

    @cached_property
    def _sides(self) -> tuple[np.ndarray, np.ndarray]:
        rows, texts, groups = self._rows, self._bank.column("text"), self._bank.column("group")
        features = picture_features(self._bank, np.concatenate([rows, self._val_rows]))
        matcher = baselines.fit_ridge(features[: len(rows)], texts[rows].tolist(), self._seed, groups[rows].tolist())
        return matcher.pictures(features[len(rows):]), matcher.texts(texts[self._val_rows].tolist())


def mean(draws: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """The means over several draws of lists."""
    return {name: {metric: float(np.mean([draw[name][metric] for draw in draws])) for metric in values}
            for name, values in draws[0].items()}
