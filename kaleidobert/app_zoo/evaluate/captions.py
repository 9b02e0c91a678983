"""The part of ``kaleidobert evaluate`` that counts captions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kaleidobert.app_zoo.evaluate.scores import comparison_lines
from kaleidobert.configs import EvaluateConfig
from kaleidobert.configs.addresses import written
from kaleidobert.evaluators import captions as caption_metrics
from kaleidobert.evaluators import statistics
from kaleidobert.evaluators.files import captions as caption_files


@dataclass(frozen=True)
class Material:
    """Captions, the references of each, and another model's captions of the same."""

    captions: list[str]
    references: list[list[str]]
    against: list[str] | None


def read(config: EvaluateConfig) -> Material:
    """Captions beside their references; UserError for what does not fit together."""
    assert config.captions is not None and config.references is not None  # or another part reads
    references = caption_files.read_references(config.references)
    _, captions, several = caption_files.paired(caption_files.read_results(config.captions), references, str(config.captions))
    against = None
    if config.against is not None:
        _, against, _ = caption_files.paired(caption_files.read_results(config.against), references, str(config.against))
    return Material(captions, several, against)


def describe_inputs(material: Material) -> str:
    """A line for --dry-run."""
    return f"{len(material.captions):,} captions, {sum(map(len, material.references)):,} references; the files fit together"


def evaluate(config: EvaluateConfig, material: Material) -> dict[str, Any]:
    """The results."""
    assert config.captions is not None
    rng = np.random.Generator(np.random.Philox(config.seed))
    report = caption_metrics.report(material.captions, material.references, rng, config.resamples)
    results: dict[str, Any] = {"task": "caption", "mode": "captions of a file", "references": sum(map(len, material.references)),
                               "metrics": report, "baselines": {}, "files": {"source": written(config.captions)}}
    if material.against and config.against:
        first, second = (caption_metrics.per_caption(captions, material.references)
                         for captions in (material.captions, material.against))
        compared = {name: statistics.difference(values, second[name], rng, config.resamples, config.permutations)
                    for name, values in first.items()}
        results["comparison"] = {"against": written(config.against), **compared}
    return results


def lines(results: Mapping[str, Any]) -> list[str]:
    """A line per metric."""
    report = results["metrics"]
    made = [f"{report['count']:,} captions, {results['references']:,} references"]
    for name, value in report.items():
        if isinstance(value, Mapping):
            made.append(f"{name:18s}{value['value']:8.4f}  [{value['low']:.4f}, {value['high']:.4f}]")
        elif isinstance(value, str):
            made.append(value)
        elif value is not None and name != "count":
            made.append(f"{name:18s}{value:8.6g}")
    return made + comparison_lines(results.get("comparison"))
