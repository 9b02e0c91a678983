"""Another process that writes a folder, for tests: it takes the system's lock on a file and holds it until it is killed."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HOLD = """
import fcntl, json, os, socket, sys
path = sys.argv[1]
os.makedirs(os.path.dirname(path), exist_ok=True)
file = open(path, "w")
fcntl.flock(file, fcntl.LOCK_EX)
json.dump({"process": os.getpid(), "host": socket.gethostname(), "since": "2001-02-03 04:05:06"}, file)
file.flush()
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def holding(folder: Path, name: str = ".lock") -> Iterator[subprocess.Popen]:
    """A process that holds the lock of a folder; killed at the end, if it is not before."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder / name)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()
