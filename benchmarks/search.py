"""Time the search of an index: stage one against faiss's own search of the same vectors in the same run, recall of lists and graph against
comparing every vector, and, with --index, a whole query by its parts."""

import argparse
import resource
import sys
from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter, process_time
from typing import Any

import numpy as np

from benchmarks import report
from kaleidobert import io
from kaleidobert.engines import vector_index
from kaleidobert.engines.vector_index import KINDS, VectorIndex

WIDTH = 608  # of the quickstart's vectors: 512 of the towers, 96 of the contrast
DIRECTIONS, NOISE = 48, 0.35  # of the synthetic vectors: how many directions they vary in, and how far a query is from what it means
COUNT = 100  # nearest that are wanted, as stage two re-ranks so many
HEADS = ("vectors", "kind", "build s (CPU s)", "MB beside the vectors", "p50 / p95 ms", "CPU ms", "faiss alone: p50 / p95 ms", "CPU ms",
         "recall")
WORDS = ("red striped t-shirt", "black leather bag", "blue jeans", "long dress with flowers", "white trainers", "green coat with buttons",
         "pink skirt", "striped sweater with long sleeves", "yellow shorts", "brown boots")


def main(arguments: list[str] | None = None) -> int:
    """Runs the program; returns the exit status."""
    parser = argparse.ArgumentParser("python -m benchmarks.search", description=__doc__)
    parser.add_argument("--vectors", type=report.positive, nargs="*", default=[7000], help="numbers of synthetic vectors; default: 7000")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=["flat", "ivf", "hnsw"])
    parser.add_argument("--width", type=report.positive, default=WIDTH, help=f"of a vector; default: {WIDTH}")
    parser.add_argument("--queries", type=report.positive, default=200, help="timed one by one; default: 200")
    parser.add_argument("--index", metavar="FOLDER", help="an index of `kaleidobert index`: time whole queries of it, too")
    parser.add_argument("--json", metavar="FILE", help="also write every figure to this file")
    return report.guarded(run, parser.parse_args(arguments))


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measures and prints."""
    machine = report.machine()
    result: dict[str, Any] = {"title": "search", "machine": machine, "stage one": [], "query": []}
    print(f"{machine['processor']}, {machine['cores']} cores, load {machine['load']}")
    print(f"| {' | '.join(HEADS)} |\n{'|---' * len(HEADS)}|")
    for count in options.vectors:
        vectors, queries = synthetic(count, options.width, 1000)
        for kind in options.kinds:
            row = stage_one(vectors, queries, kind, options.queries)
            result["stage one"].append(row)
            print("| {vectors:,} | {kind} | {build_s:.1f} ({build_cpu_s:.1f}) | {megabytes:,.0f} | {p50_ms:.2f} / {p95_ms:.2f} | "
                  "{cpu_ms:.2f} | {faiss_p50_ms:.2f} / {faiss_p95_ms:.2f} | {faiss_cpu_ms:.2f} | {recall:.3f} |".format(**row), flush=True)
    if options.index:
        result["query"] = whole_queries(options.index, options.queries)
        for row in result["query"]:
            print("{name}: p50 {p50_ms:.1f} ms, p95 {p95_ms:.1f} ms, CPU {cpu_ms:.1f} ms of {queries} queries".format(**row))
    if options.json:
        io.write_json(options.json, result)
    return result


def synthetic(count: int, width: int, queries: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns (vectors f32[count, W], queries f32[queries, W]) of length 1; a query lies near a vector, as a text does to its picture."""
    rng = np.random.Generator(np.random.Philox(0))
    directions = rng.standard_normal((DIRECTIONS, width), np.float32) / np.arange(1, DIRECTIONS + 1, dtype=np.float32)[:, None] ** 0.5
    vectors = np.empty((count, width), np.float32)
    for start in range(0, count, 2**16):
        size = min(2**16, count - start)
        vectors[start : start + size] = _unit(rng.standard_normal((size, DIRECTIONS), np.float32) @ directions)
    noise = rng.standard_normal((queries, DIRECTIONS), np.float32) @ directions
    return vectors, _unit(vectors[rng.integers(count, size=queries)] + NOISE * _unit(noise))


