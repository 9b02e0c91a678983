"""The nearest of many vectors by inner product: all of them, lists around centres, or a graph (faiss).

    flat   every vector is compared; exact, nothing is stored beside the vectors
    ivf    the vectors lie in lists around centres, of which the nearest ``probes`` are compared
    hnsw   a graph whose edges lead to nearer and nearer vectors

faiss is imported where it is used: reading the command line needs none of it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kaleidobert.errors import UserError

KINDS = ("flat", "ivf", "hnsw")
MAX_FLAT = 200_000  # vectors that are compared one by one where nothing else is said (benchmarks/search.py)
PER_LIST = 1000  # vectors in a list of ivf, on average
TRAINED_ON = 64  # vectors per list on which the centres are trained
RECALL, RECALL_OF = 0.95, 100  # of the nearest so many, what ivf must find: by that its probes are chosen
JUDGED = 200  # queries that choose the probes
EDGES, BUILD_EFFORT, EFFORT = 32, 80, 200  # of hnsw


@dataclass(frozen=True)
class Nearest:
    """rows i64[Q, k], the nearest first, -1 where there are fewer; scores f32[Q, k], their inner products, -inf there."""

    rows: np.ndarray
    scores: np.ndarray


class VectorIndex:
    """Vectors f32[N, W], searched as ``kind`` says. structure: faiss's, None of flat; probes: of ivf, 0 of others.

    Several threads may search at the same time.
    """

    def __init__(self, vectors: np.ndarray, kind: str = "flat", structure: Any = None, probes: int = 0):
        self.vectors, self.kind, self.structure, self.probes = vectors, kind, structure, probes

    def search(self, queries: np.ndarray, count: int, allowed: np.ndarray | None = None) -> Nearest:
        """Returns the ``count`` nearest, of those that bool[N] ``allowed`` has, to f32[Q, W].

        With ``allowed`` every allowed vector is compared, whatever the kind: lists and graphs lose what is rare among all.
        """
        faiss, queries = _faiss(), np.ascontiguousarray(queries, np.float32)
        rows = None if allowed is None else np.flatnonzero(allowed)
        count = min(count, len(self.vectors) if rows is None else len(rows))
        if not count:
            return Nearest(np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0), np.float32))
        if rows is not None:
            scores, numbers = faiss.knn(queries, np.ascontiguousarray(self.vectors[rows]), count, metric=faiss.METRIC_INNER_PRODUCT)
            return _in_order(rows[numbers], scores)
        if self.structure is None:
            scores, numbers = faiss.knn(queries, self.vectors, count, metric=faiss.METRIC_INNER_PRODUCT)
            return _in_order(numbers, scores)
        if self.kind == "ivf":
            options = faiss.SearchParametersIVF(nprobe=self.probes)
        else:
            options = faiss.SearchParametersHNSW(efSearch=max(EFFORT, 2 * count))
        scores, numbers = self.structure.search(queries, count, params=options)
        return _in_order(numbers, np.where(numbers < 0, -np.inf, scores))

    def content(self) -> bytes:
        """Returns what lies beside the vectors, to be kept in a file; nothing of flat."""
        return b"" if self.structure is None else _faiss().serialize_index(self.structure).tobytes()


def choose(count: int, kind: str = "auto") -> str:
    """Returns the kind for so many vectors."""
    if kind != "auto":
        return kind
    return "flat" if count <= MAX_FLAT else "ivf"


def build(vectors: np.ndarray, kind: str, queries: np.ndarray, seed: int = 0) -> VectorIndex:
    """Returns the index of vectors f32[N, W]. queries f32[Q, W]: such as will be asked, by which the probes of ivf are chosen.

    The same vectors give the same index: a graph is therefore made by one thread. Raises UserError for fewer vectors than ivf needs.
    """
    if kind == "flat":
        return VectorIndex(vectors)
    if kind == "ivf" and len(vectors) < 2 * TRAINED_ON:
        raise UserError(f"{len(vectors)} vectors are too few for kind ivf", "the index", f"at least {2 * TRAINED_ON}", "set kind=auto")
    return (_ivf if kind == "ivf" else _hnsw)(vectors, queries, seed)


def load(path: Path, vectors: np.ndarray, kind: str, probes: int) -> VectorIndex:
    """Opens a file of ``content``. Raises UserError where it cannot be read or is of other vectors."""
    try:
        structure = _faiss().deserialize_index(np.fromfile(path, np.uint8))
    except (RuntimeError, OSError) as error:
        raise UserError(f"cannot be read ({str(error).splitlines()[-1]})", str(path), fix="make the index again") from None
    if (structure.ntotal, structure.d) != vectors.shape:
        raise UserError(f"is of {structure.ntotal} vectors of {structure.d}", str(path), f"{len(vectors)} of {vectors.shape[1]}",
                        "make the index again")
    return VectorIndex(vectors, kind, structure, probes)


def recall(index: VectorIndex, queries: np.ndarray, count: int) -> float:
    """Returns which fraction of the ``count`` nearest of every query the index finds, the mean over queries f32[Q, W]."""
    exact, found = VectorIndex(index.vectors).search(queries, count).rows, index.search(queries, count).rows
    return float(np.mean([np.isin(right, row).mean() for right, row in zip(exact, found)]))


def _ivf(vectors: np.ndarray, queries: np.ndarray, seed: int) -> VectorIndex:
    faiss = _faiss()
    lists = max(1, min(round(len(vectors) / PER_LIST), len(vectors) // TRAINED_ON))
    structure = faiss.IndexIVFFlat(faiss.IndexFlatIP(vectors.shape[1]), vectors.shape[1], lists, faiss.METRIC_INNER_PRODUCT)
    structure.cp.seed, structure.cp.max_points_per_centroid = seed + 1, TRAINED_ON
    structure.train(vectors)
    structure.add(vectors)
    index = VectorIndex(vectors, "ivf", structure, lists)
    sample = queries[:: max(1, len(queries) // JUDGED)][:JUDGED]
    for probes in (2**power for power in range(lists.bit_length())):
        index.probes = min(probes, lists)
        if recall(index, sample, min(RECALL_OF, len(vectors))) >= RECALL:
            return index
    index.probes = lists
    return index


def _hnsw(vectors: np.ndarray, queries: np.ndarray, seed: int) -> VectorIndex:
    faiss = _faiss()
    structure = faiss.IndexHNSWFlat(vectors.shape[1], EDGES, faiss.METRIC_INNER_PRODUCT)
    structure.hnsw.efConstruction = BUILD_EFFORT
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)  # several threads link the same vectors otherwise each time
    try:
        structure.add(vectors)
    finally:
        faiss.omp_set_num_threads(threads)
    return VectorIndex(vectors, "hnsw", structure)


def _faiss() -> Any:
    """Returns the library, which is loaded where it is used."""
    import faiss

    return faiss


def _in_order(rows: np.ndarray, scores: np.ndarray) -> Nearest:
    """Puts equal scores in the order of their rows: faiss's own order of them means nothing."""
    order = np.lexsort((rows, -scores), axis=1)
    return Nearest(np.take_along_axis(rows, order, 1).astype(np.int64), np.take_along_axis(scores, order, 1).astype(np.float32))
