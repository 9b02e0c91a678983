"""KPG, the Kaleido Patch Generator: a box is split into the patches of every level (paper, section 3.1).

Tiling is exact: on each level every pixel of the box belongs to exactly one patch. What a patch shows is its tile, or, where it gets
turned and the configuration says so, the square around it.
"""

from collections.abc import Collection, Sequence

import numpy as np
from PIL import Image

from kaleidobert.errors import UserError
from kaleidobert.levels import KaleidoLevel
from kaleidobert.preprocessors.foreground import Box


def edges(start: int, stop: int, grid: int) -> np.ndarray:
    """Returns i64[grid + 1]: pixel borders that split start..stop into ``grid`` stretches, equal to within a pixel.

    >>> edges(0, 10, 4).tolist()
    [0, 2, 5, 8, 10]
    """
    return np.rint(np.linspace(start, stop, grid + 1)).astype(np.int64)


def tiles(box: Box, grid: int) -> np.ndarray:
    """Returns i64[grid * grid, 4]: x1, y1, x2, y2 of each patch, row by row."""
    x, y = edges(box[0], box[2], grid), edges(box[1], box[3], grid)
    return np.array([(x[j], y[i], x[j + 1], y[i + 1]) for i in range(grid) for j in range(grid)])


def boxes(box: Box, width: int, height: int, levels: Sequence[KaleidoLevel]) -> np.ndarray:
    """Returns f32[P, 5]: x1, x2, y1, y2 as fractions of the picture, and the product of the two sides."""
    x1, y1, x2, y2 = np.concatenate([tiles(box, level.grid) for level in levels]).T.astype(np.float64)
    x1, x2, y1, y2 = x1 / width, x2 / width, y1 / height, y2 / height
    return np.stack([x1, x2, y1, y2, (x2 - x1) * (y2 - y1)], 1).astype(np.float32)


def enlarge(box: Box, width: int, height: int, levels: Sequence[KaleidoLevel]) -> Box:
    """Returns the box, grown inside the picture until every patch has at least one pixel; raises UserError if the picture is too small."""
    side = max(level.grid for level in levels)
    if min(width, height) < side:
        raise UserError(f"the picture is {width} x {height} pixels", "patches", f"at least {side} x {side}")
    x1, y1, x2, y2 = box
    x1, y1 = min(x1, width - side), min(y1, height - side)
    return x1, y1, max(x2, x1 + side), max(y2, y1 + side)


def surroundings(image: np.ndarray, position: Box) -> np.ndarray:
    """Returns uint8[s, s, 3]: a square out of uint8[h, w, 3] around a box: s is the box's longer side, or the picture's shorter one where
    that is less, so that the box's ends are cut off; it is moved where the picture ends.

    A box that is squashed to a square has finer texture along one side than along the other, so that even noise tells whether it was
    turned. Whatever fills a box up to a square tells the same: bars by where they lie, a mirror image by its line of symmetry.
    """
    x1, y1, x2, y2 = position
    height, width = image.shape[:2]
    side = min(max(x2 - x1, y2 - y1), height, width)
    left, top = (min(max((start + stop - side) // 2, 0), limit - side) for start, stop, limit in ((x1, x2, width), (y1, y2, height)))
    return image[top : top + side, left : left + side]


def cut(image: np.ndarray, box: Box, levels: Sequence[KaleidoLevel], size: int, small_size: int = 0,
        square: Collection[str] = ()) -> dict[str, np.ndarray]:
    """Returns {level name: uint8[grid * grid, s, s, 3]}: the patches of uint8[h, w, 3], resized (bilinear, antialiased).

    s is ``size``, but ``small_size`` on levels of which no patch has more pixels than that on a side. Sides are scaled one by one; on
    the levels that ``square`` names, patches are cut square, with their ``surroundings``.
    """
    picture = Image.fromarray(image)
    cuts = {}
    for level in levels:
        positions = tiles(box, level.grid)
        side = small_size if (positions[:, 2:] - positions[:, :2]).max() <= small_size else size
        cuts[level.name] = np.empty((len(positions), side, side, 3), np.uint8)
        for position, patch in zip(positions.tolist(), cuts[level.name]):
            # crop first: a resize with box= lets the filter read the neighbours' pixels, and jigsaw would be solved by seams
            tile = Image.fromarray(surroundings(image, position)) if level.name in square else picture.crop(position)
            patch[:] = np.asarray(tile.resize((side, side), Image.Resampling.BILINEAR))
    return cuts
