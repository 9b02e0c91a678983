"""What a run ran on: versions, the state of the code, the machine (without its name), and how long each start of it took.

    environment.json     {"versions", "code", "machine", "starts": [{"began", "ended", "seconds"}, ...]}

It stands beside results.json and not in it: the same command twice gives the same results.
"""

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import monotonic
from typing import Any

import kaleidobert
from kaleidobert import devices, io
from kaleidobert.errors import UserError

FILE = "environment.json"
PACKAGES = ("keras", "tensorflow", "jax", "torch", "numpy")
ROOT = Path(__file__).resolve().parents[2]  # of a checkout; where the package is installed from a wheel it is none


class Start:
    """One start of a run; written as often as the run likes, so that an interrupted one has its time, too."""

    def __init__(self, folder: Path):
        self._path, self._began, self._since = folder / FILE, _now(), monotonic()
        # of the start, and kept: a commit made meanwhile is not what runs; not the devices, as no network library may be set up yet
        _versions(), _code(), _machine()

    def write(self) -> None:
        """Writes environment.json with the starts before this one, and this one until now."""
        before = [start for start in read(self._path.parent).get("starts", []) if start.get("began") != self._began]
        own = {"began": self._began, "ended": _now(), "seconds": round(monotonic() - self._since, 1)}
        io.write_json(self._path, {**describe(), "starts": [*before, own]})


def read(folder: Path) -> Mapping[str, Any]:
    """Returns environment.json of a run folder; empty where there is none, and where it is damaged: no figure depends on it."""
    try:
        made = io.read_json(folder / FILE)
    except UserError:
        return {}
    starts = made.get("starts", []) if isinstance(made, Mapping) else None
    return made if isinstance(starts, list) and all(isinstance(start, Mapping) for start in starts) else {}


def describe() -> dict[str, Any]:
    """Returns {"versions", "code", "machine"} of this process."""
    keras = sys.modules.get("keras")  # not loaded for this
    return {"versions": _versions() | ({"backend": keras.backend.backend()} if keras is not None else {}), "code": _code(),
            "machine": _machine() | ({"devices": devices.names()} if keras is not None else {})}


@cache
def _versions() -> dict[str, str]:
    made = {"kaleidobert": kaleidobert.__version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            made[name] = version(name)
        except PackageNotFoundError:
            continue
    return made


@cache
def _code() -> dict[str, Any]:
    """Returns {"commit", "changed": whether files differ from it} of the checkout that the package lies in; {} where it lies in none."""
    if not (ROOT / ".git").exists():
        return {}
    try:
        commit, changes = (subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True, timeout=20).stdout
                           for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"]))
    except (OSError, subprocess.SubprocessError):  # no git, or a checkout of somebody else
        return {}
    return {"commit": commit.strip(), "changed": bool(changes.strip())}


@cache
def _machine() -> dict[str, Any]:
    made: dict[str, Any] = {"system": f"{platform.system()} {platform.release()}", "processor": _processor(), "cores": os.cpu_count()}
    try:
        made["memory_gb"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, ValueError, OSError):  # not on every system
        pass
    return made


def _processor() -> str:
    """Returns the name of the processor; of its kind where the system does not tell more."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
