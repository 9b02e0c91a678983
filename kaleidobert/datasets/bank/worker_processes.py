"""Which cores and GPUs the worker processes of this machine get."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from multiprocessing.queues import SimpleQueue

DEVICES = "CUDA_VISIBLE_DEVICES"
SHARED = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # memory as needed: others need some too


def gpus(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The NVIDIA GPUs of this machine as CUDA_VISIBLE_DEVICES names them; of one that is divided, its parts.

    Where that variable is set, those that it names.
    """
    if DEVICES in environment:
        names = [name.strip() for name in environment[DEVICES].split(",")]
        ends = [place for place, name in enumerate(names) if name in ("", "-1")]  # CUDA itself reads no further
        return names[: ends[0]] if ends else names
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        return listed(subprocess.run([program, "-L"], capture_output=True, text=True, timeout=60).stdout)
    except (OSError, subprocess.TimeoutExpired):  # a driver that does not answer
        return []


def listed(text: str) -> list[str]:
    """The names in what nvidia-smi -L prints.

    >>> listed("GPU 0: NVIDIA A30 (UUID: GPU-1)\\nGPU 1: NVIDIA A30 (UUID: GPU-2)\\n  MIG 1g.6gb Device 0: (UUID: MIG-3)\\n")
    ['GPU-1', 'MIG-3']
    """
    found: list[list[str]] = []
    for line in text.splitlines():
        if name := re.search(r"\(UUID: (\S+)\)", line):
            if line.startswith("GPU"):
                found.append([name[1]])
            elif found:
                found[-1].append(name[1])
    return [name for names in found for name in (names[1:] or names)]


def environments(workers: int, devices: list[str], cores: int) -> list[dict[str, str]]:
    """The variables of each process: a share of the cores, and one of the GPUs in turn; without GPUs nothing about them is said."""
    threads = str(max(1, cores // workers))
    shares = {"TF_NUM_INTRAOP_THREADS": threads, "TF_NUM_INTEROP_THREADS": "1", "OMP_NUM_THREADS": threads}
    return [shares | ({DEVICES: devices[number % len(devices)], **SHARED} if devices else {}) for number in range(workers)]


def settle(shares: SimpleQueue) -> None:
    """Take one of the environments for this process; must run before a network library is imported in it."""
    os.environ.update(shares.get())
