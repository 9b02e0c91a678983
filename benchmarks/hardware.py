"""What a machine is, without loading a network library: processor, the flags that matter to products, memory, GPUs, versions."""

import importlib.metadata
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

FLAGS = ("avx2", "fma", "avx512f", "avx512_bf16", "avx512_fp16", "avx512_vnni", "amx_tile", "amx_bf16", "amx_int8", "amx_fp16", "asimd",
         "bf16")
PACKAGES = ("kaleidobert", "numpy", "keras", "tensorflow", "jax", "jaxlib", "torch", "transformers", "apache-beam")


def describe(torch_python: str | None = None) -> dict[str, Any]:
    """Returns processor, flags, cores, memory_bytes, gpus, system, versions; torch_python: where torch lives if not here."""
    cpu = _cpu()
    names, flags = cpu.get("model name", []), {flag for line in cpu.get("flags", cpu.get("Features", [])) for flag in line.split()}
    versions = {"python": platform.python_version()} | {name: result for name in PACKAGES if (result := _version(name))}
    if torch_python:
        versions |= _versions_of(torch_python)
    return {"processor": names[0] if names else platform.processor() or platform.machine(),
            "flags": [flag for flag in FLAGS if flag in flags],
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "gpus": gpus(),
            "system": f"{platform.system()} {platform.release()}", "versions": versions}


def same(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Returns what differs between two descriptions so that their figures cannot stand in one table."""
    return [key for key in ("processor", "cores", "gpus") if one.get(key) != other.get(key)]


def gpus() -> list[str]:
    """Returns "name, memory, driver" of every NVIDIA GPU, as nvidia-smi has it; [] where there is none."""
    if shutil.which("nvidia-smi") is None:
        return []
    words = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        result = subprocess.run(words, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.strip() for line in result.stdout.splitlines() if line.strip()] if result.returncode == 0 else []


def load() -> float | None:
    """Returns how many processes wanted a core in the last minute."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def sentence(machine: dict[str, Any]) -> str:
    """Returns a description in a line."""
    flags, versions = " ".join(machine["flags"]), ", ".join(" ".join(pair) for pair in machine["versions"].items())
    where = [machine["processor"], f"{machine['cores']} cores" + (f" ({flags})" if flags else ""),
             f"{machine['memory_bytes'] / 2**30:.0f} GiB", *machine["gpus"]]
    return ", ".join(where) + "; " + versions


def _cpu() -> dict[str, list[str]]:
    path, fields = Path("/proc/cpuinfo"), {}
    for line in path.read_text().splitlines() if path.is_file() else []:
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), []).append(value.strip())
    return fields


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _versions_of(python: str) -> dict[str, str]:
    code = "import importlib.metadata as m\nfor name in ('torch', 'transformers'):\n  print(name, m.version(name))"
    try:
        result = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return dict(line.split() for line in result.stdout.splitlines())
