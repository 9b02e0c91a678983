"""Measure the foreground: overlap with the truth on held-out drawn scenes, and, with --catalogue, agreement on real pictures.

    python -m benchmarks.foreground --scenes 240
    python -m benchmarks.foreground --catalogue products.csv --column image --deeplab deeplab.tflite --sheets folder

The truth of a drawn scene is known. On real pictures with a white border the colour threshold serves as the truth (--catalogue).
Methods: border (colour threshold), network (the package's weights or --weights), deeplab (a Pascal VOC segmenter as a baseline:
every class but the background is foreground).
"""

import argparse
import csv
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from benchmarks import report
from kaleidobert import io
from kaleidobert.configs.data import FOREGROUND_WEIGHTS
from kaleidobert.datasets.products import read_image
from kaleidobert.drawing import scenes
from kaleidobert.drawing.backgrounds import HELD_OUT
from kaleidobert.model_zoo import foreground_net
from kaleidobert.preprocessors import foreground

SEED = 1_000_001  # no training and no test of a training has it
WHITE, SHARE = 240, 0.9  # a border pixel is white from here on; so many must be
AREAS = (0.0, 0.05, 0.1, 0.2, 0.4, 1.0)  # of the picture, covered by the product
SHEET = (8, 150)  # pictures in a row of a contact sheet, pixels of each
Segment = Callable[[np.ndarray], np.ndarray]


