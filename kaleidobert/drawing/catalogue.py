"""The drawn catalogue: fashion products with text, labels, true foreground and the boxes of the described parts.

``draw`` makes one picture; ``write_catalogue`` fills a folder:
    products.jsonl    one line per picture, written last: its presence means that the catalogue is complete
    images/*.jpg, masks/*.png (255 = product)    catalogue.json    the arguments of the catalogue
A product depends on (seed, index) only, so a larger catalogue of the same seed begins with the products of a smaller one.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kaleidobert import io
from kaleidobert.drawing import backgrounds
from kaleidobert.drawing.design import DESIGN, PICTURE, SPLIT, Design, design, generator
from kaleidobert.drawing.garments import SKETCHES
from kaleidobert.drawing.render import material, paint, pose_matrix, visible, zoom
from kaleidobert.drawing.sketch import Sketch
from kaleidobert.drawing.wording import describe
from kaleidobert.errors import UserError
from kaleidobert.specs import Part

# --- One view of one drawn product: design, wording, sketch and pixels put together

VIEWS = ("front", "back", "detail", "turned")
MIN_VISIBLE = 0.4  # a part counts as visible where this fraction of its box lies in the frame
MIN_SIDE = 2.0  # and where its box has at least so many pixels on each side


@dataclass(frozen=True)
class Drawing:
    """A picture with its ground truth. image: uint8[size, size, 3]; mask: bool[size, size], the product's own pixels.

    parts: the described parts visible here, their boxes in pixels of this picture; text: describes the product from the front;
    labels: category and subcategory; attributes: colour, pattern, accent (the second colour, where it is visible), every feature.
    """

    image: np.ndarray
    mask: np.ndarray
    parts: tuple[Part, ...]
    text: str
    labels: Mapping[str, str]
    attributes: Mapping[str, str]


@dataclass(frozen=True)
class Layout:
    """Everything about a picture but its pixels. matrix: float64[2, 3], product coordinates to pixels."""

    design: Design
    sketch: Sketch
    matrix: np.ndarray
    parts: tuple[Part, ...]
    text: str

    @property
    def labels(self) -> dict[str, str]:
        return {"category": self.design.product_type.category, "subcategory": self.design.subcategory}

    @property
    def attributes(self) -> dict[str, str]:
        second = {"accent": self.design.accent} if self.design.two_coloured else {}
        return {"colour": self.design.colour, "pattern": self.design.pattern, **second, **self.design.features}


def layout(seed: int, index: int, view: int, size: int) -> Layout:
    """Determines everything about one picture without painting it, in a tenth of the time of ``draw``."""
    product = design(seed, index)
    text, words = describe(product, seed, index)
    name = VIEWS[view]
    sketch = SKETCHES[product.subcategory](product, name == "back")
    rng = generator(seed, index, PICTURE + view)
    draws = rng.random(8).tolist()
    pose = {"fill": 0.76 + 0.18 * draws[0], "turn": 0.12 * (draws[1] - 0.5), "offset": (1.2 * draws[2] - 0.6, 1.2 * draws[3] - 0.6)}
    if name == "turned":
        matrix = pose_matrix(sketch, size, **pose, narrow=0.72 + 0.14 * draws[4], slant=0.1 * (draws[5] - 0.5), mirror=True)
    else:
        matrix = pose_matrix(sketch, size, **pose, mirror=name == "back")
    if name == "detail":
        matrix = _closer(sketch, matrix, size, words, draws)
    parts = []
    for key, points in sketch.parts:
        if key in words:
            fraction, box = visible(points, matrix, size)
            if fraction >= MIN_VISIBLE and min(box[2] - box[0], box[3] - box[1]) >= MIN_SIDE:
                parts.append(Part(words[key], box))
    return Layout(product, sketch, matrix, tuple(parts), text)


def _closer(sketch: Sketch, matrix: np.ndarray, size: int, words: Mapping[str, str], draws: list[float]) -> np.ndarray:
    """Returns the matrix of a detail: of one of the described parts, or of the middle where none is described."""
    described = [points for key, points in sketch.parts if key in words]
    focus = (size / 2, size / 2)
    if described:
        _, (x1, y1, x2, y2) = visible(described[int(draws[6] * len(described))], matrix, size)
        focus = (x1 + x2) * 0.28 + size * 0.22, (y1 + y2) * 0.28 + size * 0.22
    return zoom(matrix, focus, 1.6 + 0.7 * draws[7], size)


def draw(seed: int, index: int, view: int = 0, size: int = 192, clutter: float = 0.25) -> Drawing:
    """Draws one picture; the same arguments give the same picture.

    view: index into VIEWS. size: pixels of each side. clutter: probability of a cluttered background instead of white.
    """
    plan = layout(seed, index, view, size)
    cloth = generator(seed, index, DESIGN)
    assert isinstance(cloth.bit_generator, np.random.Philox)
    cloth.bit_generator.advance(64)  # past the random numbers of the design
    colour, cover = paint(plan.sketch, plan.matrix, size, plan.design.main,
                          lambda matrix, pixels: material(plan.design, matrix, pixels, cloth))
    rng = generator(seed, index, PICTURE + len(VIEWS) + view)
    if rng.random() < clutter:
        behind = backgrounds.cluttered(size, rng) * backgrounds.shadow(cover, rng)
    else:
        behind = np.float32(255)
    image = np.clip(colour + behind * (1 - cover) + 0.5, 0, 255).astype(np.uint8)
    return Drawing(image, cover[:, :, 0] >= 0.5, plan.parts, plan.text, plan.labels, plan.attributes)


__all__ = ["VIEWS", "Drawing", "draw", "write_catalogue"]

DRAWING = 1  # raised when the same arguments would give other pictures or texts
TABLE, RECIPE = "products.jsonl", "catalogue.json"
CHUNK = 16  # pictures handed to a worker at a time
GOLDEN = 0x9E3779B97F4A7C15  # 2**64 / golden ratio: multiples spread evenly, so that every stretch of products has both splits
LIMITS = {"num_products": (1, 1_000_000), "seed": (0, 2**63 - 1), "size": (32, 2048), "views": (1, len(VIEWS)), "clutter": (0, 1),
          "val_fraction": (0, 0.9), "workers": (1, 256)}


@dataclass(frozen=True)
class Recipe:
    """The arguments that determine the content of a catalogue."""

    num_products: int
    seed: int
    size: int
    views: int
    clutter: float
    val_fraction: float

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps([DRAWING, asdict(self)], sort_keys=True).encode()).hexdigest()[:16]

    def pictures(self) -> list[tuple[int, int]]:
        """Returns (index, view) of every picture."""
        return [(index, view) for index in range(self.num_products) for view in range(self.views)]


def write_catalogue(folder: Path, num_products: int, seed: int = 0, size: int = 192, views: int = 2, clutter: float = 0.25,
                    val_fraction: float = 0.15, workers: int = 1, progress: Callable[[int, int], None] | None = None
                    ) -> dict[str, Any]:
    """Draws a catalogue into a folder, or completes the one that an earlier call with the same arguments left there.

    size: pixels of each side. views: number of VIEWS of each product. clutter: fraction of pictures on cluttered backgrounds.
    val_fraction: fraction of products in split val, the others are in train. progress: called with (pictures done, all pictures).
    Returns counts: products, pictures, drawn (new ones), train, val (products), categories, subcategories.
    Raises UserError for a value out of range, a folder with another catalogue and where nothing can be written.
    """
    recipe = Recipe(num_products, seed, size, views, float(clutter), float(val_fraction))
    _check({**asdict(recipe), "workers": workers})
    folder = Path(folder)
    io.check_folder(folder)
    with io.locked(folder):
        return _fill(folder, recipe, workers, progress)


def _fill(folder: Path, recipe: Recipe, workers: int, progress: Callable[[int, int], None] | None) -> dict[str, Any]:
    """Does what ``write_catalogue`` says, in the process that holds the lock."""
    _claim(folder, recipe)
    todo = _missing(folder, recipe)
    total = recipe.num_products * recipe.views
    if progress and todo:
        progress(total - len(todo), total)
    done = total - len(todo)
    for count in _draw_all(folder, recipe, todo, workers):
        done += count
        if progress:
            progress(done, total)
    rows = _rows(recipe)
    if not (folder / TABLE).exists():
        io.write_text(folder / TABLE, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    splits = Counter(row["split"] for row in rows if row["view"] == VIEWS[0])
    return {"products": recipe.num_products, "pictures": total, "drawn": len(todo), "train": splits["train"], "val": splits["val"],
            "categories": len({row["category"] for row in rows}), "subcategories": len({row["subcategory"] for row in rows})}


def _check(values: dict[str, int | float]) -> None:
    for name, value in values.items():
        low, high = LIMITS[name]
        whole = name not in ("clutter", "val_fraction")
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or not low <= value <= high:
            raise UserError(f"{name} is {value!r}", "drawn catalogue",
                            f"{'a whole number' if whole else 'a number'} from {low} to {high}")


def _claim(folder: Path, recipe: Recipe) -> None:
    """Raises UserError unless the folder is empty or holds this very catalogue."""
    wanted = {"drawing": DRAWING, **asdict(recipe), "hash": recipe.digest}
    if (folder / RECIPE).exists():
        stored = io.read_json(folder / RECIPE)
        stored = stored if isinstance(stored, dict) else {}
        if stored.get("hash") != recipe.digest:
            changed = [f"{key} {stored.get(key)!r} not {value!r}" for key, value in wanted.items() if stored.get(key) != value]
            raise UserError(f"the folder holds a catalogue drawn with other arguments ({', '.join(changed)})", str(folder),
                            fix="give the same arguments, choose another folder or delete this one")
        return
    if any((folder / name).exists() for name in (TABLE, "images", "masks")):
        raise UserError(f"the folder holds data that was not drawn here (there is no {RECIPE})", str(folder),
                        fix="choose another folder")
    _make(folder)
    io.write_json(folder / RECIPE, wanted)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(error, folder) from error


def _names(index: int, view: int) -> tuple[str, str, str]:
    """Returns (image_id, path of the picture, path of the mask)."""
    name = f"p{index:06d}-{VIEWS[view]}"
    return name, f"images/{name}.jpg", f"masks/{name}.png"


def _missing(folder: Path, recipe: Recipe) -> list[tuple[int, int]]:
    there: set[str] = set()
    for name in ("images", "masks"):
        _make(folder / name)
        there |= {f"{name}/{entry}" for entry in os.listdir(folder / name)}
    return [picture for picture in recipe.pictures() if not there.issuperset(_names(*picture)[1:])]


def _draw_all(folder: Path, recipe: Recipe, todo: list[tuple[int, int]], workers: int) -> Iterable[int]:
    """Draws and writes the pictures; yields how many were finished since the last time."""
    tasks = [(str(folder), recipe, todo[start:start + CHUNK]) for start in range(0, len(todo), CHUNK)]
    if workers == 1 or len(tasks) < 2:
        yield from map(_draw_some, tasks)
        return
    # spawned, not forked: a process with TensorFlow's threads in it must not be copied
    pool = ProcessPoolExecutor(min(workers, len(tasks)), mp_context=get_context("spawn"))
    try:
        yield from pool.map(_draw_some, tasks)
    finally:
        pool.shutdown(cancel_futures=True)


def _draw_some(task: tuple[str, Recipe, list[tuple[int, int]]]) -> int:
    folder, recipe, pictures = task
    for index, view in pictures:
        drawing = draw(recipe.seed, index, view, recipe.size, recipe.clutter)
        _, image, mask = _names(index, view)
        _save(Image.fromarray(drawing.image), Path(folder, image), "JPEG", quality=92, subsampling=0)
        _save(Image.fromarray(drawing.mask).convert("L"), Path(folder, mask), "PNG")
    return len(pictures)


def _save(image: Image.Image, path: Path, file_format: str, **options: int) -> None:
    """Writes a picture under a temporary name, then renames it; it is not flushed to disk, for it can be drawn again."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        image.save(temporary, file_format, **options)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise _unwritable(error, path) from error


def _unwritable(error: OSError, path: Path) -> UserError:
    return UserError(f"cannot write here ({error.strerror or error})", str(path),
                     fix="free some space or choose another folder; finished pictures are kept")


def _rows(recipe: Recipe) -> list[dict[str, Any]]:
    """Returns the table, one row per picture. Products with the same text are one group and are in the split of the first one."""
    first = int(generator(recipe.seed, 0, SPLIT).integers(2**63))
    groups: dict[str, tuple[str, str]] = {}
    rows = []
    for index, view in recipe.pictures():
        plan = layout(recipe.seed, index, view, recipe.size)
        product_id = f"p{index:06d}"
        position = (first + index * GOLDEN) % 2**64 / 2**64
        group, split = groups.setdefault(plan.text, (product_id, "val" if position < recipe.val_fraction else "train"))
        image_id, image, mask = _names(index, view)
        parts = [{"word": part.word, "box": list(part.box)} for part in plan.parts]
        rows.append({"image": image, "image_id": image_id, "product_id": product_id, "group_id": group, "view": VIEWS[view],
                     "split": split, **plan.labels, "text": plan.text, "mask": mask, "parts": parts,
                     "attributes": plan.attributes, "size": recipe.size})
    return rows
