"""``kaleidobert records``: from a catalogue of pictures and texts to the feature bank."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from kaleidobert import io
from kaleidobert.configs import RecordsConfig, Source
from kaleidobert.configs.data import Download
from kaleidobert.datasets import addresses
from kaleidobert.datasets.bank import alignment, beam, builder
from kaleidobert.datasets.bank.bank import FORMAT, Bank, describe
from kaleidobert.datasets.bank.changes import Changes
from kaleidobert.datasets.products import Product, class_lines, tabulate_classes
from kaleidobert.datasets.sources.reading import Reading, SkippedRow, account, survey
from kaleidobert.errors import Incomplete, UserError
from kaleidobert.levels import check, num_patches, num_vectors
from kaleidobert.preprocessors import encoders, foreground
from kaleidobert.remote import pictures
from kaleidobert.remote.downloads import Options
from kaleidobert.remote.streams import redacted

REASONS = 8  # that the account of a bank names


def dry_run(config: RecordsConfig) -> None:
    """Checks the table and the configuration, prints sizes; raises Incomplete as ``run``, but for pictures that are there and cannot be
    read: none is opened."""
    reading = _read(config)
    config = replace(config, source=reading.source, encoder=encoders.resolved(config.encoder, bool(builder.gpus())))
    products = reading.products
    builder.check(config, products)
    if not config.source.writes_pictures:  # they are written first
        _compare(config, products, dry=True)
    size = encoders.feature_size(config.encoder)
    bytes_per_picture = num_vectors(config.levels) * size * (2 if config.storage == "float16" else 1)
    print(f"{len(products):,} pictures, {num_patches(config.levels)} patches, {num_vectors(config.levels)} vectors of "
          f"{size} each: {len(products) * bytes_per_picture / 1e9:.2f} GB in {config.bank}")
    labels = ((product.split, product.labels) for product in products)
    for line in class_lines(tabulate_classes(labels, list(config.source.columns.labels))):
        print(line)
    if reading.addresses:
        result = pictures.estimate(reading.addresses, *download(config.source))
        print(result.describe())
        for address, fault in result.faults.items():
            print(f"  {redacted(address)}: {fault}")
    _account(config, reading, [*reading.skipped, *reading.absent])


def run(config: RecordsConfig) -> None:
    """Makes the bank; an interrupted run continues where it stopped.

    Incomplete where more than config.max_skipped of the rows were left out; the bank of the others is complete then.
    """
    reading = _read(config)
    config = replace(config, source=reading.source, encoder=encoders.resolved(config.encoder, bool(builder.gpus())))
    products = reading.products
    mark = builder.claim(config, products)
    if reading.skipped:
        print(f"{len(reading.skipped):,} rows of the table cannot be used: {'; '.join(account(reading.skipped)[:REASONS])}")
    if config.source.writes_pictures:
        write_pictures(config.source, products)
    if reading.addresses:
        _fetch_pictures(config, reading)
    result = _compare(config, products, dry=False)
    before = _vocabulary(config)
    builder.refresh(config, result, mark)
    build_shards = beam.build_shards if config.beam.runner else builder.build_shards
    with tqdm(total=len(products), unit="picture", desc="records") as bar:
        for count in build_shards(config, products, encoders.build, _build_network, result):
            bar.update(count)
    index = builder.finish(config, products, reading.skipped, mark)
    bank = Bank(config.bank)
    sizes = describe(bank)
    print(f"bank: {config.bank}: {sizes['pictures']:,} pictures {sizes['splits']}, {sizes['patches']} patches of "
          f"{sizes['feature_size']} features ({sizes['encoder']}), vocabulary of {sizes['vocabulary']:,}")
    _say_what_fits_no_more(bank, before)
    for line in class_lines(index["classes"]):
        print(line)
    if cut := index["text"]["cut_texts"]:
        print(f"{cut:,} of {sizes['pictures']:,} texts are longer than {config.text.length} pieces (text.length) and were cut: "
              f"{100 * index['text']['cut_words'] / index['text']['words']:.3g}% of all words")
    fallbacks = Counter(row["fallback"] for row in bank.table if row["fallback"])
    for reason, count in fallbacks.items():
        print(f"{count:,} pictures taken whole: {reason}")
    with open(config.bank / "skipped.jsonl", encoding="utf-8") as file:
        skipped = [json.loads(line) for line in file]
    if skipped:
        print(f"{len(skipped):,} left out; the reasons are in {config.bank / 'skipped.jsonl'}\n"
              "  once they are mended, the same command takes them in")
    _account(config, reading, skipped)


def _account(config: RecordsConfig, reading: Reading, skipped: Sequence[SkippedRow]) -> None:
    """Prints how many rows were used and skipped; raises Incomplete where too many were skipped."""
    rows = len(reading.products) + len(reading.skipped)
    unit = "pictures" if reading.has_views else "rows"
    for line in reading.notes():
        print(line)
    print(f"{f'{reading.rows:,} rows read, ' if reading.has_views else ''}{rows:,} {unit}{'' if reading.has_views else ' read'}: "
          f"{rows - len(skipped):,} used, {len(skipped):,} left out")
    lines = account(skipped)
    for line in lines[:REASONS]:
        print(f"  {line}")
    if len(lines) > REASONS:
        print(f"  and {len(lines) - REASONS:,} other reasons")
    if reading.searched:
        print(f"  {reading.searched}")
    if len(skipped) > config.max_skipped * rows:
        fraction = f"{100 * len(skipped) / rows:.3g}%"
        bank = f"the bank of the other {rows - len(skipped):,} is complete" if (config.bank / "index.json").is_file() else ""
        raise Incomplete(f"{len(skipped):,} of {rows:,} {unit} were left out ({fraction}): {lines[0]}" + (f"; {bank}" if bank else ""),
                         str(config.source.table), f"at most {100 * config.max_skipped:.3g}% (max_skipped)",
                         "mend them and make the bank again, or go on with the others")


def _compare(config: RecordsConfig, products: Sequence[Product], dry: bool) -> Changes:
    """Returns what is made, and prints what has changed. Raises UserError where the disk has no room for it."""
    result = builder.compare(config, products)
    if line := result.describe(dry):
        print(line)
    needed = builder.room(config, products, encoders.feature_size(config.encoder), result)
    io.check_room(config.bank, needed, f"{len(products):,} pictures", "free some space, choose another folder with bank=..., or "
                     "set storage=uint8" if config.storage == "float16" else "free some space, or choose another folder with bank=...")
    return result


def _build_network(weights: Path) -> foreground.Predictor:
    """Returns the foreground network; the library that it needs takes seconds to load, and often nothing is left to encode."""
    from kaleidobert.model_zoo import foreground_net

    return foreground_net.build(weights)


def _vocabulary(config: RecordsConfig) -> str:
    """Returns the SHA-256 of the vocabulary of the bank that is there, "" where none is finished."""
    path = config.bank / "index.json"
    index = io.read_json(path) if path.is_file() else {}
    return str(index["files"][index["text"]["file"]]["sha256"]) if index.get("format") == FORMAT else ""


def _say_what_fits_no_more(bank: Bank, before: str) -> None:
    """Prints whether the alignment, and what was trained on the former vocabulary, fit no more.

    before: SHA-256 of that, "" = there was none.
    """
    if before and before != bank.identity["vocabulary_sha256"]:
        print("the vocabulary is another one, trained on the texts as they are now: checkpoints made with the former one do not fit this "
              "bank; text.vocabulary=FILE keeps one")
    try:
        alignment.info(bank)
    except UserError:
        print(f"the alignment is that of the former bank, and is refused: {alignment.AGAIN}")


def write_pictures(source: Source, products: Sequence[Product]) -> None:
    """Writes the pictures of a data set as files: everything that reads pictures again finds them there."""
    with tqdm(total=len(products), unit="picture", desc="pictures") as bar:
        for count in source.write_pictures(products):
            bar.update(count)


def _fetch_pictures(config: RecordsConfig, reading: Reading) -> None:
    """Fetches the pictures at addresses into the cache; of those that cannot be had the reason is noted there, with which their rows are
    left out."""
    missing = 0
    with tqdm(total=len(reading.addresses), unit="picture", desc="fetched") as bar:
        for address, fault in pictures.fetch(reading.addresses, *download(config.source)):
            addresses.note(address, fault)
            missing += bool(fault)
            bar.update()
    print(f"{len(reading.addresses) - missing:,} of {len(reading.addresses):,} pictures at addresses are in {io.cache_root() / 'pictures'}"
          + (f"; the same command tries the other {missing:,} again" if missing else ""))


def download(source: Source) -> tuple[Options, pictures.Limits]:
    """Returns how pictures at addresses are fetched."""
    own = getattr(source, "download", Download())
    return (Options(attempts=own.attempts, timeout=own.timeout, endpoint=own.endpoint),
            pictures.Limits(own.workers, own.per_host, int(own.max_megabytes * 1e6), own.max_seconds, own.private))


def _read(config: RecordsConfig) -> Reading:
    check(config.levels)
    sizes = {"shard_size": (config.shard_size, 1), "encoder.batch_size": (config.encoder.batch_size, 1),
             "workers": (config.workers, 0), "threads": (config.threads, 0)}
    for name, (value, minimum) in sizes.items():
        if value < minimum:
            raise UserError(f"{name} is {value}", "records", f"at least {minimum}")
    if not 0 <= config.max_skipped <= 1:
        raise UserError(f"max_skipped is {config.max_skipped}", "records", "a fraction, 0 to 1")
    encoders.feature_size(config.encoder)
    if config.beam.runner:
        beam.check(config)
    if config.source.writes_pictures and config.source.images is not None:
        io.check_folder(config.source.images, "choose another folder with source.images=...")
    reading = survey(config.source)
    if reading.found:
        print(f"table: {reading.rows:,} rows, {'; '.join(reading.found)}")
    return reading
