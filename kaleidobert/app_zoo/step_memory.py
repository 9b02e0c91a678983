"""How much memory a step of pre-training needs, computed from the sizes, and in how many micro-batches it fits (``--dry-run``).

With S positions (text and patches), H the hidden size, I the intermediate one and A heads, a block keeps for the backward pass so many
arrays of [S, H], of [S, I] and of [A, S, S]; while it is computed backwards, one block more. The numbers of arrays are rounded from the
growth of the largest resident size with the batch; where tests/app_zoo/test_step_memory.py measures it again, they are right within 40%.
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import keras

from kaleidobert import configs
from kaleidobert.app_zoo import models
from kaleidobert.configs.training import MIN_CONTRAST_BATCH
from kaleidobert.devices import accelerated
from kaleidobert.engines.distributed import cluster
from kaleidobert.layers import cpu_fusion

FUSED, PLAIN, JAX, TORCH = (11, 2, 2), (20, 6, 6), (11, 4, 4), (17, 2, 2)  # [S, H], [S, I], [A, S, S] of a block; see cpu_fusion.is_fused
EMBEDDINGS, FEATURES, LOGITS = 10, 2, 6  # [S, H]; features of the patches, float32; float32 scores of all word pieces for a masked one
WEIGHTS = 16  # bytes of a weight: itself, its gradient, two of Adam
PROGRAM = 1e9  # bytes of Python and the backend, on a machine without a GPU
FULL = 0.9  # fraction of the memory that a plan may use


def activations(arguments: dict[str, Any], masked: int, contrastive: bool = False) -> float:
    """Returns bytes of an example in a step. arguments: of the backbone; masked: word pieces that are predicted; contrastive: whether the
    encoder also reads text and picture apart, for image-text contrast."""
    a, patches = arguments, sum(level["grid"] ** 2 for level in arguments["levels"])
    size, length = 4 if a["precision"] == "float32" else 2, a["text_length"] + patches
    one = length * a["hidden_size"]
    others = {"jax": JAX, "torch": TORCH}
    kept = others.get(keras.backend.backend()) or (FUSED if cpu_fusion.is_fused(a["hidden_size"]) else PLAIN)
    block = kept[0] * one + kept[1] * length * a["intermediate_size"] + kept[2] * a["num_heads"] * length**2
    blocks = a["num_layers"] * one + 2 * block if a["gradient_checkpointing"] else (a["num_layers"] + 1) * block
    blocks *= 1 + contrastive
    return size * (blocks + EMBEDDINGS * one) + 4 * (FEATURES * patches * a["feature_size"] + LOGITS * masked * a["vocabulary_size"])


def report_line(arguments: dict[str, Any], train: configs.Train, masked: int, contrastive: bool = False) -> str:
    """Returns what a step needs beside what there is, and the train.gradient_accumulation_steps with which it fits where it does not; for a
    contrast, which compares all examples of a batch, the train.batch_size."""
    example, (memory, is_gpu) = activations(arguments, masked, contrastive), available()
    fixed = WEIGHTS * models.num_parameters(arguments) + (0 if is_gpu else PROGRAM)
    devices = cluster.read(os.environ).size * max(1, train.devices)
    fraction = 1 if is_gpu else 1 / max(1, train.devices)  # CPU devices of a process lie in the same memory
    room, together = fraction * (FULL * memory - fixed), train.batch_size // (devices * train.gradient_accumulation_steps)
    line = (f"memory: about {_gb(example)} of activations an example, {together:,} at a time {_gb(together * example)}, beside "
            f"{_gb(fixed)} for weights{'' if is_gpu else ' and program'}; {'the GPU' if is_gpu else 'this machine'} has {_gb(memory)}")
    if together * example <= room:
        return line
    if contrastive and room >= MIN_CONTRAST_BATCH * example:
        keep = "" if arguments["gradient_checkpointing"] else "train.gradient_checkpointing=true, or "
        return (f"{line}\n  that does not fit, and a contrast compares all examples of a batch: set {keep}"
                f"train.batch_size={int(room / example)}")
    micro_batches = 0 if contrastive else fitting(train.batch_size, devices, example, room)
    if not micro_batches:
        least = f"a batch of {MIN_CONTRAST_BATCH} for a contrast" if contrastive else "one example"
        return f"{line}\n  not even {least} fits: set train.gradient_checkpointing=true, take a smaller model or a larger machine"
    size = train.batch_size // (devices * micro_batches)
    return (f"{line}\n  that does not fit: train.gradient_accumulation_steps={micro_batches} computes a step in parts of {size:,}, "
            f"{_gb(size * example)} at a time")


def fitting(batch: int, devices: int, example: float, room: float) -> int:
    """Returns the least number of micro-batches that divides the batch and of which one fits into ``room`` bytes on each device; 0 where
    none does."""
    return next((micro_batches for micro_batches in range(1, batch // devices + 1)
                 if batch % (devices * micro_batches) == 0 and batch // (devices * micro_batches) * example <= room), 0)


def _gb(size: float) -> str:
    return f"{size / 1e9:.2g} GB" if size < 1e10 else f"{size / 1e9:,.0f} GB"


# --- How much memory there is for a training step: the GPU's where the backend sees one, else the machine's within the limits set for it


CGROUPS, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
LIMITS = ("memory.max", "memory.limit_in_bytes")  # of the two versions of control groups


def available() -> tuple[int, bool]:
    """Returns (bytes of the smallest GPU that the backend sees, True), or (bytes of the machine, False)."""
    sizes = gpus() if _sees_gpu() else []
    return (min(sizes), True) if sizes else (host(), False)


def host(root: Path = CGROUPS, own: Path = OWN) -> int:
    """Returns bytes of the machine, or what the control groups of this process leave of them. root: where the groups lie; own: the file
    that names those of this process, a line "number:controllers:path" each."""
    result = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    lines = own.read_text(encoding="utf-8").splitlines() if own.is_file() else []
    for _, controllers, path in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        if controllers and "memory" not in controllers.split(","):
            continue
        base = root / "memory" if controllers else root
        group_folder = base / path.strip("/")  # in a container it may not be seen; the root then is its own
        result += [limit for folder in (group_folder, *group_folder.parents) if folder.is_relative_to(base) for limit in _limits(folder)]
    return min(result)


def gpus() -> list[int]:
    """Returns bytes of every NVIDIA GPU that this process may use, as nvidia-smi has it; [] where it is not there."""
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

        return bool(tf.config.list_physical_devices("GPU"))  # which takes hold of none
    return accelerated()
