"""Which kernels of a device take the time: JAX's profiler around a function, its trace added up by name."""

import gzip
import json
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

SHOWN = 25
TIMES = 3  # that the function runs under the profiler


def longest(run: Callable[[], Any]) -> dict[str, Any]:
    """Returns {"seconds": of all kernels in one run of the function, "kernels": [[name, seconds, calls], ...]}, the longest first.

    Where there is no GPU the threads of the CPU count as one; functions of Python are skipped. {"none": why} where the profiler left
    nothing to read.
    """
    import jax

    run()
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(TIMES):
                run()
        result = sorted(Path(folder).rglob("*.trace.json.gz"))
        if not result:
            return {"none": "the profiler wrote no trace"}
        with gzip.open(result[-1], "rt", encoding="utf-8") as file:
            return added_up(json.load(file)["traceEvents"])


def added_up(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the same as ``longest``, of the events of a trace."""
    processes = {event["pid"]: event["args"]["name"] for event in events if event.get("name") == "process_name"}
    threads = {(event["pid"], event["tid"]): event["args"]["name"] for event in events if event.get("name") == "thread_name"}
    gpus = {pid for pid, name in processes.items() if "GPU" in name}
    seconds, calls = Counter(), Counter()
    for event in events:
        thread = threads.get((event.get("pid"), event.get("tid")), "")
        on_device = event.get("pid") in gpus and "Stream" in thread if gpus else not event.get("name", "$").startswith("$")
        if event.get("ph") == "X" and on_device:
            name = re.sub(r"[._]\d+$", "", event["name"])  # numbered copies of one kernel
            seconds[name] += event.get("dur", 0.0) / 1e6 / TIMES
            calls[name] += 1
    if not seconds:
        return {"none": "the trace names no kernel"}
    return {"seconds": sum(seconds.values()), "kernels": [[name, value, calls[name] / TIMES] for name, value in seconds.most_common(SHOWN)]}
