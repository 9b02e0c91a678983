"""One view of one drawn product: design, wording, sketch and pixels put together."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kaleidobert.drawing import backgrounds
from kaleidobert.drawing.design import DESIGN, PICTURE, Design, design, generator
from kaleidobert.drawing.garments.sketch import Sketch
from kaleidobert.drawing.garments.sketches import SKETCHES
from kaleidobert.drawing.patterns import material
from kaleidobert.drawing.render import paint, place, visible, zoom
from kaleidobert.drawing.wording import describe
from kaleidobert.specs import Part

VIEWS = ("front", "back", "detail", "turned")
SHOWN = 0.4  # a part counts as visible when this share of its box lies in the frame
SMALL = 2.0  # and when its box is at least so many pixels wide and high


@dataclass(frozen=True)
class Drawing:
    """A picture with its ground truth. image: uint8[size, size, 3]; mask: bool[size, size], the product's own pixels.

    parts: the described parts visible here, their boxes in pixels of this picture; text: describes the product from the front;
    labels: category and subcategory; attributes: colour, pattern, accent (the second colour, where it is seen), every feature.
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
        return {"category": self.design.kind.category, "subcategory": self.design.subcategory}

    @property
    def attributes(self) -> dict[str, str]:
        second = {"accent": self.design.accent} if self.design.two_coloured else {}
        return {"colour": self.design.colour, "pattern": self.design.pattern, **second, **self.design.features}


def layout(seed: int, index: int, view: int, size: int) -> Layout:
    """Decide everything about one picture without painting it (a tenth of the time of ``draw``)."""
    product = design(seed, index)
    text, words = describe(product, seed, index)
    name = VIEWS[view]
    sketch = SKETCHES[product.subcategory](product, name == "back")
    rng = generator(seed, index, PICTURE + view)
    lots = rng.random(8).tolist()
    pose = {"fill": 0.76 + 0.18 * lots[0], "turn": 0.12 * (lots[1] - 0.5), "offset": (1.2 * lots[2] - 0.6, 1.2 * lots[3] - 0.6)}
    if name == "turned":
        matrix = place(sketch, size, **pose, narrow=0.72 + 0.14 * lots[4], slant=0.1 * (lots[5] - 0.5), mirror=True)
    else:
        matrix = place(sketch, size, **pose, mirror=name == "back")
    if name == "detail":
        matrix = _closer(sketch, matrix, size, words, lots)
    parts = []
    for key, points in sketch.parts:
        if key in words:
            share, box = visible(points, matrix, size)
            if share >= SHOWN and min(box[2] - box[0], box[3] - box[1]) >= SMALL:
                parts.append(Part(words[key], box))
    return Layout(product, sketch, matrix, tuple(parts), text)


def _closer(sketch: Sketch, matrix: np.ndarray, size: int, words: Mapping[str, str], lots: list[float]) -> np.ndarray:
    """Zoom in on one of the described parts, or on the middle where none is described."""
    described = [points for key, points in sketch.parts if key in words]
    focus = (size / 2, size / 2)
    if described:
        _, (x1, y1, x2, y2) = visible(described[int(lots[6] * len(described))], matrix, size)
        focus = (x1 + x2) * 0.28 + size * 0.22, (y1 + y2) * 0.28 + size * 0.22
    return zoom(matrix, focus, 1.6 + 0.7 * lots[7], size)


def draw(seed: int, index: int, view: int = 0, size: int = 192, clutter: float = 0.25) -> Drawing:
    """Draw one picture; the same arguments give the same picture.

    view: index into VIEWS. size: pixels of each side. clutter: probability of a cluttered background instead of white.
    """
    plan = layout(seed, index, view, size)
    cloth = generator(seed, index, DESIGN)
    cloth.bit_generator.advance(64)  # behind the lots of the design
    colour, cover = paint(plan.sketch, plan.matrix, size, plan.design.main,
                          lambda matrix, pixels: material(plan.design, matrix, pixels, cloth))
    rng = generator(seed, index, PICTURE + len(VIEWS) + view)
    if rng.random() < clutter:
        behind = backgrounds.cluttered(size, rng) * backgrounds.shadow(cover, rng)
    else:
        behind = np.float32(255)
    image = np.clip(colour + behind * (1 - cover) + 0.5, 0, 255).astype(np.uint8)
    return Drawing(image, cover[:, :, 0] >= 0.5, plan.parts, plan.text, plan.labels, plan.attributes)
