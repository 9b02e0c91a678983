"""Time the making of records, from picture files to features on disk, beside its parts: the encoder alone on patches that are
ready, and reading and cutting alone; then in several processes.

Words as on the command line of `kaleidobert records` change the size's records.yaml, such as source.table=my/products.csv
encoder.weights=my/mobilenet.h5 encoder.folded=true. Without a source.table the pictures are drawn; without encoder.weights the
network's weights are random, which takes as long.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import keras
import numpy as np

from benchmarks import floors, random_bank, report
from kaleidobert import configs
from kaleidobert import levels as kaleido
from kaleidobert.app_zoo import commands
from kaleidobert.configs import RecordsConfig
from kaleidobert.datasets.bank import builder
from kaleidobert.datasets.products import Product
from kaleidobert.datasets.sources import reading
from kaleidobert.drawing import catalogue as synthetic
from kaleidobert.errors import UserError
from kaleidobert.model_zoo import foreground_net
from kaleidobert.preprocessors import encoders

SHARDS = 4  # of each process


def main(arguments: list[str] | None = None) -> int:
    """Runs the program; returns the exit status."""
    parser = report.parser("benchmarks.records", __doc__)
    parser.add_argument("--pictures", type=report.positive, default=32, help="default: 32")
    parser.add_argument("--processes", type=report.positive, action="append", default=[], metavar="N",
                        help="then time so many worker processes; may be given several times")
    parser.add_argument("words", nargs="*", metavar="key=value", help="changes of records.yaml")
    return report.guarded(run, parser.parse_intermixed_args(arguments))


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measures and prints; UserError where no picture of the source can be used."""
    machine = report.machine()
    with tempfile.TemporaryDirectory(prefix="kaleido-benchmark-") as folder:
        config, products = prepare(options, Path(folder))
        segment = builder.segmenter(config.foreground, foreground_net.build)
        cuts = [cut for cut in builder.cut_ahead(products, config, segment) if not isinstance(cut, UserError)]
        if not cuts:
            raise UserError("no picture can be used", str(config.source.table))
        equal = 1 - len({key for cut in cuts for key in cut.keys}) / sum(len(cut.keys) for cut in cuts)
        encoder = encoders.build(config.encoder)
        views = [view for cut in cuts for view in cut.views]
        ready = [np.stack([view for view in views if len(view) == size]) for size in sorted({len(view) for view in views})]
        del cuts, views

        def records(times: int) -> None:
            for _ in range(times):
                shutil.rmtree(config.bank, ignore_errors=True)
                for _ in builder.build_shards(replace(config, workers=1), products, encoders.build, foreground_net.build):
                    pass

        def encode(times: int) -> None:
            for _ in range(times):
                for patches in ready:
                    encoder.encode(patches)

        def cut(times: int) -> None:
            for _ in range(times):
                for _ in builder.cut_ahead(products, config, segment):
                    pass

        cases = [floors.Case(name, len(products), "pictures", function) for name, function in
                 (("records", records), ("encoder alone", encode), ("reading and cutting alone", cut))]
        timing, *against = floors.interleaved(cases, options.repeats)
        metadata = {"title": f"records: {builder.encoder_name(config.encoder)}, {len(products)} pictures, {keras.backend.backend()}",
                 "machine": machine, "encoder": configs.to_dict(config.encoder), "vectors": kaleido.num_vectors(config.levels),
                 "equal_vectors": equal, "encoded_together": encoder.batch}
        metadata["processes"] = {str(count): rate(config, products, count, max(options.processes)) for count in options.processes}
    result = report.show(metadata, timing, against, options.json)
    print(f"{equal:.1%} of the {metadata['vectors']} vectors of a picture equal another one and are encoded once")
    for count, pictures_per_second in metadata["processes"].items():
        print(f"{count} processes: {pictures_per_second:.2f} pictures/s")
    return result


def prepare(options: argparse.Namespace, folder: Path) -> tuple[RecordsConfig, Sequence[Product]]:
    """Returns the configuration, its bank below the folder, and so many products; what the words do not name is drawn there."""
    size = random_bank.CONFIGS / random_bank.SIZES[options.size].folder / "records.yaml"
    config = commands.load("records", size, [*options.words, f"source.limit={options.pictures}"])
    encoder = config.encoder if options.batch is None else replace(config.encoder, batch_size=options.batch)
    networks = {"mobilenet_v2": keras.applications.MobileNetV2, "resnet50": keras.applications.ResNet50}  # whose weights are downloads
    if encoder.name in networks and encoder.weights is None:
        keras.utils.set_random_seed(0)
        make = networks[encoder.name]
        encoder = replace(encoder, weights=folder / "random.weights.h5")
        make(include_top=False, pooling="avg", weights=None, input_shape=(224, 224, 3)).save_weights(encoder.weights)
    source = config.source
    if not any(word.startswith("source.table=") for word in options.words):
        synthetic.write_catalogue(folder / "catalogue", (options.pictures + 1) // 2, size=256)
        drawn = commands.load("records", random_bank.CONFIGS / "quickstart/records.yaml").source
        source = replace(drawn, table=folder / "catalogue/products.jsonl", limit=options.pictures)
    config = replace(config, bank=folder / "bank", encoder=encoders.resolved(encoder), source=source)
    return config, reading.read(source)[0]


def rate(config: RecordsConfig, products: Sequence[Product], workers: int, max_workers: int) -> float:
    """Returns pictures a second in so many processes, from when each had done a shard, and with it its start, to the end."""
    shutil.rmtree(config.bank, ignore_errors=True)
    config = replace(config, workers=workers, shard_size=max(1, len(products) // (SHARDS * max_workers)))
    times = []
    for count in builder.build_shards(config, products, encoders.build, foreground_net.build):
        times.append((perf_counter(), count))
    begin, rest = times[workers - 1][0], times[workers:]
    return sum(count for _, count in rest) / (rest[-1][0] - begin) if rest else float("nan")


if __name__ == "__main__":
    sys.exit(main())
