"""Measure what reveals, apart from content, how far a picture was turned: the squash to a square, bars, the seam of a mirror image.

    python -m benchmarks.rotation_cue --sizes 180x100 100x180
    python -m benchmarks.rotation_cue --catalogue products.csv --column image

Pictures of noise have no content: a probe that distinguishes their four turns better than chance (.25) reads a cue. On real pictures
(--catalogue, foreground by the colour threshold) it reads content too. A probe is a logistic regression on a few numbers of the turned
patch, judged on the other half of the pictures.

Ways to a square: squash and square are those of encoder.turned; mean, edge, mirror fill what the crop lacks with the mean colour of its
border, its outermost pixels, its mirror image; around-mean, around-mirror take the pixels around the crop and fill what lies outside the
picture; centre cuts the crop's centre.
"""

import argparse
import csv
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import stats

from benchmarks import report
from kaleidobert import io
from kaleidobert.datasets.products import read_image
from kaleidobert.evaluators import baselines
from kaleidobert.levels import KALEIDO
from kaleidobert.preprocessors import foreground, patch_generator, pretexts
from kaleidobert.preprocessors.foreground import Box

Picture = tuple[np.ndarray, Box]  # uint8[h, w, 3] and its foreground's box
LEVEL = KALEIDO[:1]  # rotation: one patch
BANDS = 8  # rows and columns of a profile
SEAM = 6  # pixels on both sides of a possible seam that are compared


