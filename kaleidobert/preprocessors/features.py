"""From pictures to rows of the feature bank: cut, make every view, encode the patches of many pictures in full batches.

Equal patches are encoded once: those of one colour, grey ones that look the same in both views, those of a picture that occurs
in several rows.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from kaleidobert.errors import UserError
from kaleidobert.levels import KaleidoLevel
from kaleidobert.preprocessors import foreground, pretexts
from kaleidobert.preprocessors import patch_generator as patches
from kaleidobert.specs import SCALE

Encode = Callable[[np.ndarray], np.ndarray]  # uint8[N, s, s, 3] -> f32[N, F]


@dataclass(frozen=True)
class Cut:
    """One picture ready for the encoder: V views uint8[s, s, 3], in the order of the stored vectors, and a key for each, the same
    for equal views only; boxes f32[P, 5], the foreground's box and fallback note; size: of the picture, width and height."""

    views: list[np.ndarray]
    keys: list[bytes]
    boxes: np.ndarray
    box: foreground.Box
    fallback: str
    size: tuple[int, int]


def cut(image: np.ndarray, result: foreground.Foreground, levels: Sequence[KaleidoLevel], size: int, small_size: int = 0,
        square: Collection[str] = ()) -> Cut:
    """Cuts uint8[h, w, 3] at its foreground, sizes and ``square`` as in patch_generator.cut. Raises UserError where it is smaller than the
    finest grid."""
    height, width = image.shape[:2]
    box = patches.enlarge(result.box, width, height, levels)
    views = pretexts.all_views(levels, patches.cut(image, box, levels, size, small_size, square))
    return Cut(views, [sha256(view.data).digest() for view in views], patches.boxes(box, width, height, levels), box, result.fallback,
               (width, height))


def encode(cuts: Iterable[Cut], encoder: Encode, batch: int, threads: int = 1) -> tuple[np.ndarray, list[str]]:
    """Returns f16[N, V, F] of N pictures, and of each "" or why its features cannot be used (NaN, infinite, too large for float16).

    batch: patches that go through the encoder together, all of one size; only the last ones of a size may be fewer. A cut is
    taken when patches are needed, so that what makes them can work while others are encoded. threads: that call the encoder at a time.
    """
    rows: list[list[bytes]] = []
    waiting: dict[int, dict[bytes, np.ndarray]] = {}  # by size
    seen: set[bytes] = set()
    vectors: dict[bytes, np.ndarray] = {}  # of what was encoded, f16[F]
    faults: dict[bytes, str] = {}
    running: deque[tuple[list[bytes], Future]] = deque()

    def take() -> None:
        keys, future = running.popleft()
        done, reasons = future.result()
        vectors.update(zip(keys, done))
        faults.update((key, reason) for key, reason in zip(keys, reasons) if reason)

    with ThreadPoolExecutor(threads, "encode") as pool:
        def work(group: dict[bytes, np.ndarray]) -> None:
            running.append((list(group), pool.submit(_encoded, np.stack(list(group.values())), encoder)))
            group.clear()
            while len(running) > threads:
                take()

        for item in cuts:
            rows.append(item.keys)
            for key, view in zip(item.keys, item.views):
                if key not in seen:
                    seen.add(key)
                    group = waiting.setdefault(len(view), {})
                    group[key] = view
                    if len(group) == batch:
                        work(group)
        for group in waiting.values():
            if group:
                work(group)
        while running:
            take()
    if not rows:
        return np.empty((0, 0, 0), np.float16), []
    out = np.empty((len(rows), len(rows[0]), len(vectors[rows[0][0]])), np.float16)
    for number, keys in enumerate(rows):
        np.stack([vectors[key] for key in keys], out=out[number])
    return out, [next((faults[key] for key in keys if key in faults), "") for keys in rows]


def _encoded(patches: np.ndarray, encoder: Encode) -> tuple[np.ndarray, list[str]]:
    """Returns f16[N, F] of uint8[N, s, s, 3], within the range of float16, and of each "" or what is wrong."""
    features = np.asarray(encoder(patches), np.float32)
    if features.shape[:1] != patches.shape[:1] or features.ndim != 2:
        raise UserError(f"the encoder returned {list(features.shape)}", "features", f"[{len(patches)}, F]")
    finite = np.asarray(np.isfinite(features).all(1))
    small = np.asarray((np.abs(np.nan_to_num(features)) <= np.finfo(np.float16).max).all(1))
    faults = ["" if f and s else "the encoder returned a NaN or infinite feature" if not f else
              "a feature is too large for float16" for f, s in zip(finite, small)]
    return np.nan_to_num(features, posinf=0, neginf=0).clip(-65504, 65504).astype(np.float16), faults


# --- Features as bytes: one scale for each vector, half the space of float16 on disk and on the way to the device
#
# The relative error of a vector of pooled ReLU features is about 4e-3 (float16: 2e-4). Quantised arrays travel in pairs: ``name``
# uint8[..., F] and ``name`` + specs.SCALE f32[...].


Arrays = dict[str, np.ndarray]
MAX_BYTE = 255


def quantise(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns (uint8[..., F], f32[...]): features are numbers * scale, the largest of a vector 255 * scale. Raises UserError for negative
    ones."""
    values = features.astype(np.float32)
    if values.size and values.min() < 0:
        raise UserError(f"a feature is {values.min():.3g}, and bytes hold none below 0", "storage: uint8", "features of at least 0, as "
                        "those of the encoders with a ReLU at their end are", "set storage=float16")
    scale = values.max(-1) / np.float32(MAX_BYTE)
    return np.rint(values / np.where(scale > 0, scale, 1)[..., None]).astype(np.uint8), scale


def dequantise(numbers: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Returns f16[..., F]: numbers * scale."""
    return (numbers * scale[..., None].astype(np.float32)).astype(np.float16)


def to_floats(arrays: Arrays) -> Arrays:
    """Returns the arrays with every quantised pair as one of float16; others are left as they are.

    engines/feeding.py does it in the compiled step.
    """
    pairs = {name: name + SCALE for name, array in arrays.items() if array.dtype == np.uint8 and name + SCALE in arrays}
    whole = {name: array for name, array in arrays.items() if name not in pairs.values()}
    return whole | {name: dequantise(arrays[name], arrays[scale]) for name, scale in pairs.items()}
