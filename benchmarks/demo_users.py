"""Many users of ``kaleidobert demo`` at once: what is lost, and how long answers take.

    python -m benchmarks.demo_users runs/quickstart --users 20 --seconds 300

Starts the demo on the loopback. Each user searches by words (three of five), opens a product, or uploads a picture and asks what it is,
and thinks for one to three seconds between. Every answer is checked: a search finds products, a page is that of its product, an uploaded
picture gets classes. Needs the extra `demo`.
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

ACTIONS = ("words", "words", "words", "product", "picture")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--users", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    process = subprocess.Popen([sys.executable, "-m", "kaleidobert.cli", "demo", str(options.runs)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        address = next(found[0] for line in process.stdout if (found := re.search(r"http://\S+:\d+/", line)))
        result = visit(address, table_of(options.runs), options.users, options.seconds)
    finally:
        process.terminate()
        process.wait()
    print(json.dumps(result, indent=2))
    if options.out:
        options.out.write_text(json.dumps(result, indent=2))


def table_of(runs: Path) -> list[dict]:
    """Returns the rows of the bank that the runs share."""
    import kaleidobert

    return kaleidobert.load(runs).bank.table


def visit(address: str, table: list[dict], users: int, seconds: float) -> dict:
    """Returns {"answers", "lost", action: {"count", "p50_s", "p95_s"}, ...} of users who ask for so many seconds."""
    taken: dict[str, list[float]] = {action: [] for action in ACTIONS}
    faults: list[str] = []
    end = time.monotonic() + seconds

    def user(number: int) -> None:
        from gradio_client import Client

        rng, client = random.Random(number), Client(address, verbose=False)
        time.sleep(rng.uniform(0, 3))
        while time.monotonic() < end:
            action, row = rng.choice(ACTIONS), rng.choice(table)
            start = time.monotonic()
            try:
                ask(client, action, row)
                taken[action].append(time.monotonic() - start)
            except Exception as error:
                faults.append(f"{action}: {type(error).__name__}: {error}"[:200])
            time.sleep(rng.uniform(1, 3))

    threads = [threading.Thread(target=user, args=(number,)) for number in range(users)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    of = {action: {"count": len(times), "p50_s": round(float(np.median(times)), 3), "p95_s": round(float(np.quantile(times, 0.95)), 3)}
          for action, times in taken.items() if times}
    return {"users": users, "seconds": seconds, "answers": sum(map(len, taken.values())), "lost": len(faults), "faults": faults[:5],
            "cores": os.cpu_count(), "load": os.getloadavg()[0], **of}


def ask(client, action: str, row: dict) -> None:
    """Asks one thing and checks the answer."""
    from gradio_client import handle_file

    if action == "words":
        answer = client.predict(row["text"], *[[] for _ in row["labels"]], api_name="/search")
        assert "<table>" in answer[-1], answer[-1][:100]
    elif action == "product":
        assert row["image_id"] in client.predict(row["image_id"], api_name="/product")[1]
    else:
        client.predict(handle_file(row["image_path"]), api_name="/picture")
        answer = client.predict("", api_name="/look")
        assert "<h3>" in answer[0], answer[0][:100]


if __name__ == "__main__":
    main()
