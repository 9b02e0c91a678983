"""How much memory there is for a training step: the GPU's where the backend sees one, else the machine's within the limits set for it."""

import os
import shutil
import subprocess
from pathlib import Path

import keras

CGROUPS, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
LIMITS = ("memory.max", "memory.limit_in_bytes")  # of the two versions of control groups


def there() -> tuple[int, bool]:
    """(bytes of the smallest GPU that the backend sees, True), or (bytes of the machine, False)."""
    sizes = gpus() if _sees_gpu() else []
    return (min(sizes), True) if sizes else (host(), False)


def host(root: Path = CGROUPS, own: Path = OWN) -> int:
    """Bytes of the machine, or what the control groups of this process leave of them. root: where the groups lie; own: the file that
    names those of this process, a line "number:controllers:path" each."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    lines = own.read_text(encoding="utf-8").splitlines() if own.is_file() else []
    for _, controllers, path in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        if controllers and "memory" not in controllers.split(","):
            continue
        base = root / "memory" if controllers else root
        place = base / path.strip("/")  # in a container it may not be seen; the root then is its own
        found += [limit for folder in (place, *place.parents) if folder.is_relative_to(base) for limit in _limits(folder)]
    return min(found)


def gpus() -> list[int]:
    """Bytes of every NVIDIA GPU that this process may use, as nvidia-smi has it; [] where it is not there."""
    if shutil.which("nvidia-smi") is None:
        return []
    words = ["nvidia-smi", "--query-gpu=index,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return []
    rows = [line.split(",") for line in done.stdout.splitlines() if line.count(",") == 1] if done.returncode == 0 else []
    sizes = {number.strip(): int(size) * 2**20 for number, size in rows if size.strip().isdigit()}
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    return [sizes[name] for name in named if name in sizes] or list(sizes.values())


def _limits(folder: Path) -> list[int]:
    texts = [(folder / name).read_text(encoding="utf-8").strip() for name in LIMITS if (folder / name).is_file()]
    return [int(text) for text in texts if text.isdigit()]


def _sees_gpu() -> bool:
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return bool(tf.config.list_physical_devices("GPU"))
    import jax

    return any(device.platform != "cpu" for device in jax.local_devices())
