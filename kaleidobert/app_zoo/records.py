"""``kaleidobert records``: from a catalogue of pictures and texts to the feature bank."""

from collections import Counter
from collections.abc import Sequence

from tqdm import tqdm

from kaleidobert import files
from kaleidobert.configs import RecordsConfig
from kaleidobert.datasets import bank_builder, beam_records, catalogue, classes
from kaleidobert.datasets.bank import Bank, describe
from kaleidobert.datasets.products import Product
from kaleidobert.errors import UserError
from kaleidobert.levels import check, num_patches, num_vectors
from kaleidobert.model_zoo import encoders, foreground_net


def dry_run(config: RecordsConfig) -> None:
    """Check the table and the configuration, print sizes."""
    products, left_out = _read(config)
    bank_builder.check(config, products)
    if config.source.kind != "tfds":  # whose pictures are written first
        _compare(config, products, dry=True)
    size = encoders.feature_size(config.encoder)
    bytes_per_picture = num_vectors(config.levels) * size * (2 if config.storage == "float16" else 1)
    print(f"{len(products):,} pictures, {num_patches(config.levels)} patches, {num_vectors(config.levels)} vectors of "
          f"{size} each: {len(products) * bytes_per_picture / 1e9:.2f} GB in {config.bank}")
    print(f"{len(left_out):,} rows cannot be used{': ' + left_out[0]['reason'] if left_out else ''}")
    labels = ((product.split, product.labels) for product in products)
    for line in classes.report(classes.tabulate(labels, list(config.source.columns.labels))):
        print(line)


def run(config: RecordsConfig) -> None:
    """Make the bank; an interrupted run continues where it stopped."""
    products, left_out = _read(config)
    mark = bank_builder.claim(config, products)
    if config.source.kind == "tfds":
        _write_pictures(config, products)
    bank_builder.refresh(config, _compare(config, products, dry=False))
    build_shards = beam_records.build_shards if config.beam.runner else bank_builder.build_shards
    with tqdm(total=len(products), unit="picture", desc="records") as bar:
        for count in build_shards(config, products, encoders.build, foreground_net.build):
            bar.update(count)
    index = bank_builder.finish(config, products, left_out, mark)
    bank = Bank(config.bank)
    sizes = describe(bank)
    print(f"bank: {config.bank}: {sizes['pictures']:,} pictures {sizes['splits']}, {sizes['patches']} patches of "
          f"{sizes['feature_size']} features ({sizes['encoder']}), vocabulary of {sizes['vocabulary']:,}")
    for line in classes.report(index["classes"]):
        print(line)
    fallbacks = Counter(row["fallback"] for row in bank.table if row["fallback"])
    for reason, count in fallbacks.items():
        print(f"{count:,} pictures taken whole: {reason}")
    if index["left_out"]:
        print(f"{index['left_out']:,} left out; the reasons are in {config.bank / 'left_out.jsonl'}\n"
              "  once their pictures are mended, the same command takes them in; once their rows are, delete the bank before it")


def _compare(config: RecordsConfig, products: Sequence[Product], dry: bool) -> bank_builder.Changes:
    """How the pictures have changed, which is told. UserError where the disk has no room for the bank."""
    found = bank_builder.compare(config, products)
    if found.number:
        print(found.tell(dry))
    needed = bank_builder.room(config, products, encoders.feature_size(config.encoder), found.shards)
    files.check_room(config.bank, needed, f"{len(products):,} pictures", "free some space, choose another folder with bank=..., or "
                     "set storage=uint8" if config.storage == "float16" else "free some space, or choose another folder with bank=...")
    return found


def _write_pictures(config: RecordsConfig, products: Sequence[Product]) -> None:
    """The pictures of a TFDS data set as files: everything that reads pictures again finds them there."""
    from kaleidobert.datasets.tfds import products as tfds_products

    with tqdm(total=len(products), unit="picture", desc="pictures") as bar:
        for count in tfds_products.write_pictures(config.source, products):
            bar.update(count)


def _read(config: RecordsConfig):
    check(config.levels)
    sizes = {"shard_size": (config.shard_size, 1), "encoder.batch_size": (config.encoder.batch_size, 1),
             "workers": (config.workers, 0), "threads": (config.threads, 0)}
    for name, (value, least) in sizes.items():
        if value < least:
            raise UserError(f"{name} is {value}", "records", f"at least {least}")
    encoders.feature_size(config.encoder)
    if config.beam.runner:
        beam_records.check(config)
    if config.source.kind == "tfds" and config.source.images is not None:
        files.check_folder(config.source.images, "choose another folder with source.images=...")
    return catalogue.read(config.source)