def main(arguments: list[str] | None = None) -> int:
    """Runs the program; returns the exit status."""
    made = argparse.ArgumentParser("python -m benchmarks.rotation_cue", description=__doc__,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--sizes", nargs="+", type=_size, default=[(180, 100)], metavar="HEIGHTxWIDTH", help="of the noise; default: 180x100")
    made.add_argument("--catalogue", type=Path, metavar="TABLE", help="CSV of real pictures, instead of noise")
    made.add_argument("--column", default="image", help="its column of picture files, relative to the table; default: image")
    made.add_argument("--pictures", type=report.positive, default=600, help="half of them to fit, half to judge; default: 600")
    made.add_argument("--side", type=report.positive, default=224, help="of the patch in pixels; default: 224")
    made.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="default: all")
    made.add_argument("--json", type=Path, metavar="FILE", help="also write every figure to this file")
    return report.guarded(run, made.parse_args(arguments))


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measures and prints."""
    rng = np.random.Generator(np.random.Philox(0))
    if options.catalogue:
        sources = {str(options.catalogue.name): real(options.catalogue, options.column, options.pictures, rng)}
    else:
        sources = {f"noise {height}x{width}": noise(height, width, options.pictures, rng) for height, width in options.sizes}
    result: dict[str, Any] = {"machine": report.machine(), "side": options.side, "pictures": options.pictures, "sources": {}}
    for title, pictures in sources.items():
        by_way = result["sources"][title] = {way: measure(pictures, way, options.side) for way in options.ways}
        print(f"## {title}: {len(pictures)} pictures, patch of {options.side} pixels\n\n{markdown(by_way)}")
    if options.json:
        io.write_json(options.json, result)
    return result


def measure(pictures: Sequence[Picture], way: str, side: int) -> dict[str, dict[str, float]]:
    """Returns {probe: accuracy on the second half with its 95% interval (Wilson)}; the turns are the same for every way."""
    half, rng = len(pictures) // 2, np.random.Generator(np.random.Philox(1))
    labels = np.concatenate([rng.permutation(np.arange(count) % 4) for count in (half, len(pictures) - half)])  # equally often
    by_probe: dict[str, list[list[float]]] = {}
    for (image, box), label in zip(pictures, labels):
        for name, numbers in cues(pretexts.views(LEVEL[0], WAYS[way](image, box, side)[None])[label, 0]).items():
            by_probe.setdefault(name, []).append(numbers)
    columns = {name: np.array(numbers) for name, numbers in by_probe.items()}
    columns["all"] = np.concatenate(list(columns.values()), 1)
    result = {}
    for name, numbers in columns.items():
        guesses = baselines.logistic_regression(numbers[:half], labels[:half], numbers[half:], 0)
        right, judged = int((guesses == labels[half:]).sum()), len(labels) - half
        interval = stats.binomtest(right, judged).proportion_ci(method="wilson")
        result[name] = {"value": right / judged, "low": interval.low, "high": interval.high}
    return result


def cues(patch: np.ndarray) -> dict[str, list[float]]:
    """Returns {probe: numbers} of uint8[s, s, 3]. gradients: means of both directions; middle: the same of the middle quarter, which no
    filling reaches; bars: gradients along the four sides; profiles: variance of bands of rows and of columns; seam: how alike what lies on
    both sides of the likeliest mirror line is, from each side."""
    grey = pretexts.grey(patch)[..., 0].astype(np.float32)
    quarter, strip = len(grey) // 4, max(2, len(grey) // 12)
    sides = (grey[:, :strip], grey[:, -strip:], grey[:strip], grey[-strip:])
    return {"gradients": gradients(grey), "middle": gradients(grey[quarter:-quarter, quarter:-quarter]),
            "bars": [sum(gradients(side)) for side in sides],
            "profiles": [float(band.var()) for axis in (0, 1) for band in np.array_split(grey, BANDS, axis)],
            "seam": [mirrored(turned) for turned in (grey, grey[:, ::-1], grey.T, grey.T[:, ::-1])]}


def gradients(grey: np.ndarray) -> list[float]:
    """Returns the mean horizontal and the mean vertical gradient."""
    return [float(np.abs(np.diff(grey, axis=axis)).mean()) for axis in (1, 0)]


def mirrored(grey: np.ndarray) -> float:
    """Returns the highest correlation of the columns left of a line in the left half with the mirror image of those right of it."""
    lines = range(SEAM, int(0.45 * grey.shape[1]))
    pairs = [np.stack([part - part.mean() for part in (grey[:, at - SEAM:at], grey[:, at:at + SEAM][:, ::-1])]) for at in lines]
    return max((float((left * right).sum() / np.sqrt((left ** 2).sum() * (right ** 2).sum() + 1e-6)) for left, right in pairs), default=0.0)


def noise(height: int, width: int, count: int, rng: np.random.Generator) -> list[Picture]:
    """Returns pictures of independent pixels, all of them foreground."""
    return [(rng.integers(0, 256, (height, width, 3)).astype(np.uint8), (0, 0, width, height)) for _ in range(count)]


def real(table: Path, column: str, count: int, rng: np.random.Generator) -> list[Picture]:
    """Returns ``count`` pictures of a catalogue, drawn at random."""
    with open(table, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    images = [read_image(table.parent / rows[number][column]) for number in rng.permutation(len(rows))[:count]]
    result = [(image, foreground.find(image, foreground.border_mask).box) for image in images]
    aspects = np.array([(box[2] - box[0]) / (box[3] - box[1]) for _, box in result])
    short, long = np.array([sorted((box[2] - box[0], box[3] - box[1])) for _, box in result]).T
    room = np.array([min(image.shape[:2]) for image in images])
    print(f"boxes: {(aspects < 0.9).mean():.0%} tall, {(aspects > 1.1).mean():.0%} wide; of {(long > room).mean():.0%} the square does not "
          f"fit into the picture; square keeps {np.minimum(1, room / long).mean():.1%} of them, centre {(short / long).mean():.1%}\n")
    return result


def markdown(result: dict[str, dict[str, dict[str, float]]]) -> str:
    """Returns a table with a row per way and a column per probe: accuracy and its interval."""
    probes = list(next(iter(result.values())))
    lines = ["| | " + " | ".join(probes) + " |", "|---|" + "---:|" * len(probes)]
    lines += [f"| {way} | " + " | ".join(f"{one['value']:.2f} [{one['low']:.2f}, {one['high']:.2f}]" for one in values.values()) + " |"
              for way, values in result.items()]
    return "\n".join(lines) + "\n"


def _shipped(square: Sequence[str]) -> Callable[[np.ndarray, Box, int], np.ndarray]:
    return lambda image, box, side: patch_generator.cut(image, box, LEVEL, side, square=square)[LEVEL[0].name][0]


def _filled(mode: str, around: bool = False) -> Callable[[np.ndarray, Box, int], np.ndarray]:
    """Returns a crop, or what the picture has of the square around it, filled up to a square."""
    def way(image: np.ndarray, box: Box, side: int) -> np.ndarray:
        part = _around(image, box) if around else image[box[1]:box[3], box[0]:box[2]]
        missing = [max(part.shape[:2]) - length for length in part.shape[:2]]
        sides = [(short // 2, short - short // 2) for short in missing]
        if mode == "mean":
            ring = np.concatenate([part[0], part[-1], part[:, 0], part[:, -1]]).mean(0).round().astype(np.uint8)
            filled = np.empty((max(part.shape[:2]),) * 2 + (3,), np.uint8)
            filled[:] = ring
            filled[sides[0][0]:sides[0][0] + part.shape[0], sides[1][0]:sides[1][0] + part.shape[1]] = part
        else:
            filled = np.pad(part, (*sides, (0, 0)), mode=mode)
        return _resized(filled, side)

    return way


def _around(image: np.ndarray, box: Box) -> np.ndarray:
    """Returns what the picture has of the square around a box that shows all of it."""
    side = max(box[2] - box[0], box[3] - box[1])
    starts = [min(max((start + stop - side) // 2, 0), max(0, limit - side))
              for start, stop, limit in ((box[1], box[3], image.shape[0]), (box[0], box[2], image.shape[1]))]
    return image[starts[0]:starts[0] + side, starts[1]:starts[1] + side]


def _centre(image: np.ndarray, box: Box, side: int) -> np.ndarray:
    length = min(box[2] - box[0], box[3] - box[1])
    x, y = (box[0] + box[2] - length) // 2, (box[1] + box[3] - length) // 2
    return _resized(image[y:y + length, x:x + length], side)


def _resized(part: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(Image.fromarray(np.ascontiguousarray(part)).resize((side, side), Image.Resampling.BILINEAR))


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    return report.positive(height), report.positive(width)


WAYS: dict[str, Callable[[np.ndarray, Box, int], np.ndarray]] = {
    "squash": _shipped(()), "mean": _filled("mean"), "edge": _filled("edge"), "mirror": _filled("reflect"),
    "around-mean": _filled("mean", around=True),
    "around-mirror": _filled("reflect", around=True), "square": _shipped((LEVEL[0].name,)), "centre": _centre}

if __name__ == "__main__":
    sys.exit(main())