def stage_one(vectors: np.ndarray, queries: np.ndarray, kind: str, timed: int) -> dict[str, Any]:
    """Returns figures of one kind; the floor is faiss's own search with the same structure, by turns with ours."""
    import faiss

    wall, cpu, memory = perf_counter(), process_time(), _resident()
    index = vector_index.build(vectors, kind, queries[timed:])
    built = {"build_s": perf_counter() - wall, "build_cpu_s": process_time() - cpu, "megabytes": (_resident() - memory) / 2**20}
    if index.structure is None:
        bare = faiss.IndexFlatIP(vectors.shape[1])
        bare.add(vectors)
    else:
        bare = index.structure
    options = {"flat": None, "ivf": faiss.SearchParametersIVF(nprobe=max(1, index.probes)),
               "hnsw": faiss.SearchParametersHNSW(efSearch=max(vector_index.EFFORT, 2 * COUNT))}[kind]
    ours, floor = by_turns([lambda query: index.search(query, COUNT), lambda query: bare.search(query, COUNT, params=options)],
                           queries[:timed])
    quality = 1.0 if kind == "flat" else vector_index.recall(VectorIndex(vectors, kind, index.structure, index.probes),
                                                             queries[:timed], COUNT)
    return {"vectors": len(vectors), "width": vectors.shape[1], "kind": kind, "probes": index.probes, **built, **_percentiles(ours),
            **{f"faiss_{name}": value for name, value in _percentiles(floor).items() if name != "queries"}, "recall": quality}


def whole_queries(folder: str, timed: int) -> list[dict[str, Any]]:
    """Returns figures of queries of an index by words and by its own pictures, with and without stage two."""
    from kaleidobert.app_zoo import backends

    backends.load()
    from kaleidobert.app_zoo.search.searcher import Searcher

    opened: list[Searcher] = []
    rows = [{"name": "opening", **_percentiles([timed_once(lambda: opened.append(Searcher(folder)))])}]
    searcher = opened[0]
    pictures = [row["image_path"] for row in searcher.bank.table[:: max(1, searcher.bank.size // 50)]]
    cases: list[tuple[str, Callable[[int], Any]]] = []
    for rerank in (0, COUNT):
        stages = f"re-ranking {rerank}" if rerank else "stage one alone"
        cases.append((f"words, {stages}", lambda number, rerank=rerank: searcher.search(WORDS[number % len(WORDS)], rerank=rerank)))
        cases.append((f"a picture, {stages}",
                      lambda number, rerank=rerank: searcher.search(picture=pictures[number % len(pictures)], rerank=rerank)))
    for name, search in cases:
        search(0)  # compiled once
        rows.append({"name": name, **_percentiles([timed_once(partial(search, number)) for number in range(timed)])})
    return rows


Seconds = tuple[float, float]  # by the wall clock, and of the CPUs


def by_turns(cases: Sequence[Callable[[np.ndarray], Any]], queries: np.ndarray) -> list[list[Seconds]]:
    """Returns the seconds of every case for each query f32[W], asked one by one, the cases in turn."""
    seconds: list[list[Seconds]] = [[] for _ in cases]
    for number, query in enumerate(queries):
        for position in range(len(cases))[:: -1 if number % 2 else 1]:
            seconds[position].append(timed_once(partial(cases[position], query[None])))
    return seconds


def timed_once(call: Callable[[], Any]) -> Seconds:
    """Returns the seconds of a call."""
    wall, cpu = perf_counter(), process_time()
    call()
    return perf_counter() - wall, process_time() - cpu


def _percentiles(seconds: Sequence[Seconds]) -> dict[str, float]:
    """Returns median and 95th percentile of the wall clock, and the median of the CPUs, in ms."""
    wall, cpu = np.array(seconds).T * 1e3
    p50, p95 = np.percentile(wall, [50, 95])
    return {"p50_ms": float(p50), "p95_ms": float(p95), "cpu_ms": float(np.median(cpu)), "queries": len(seconds)}


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _resident() -> int:
    """Returns the bytes of this process in memory now; where the system does not say, the most there ever were."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    sys.exit(main())