def main(arguments: list[str] | None = None) -> int:
    """Runs the program; returns the exit status."""
    made = argparse.ArgumentParser("python -m benchmarks.foreground", description=__doc__,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--scenes", type=report.positive, default=240, help="held-out drawn scenes; default: 240")
    made.add_argument("--goods", type=report.positive, default=80, help="the same with small goods in the products' place; default: 80")
    made.add_argument("--size", type=report.positive, default=192, help="size of both in pixels; default: 192")
    made.add_argument("--weights", type=Path, default=FOREGROUND_WEIGHTS, help="of the network; default: the package's")
    made.add_argument("--deeplab", type=Path, metavar="FILE", help="a quantised DeepLab .tflite as a third method")
    made.add_argument("--catalogue", type=Path, metavar="TABLE", help="CSV of real pictures")
    made.add_argument("--column", default="image", help="its column of picture files, relative to the table; default: image")
    made.add_argument("--where", metavar="COLUMN=VALUE", help="draw sheets of these rows too, such as source=retail-demo-store")
    made.add_argument("--pictures", type=report.positive, default=500, help="of the catalogue, evenly spread; default: 500")
    made.add_argument("--sheets", type=Path, metavar="FOLDER", help="write contact sheets: what is not foreground turns red")
    made.add_argument("--json", type=Path, metavar="FILE", help="also write every figure to this file")
    return report.guarded(run, made.parse_args(arguments))


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measures and prints."""
    predict = foreground_net.build(options.weights)
    methods: dict[str, Segment] = {"border": foreground.border_mask, "network": lambda image: foreground.network_mask(image, predict)}
    if options.deeplab:
        methods["deeplab"] = deeplab(options.deeplab)
    result = {"machine": report.machine(), "drawn": drawn(methods, options)}
    if options.catalogue:
        result["catalogue"] = catalogue(methods, options)
    if options.json:
        io.write_json(options.json, result)
    return result


def drawn(methods: dict[str, Segment], options: argparse.Namespace) -> dict[str, Any]:
    """Measures the overlap with the truth on scenes whose products and families of backgrounds no training has: in all, by family, by the
    area of the product; and on small goods."""
    names = list(HELD_OUT)
    made, small = ([scenes.scene(SEED, index, options.size, names[index % len(names)], goods) for index in range(count)]
                   for goods, count in ((False, options.scenes), (True, options.goods)))
    area = np.array([one.mask.mean() for one in made])
    inside = {f"{low:.0%} to {high:.0%}": rows for low, high in zip(AREAS, AREAS[1:]) if (rows := (area >= low) & (area < high)).any()}
    print(f"## {options.scenes} held-out drawn scenes of {options.size} pixels\n\n| method | mean IoU | " + " | ".join(names)
          + " | share >= .9 | small goods | ms a picture |\n|---|" + "---:|" * (len(names) + 4))
    result = {}
    for name, segment in methods.items():
        start = time.process_time()
        values = np.array([float(foreground.overlap(segment(one.image), one.mask)) for one in made])
        spent = (time.process_time() - start) / len(made)
        goods = float(np.mean([foreground.overlap(segment(one.image), one.mask) for one in small]))
        families = {family: float(values[k :: len(names)].mean()) for k, family in enumerate(names)}
        result[name] = {"iou": float(values.mean()), **families, "at_least_0.9": float((values >= 0.9).mean()), "goods": goods,
                       "areas": {key: float(values[rows].mean()) for key, rows in inside.items()}, "ms": 1e3 * spent}
        print(f"| {name} | {values.mean():.3f} | " + " | ".join(f"{v:.3f}" for v in families.values())
              + f" | {(values >= 0.9).mean():.1%} | {goods:.3f} | {1e3 * spent:.1f} |")
    print("\n| area of the product | scenes | " + " | ".join(result) + " |\n|---|" + "---:|" * (len(result) + 1))
    for key, rows in inside.items():
        print(f"| {key} | {rows.sum()} | " + " | ".join(f"{row['areas'][key]:.3f}" for row in result.values()) + " |")
    if options.sheets:
        for name, segment in methods.items():
            sheet(options.sheets / f"drawn-{name}.png", [(one.image, segment(one.image)) for one in made[:64]])
            sheet(options.sheets / f"goods-{name}.png", [(one.image, segment(one.image)) for one in small[:64]])
    return result


def catalogue(methods: dict[str, Segment], options: argparse.Namespace) -> dict[str, Any]:
    """Measures the agreement with the colour threshold on pictures with a white border, and writes sheets to look at."""
    with open(options.catalogue, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    spread = [rows[k] for k in np.linspace(0, len(rows) - 1, min(options.pictures, len(rows))).astype(int)]
    pictures = [read_image(options.catalogue.parent / row[options.column]) for row in spread]
    white = [image for image in pictures if white_border(image)]
    others = [image for image in pictures if not white_border(image)]
    print(f"\n## {len(pictures)} pictures of {options.catalogue.name}: {len(white)} with a white border\n\n"
          "| method | mean IoU with border | share >= .9 | ms a picture |\n|---|---:|---:|---:|")
    truths, result = [foreground.border_mask(image) for image in white], {"white": len(white), "pictures": len(pictures)}
    worst: list[np.ndarray] = []
    for name, segment in methods.items():
        if name == "border":
            continue
        start = time.process_time()
        values = np.array([float(foreground.overlap(segment(image), truth)) for image, truth in zip(white, truths)])
        spent = (time.process_time() - start) / len(white)
        result[name] = {"iou": float(values.mean()), "at_least_0.9": float((values >= 0.9).mean()), "ms": 1e3 * spent}
        print(f"| {name} | {values.mean():.3f} | {(values >= 0.9).mean():.1%} | {1e3 * spent:.1f} |")
        worst = worst or [white[k] for k in np.argsort(values)[:64]]
    if options.sheets:
        column, _, value = (options.where or "").partition("=")
        chosen = [read_image(options.catalogue.parent / row[options.column]) for row in rows if column and row[column] == value]
        for name, segment in methods.items():
            for title, group in (("worst", worst), ("first", white[:64]), ("others", others[:64]), ("chosen", chosen)):
                if group:
                    sheet(options.sheets / f"{title}-{name}.png", [(image, segment(image)) for image in group])
        print(f"\nsheets: {options.sheets}")
    return result


def white_border(image: np.ndarray) -> bool:
    """Whether at least SHARE of the outermost pixels are white."""
    edge = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    return bool((edge.min(axis=1) >= WHITE).mean() >= SHARE)


def deeplab(path: Path) -> Segment:
    """Returns a method that gives the masks of a quantised DeepLab file with its own input size and classes in its output (0 =
    background)."""
    import tensorflow as tf

    interpreter = tf.lite.Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    (entry,), (exit_,) = interpreter.get_input_details(), interpreter.get_output_details()
    _, height, width, _ = entry["shape"]

    def segment(image: np.ndarray) -> np.ndarray:
        picture = Image.fromarray(image)
        small = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
        interpreter.set_tensor(entry["index"], small[None].astype(entry["dtype"]))
        interpreter.invoke()
        output = interpreter.get_tensor(exit_["index"])[0]
        classes = output if output.ndim == 2 else output.argmax(-1)
        mask = Image.fromarray((classes != 0).astype(np.uint8) * 255)
        return foreground.clean(np.asarray(mask.resize(picture.size, Image.Resampling.BILINEAR)) >= 128)

    return segment


def sheet(path: Path, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
    """Writes a PNG of pictures whose background, as found, is tinted red; the box as a green frame."""
    columns, side = SHEET
    canvas = Image.new("RGB", (columns * side, -(-len(pairs) // columns) * side), (90, 90, 110))
    for number, (image, mask) in enumerate(pairs):
        shown = np.where(mask[:, :, None], image, image * 0.45 + np.array([140, 20, 40])).astype(np.uint8)
        picture = Image.fromarray(shown)
        if mask.any():
            x1, y1, x2, y2 = foreground.bounding_box(mask)
            ImageDraw.Draw(picture).rectangle((x1, y1, x2 - 1, y2 - 1), outline=(0, 160, 0), width=max(1, max(picture.size) // 120))
        picture.thumbnail((side - 4, side - 4))
        canvas.paste(picture, (number % columns * side + 2, number // columns * side + 2))
    with io.atomic(path) as file:
        canvas.save(file, "PNG")


if __name__ == "__main__":
    sys.exit(main())
