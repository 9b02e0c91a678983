"""Where products come from: one module per source, each with a class that is its configuration section and yields its rows.

``SOURCES`` is the one list of them: ``source.kind`` of a configuration names a row. table: CSV, TSV, JSONL. fashion_gen: the raw
release. tfds: data sets of TensorFlow Datasets. reading: makes products of the rows of any source.
"""

from kaleidobert.configs import Source
from kaleidobert.datasets.sources.fashion_gen import ExtractedFashionGenSource, FashionGenSource
from kaleidobert.datasets.sources.table import TableSource
from kaleidobert.datasets.sources.tfds import TfdsSource

SOURCES: dict[str, type[Source]] = {
    "table": TableSource,
    "fashion_gen": FashionGenSource,
    "fashion_gen_extracted": ExtractedFashionGenSource,
    "tfds": TfdsSource,
}
