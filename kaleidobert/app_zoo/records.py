"""``kaleidobert records``: from a catalogue of pictures and texts to the feature bank."""

from collections import Counter

from tqdm import tqdm

from kaleidobert.configs import RecordsConfig
from kaleidobert.datasets import bank_builder, catalogue
from kaleidobert.datasets.bank import Bank, describe
from kaleidobert.errors import UserError
from kaleidobert.levels import check, num_patches, num_vectors
from kaleidobert.model_zoo import encoders


def dry_run(config: RecordsConfig) -> None:
    """Check the table and the configuration, print sizes."""
    products, left_out = _read(config)
    encoder = encoders.build(config.encoder)
    bytes_per_picture = num_vectors(config.levels) * encoder.feature_size * 2
    print(f"{len(products):,} pictures, {num_patches(config.levels)} patches, {num_vectors(config.levels)} vectors of "
          f"{encoder.feature_size} each: {len(products) * bytes_per_picture / 1e9:.2f} GB in {config.bank}")
    print(f"{len(left_out):,} rows cannot be used{': ' + left_out[0]['reason'] if left_out else ''}")


def run(config: RecordsConfig) -> None:
    """Make the bank; an interrupted run continues where it stopped."""
    products, left_out = _read(config)
    mark = bank_builder.claim(config, products)
    with tqdm(total=len(products), unit="picture", desc="records") as bar:
        for count in bank_builder.build_shards(config, products, encoders.build):
            bar.update(count)
    index = bank_builder.finish(config, products, left_out, mark)
    bank = Bank(config.bank)
    sizes = describe(bank)
    print(f"bank: {config.bank}: {sizes['pictures']:,} pictures {sizes['splits']}, {sizes['patches']} patches of "
          f"{sizes['feature_size']} features ({sizes['encoder']}), vocabulary of {sizes['vocabulary']:,}")
    fallbacks = Counter(row["fallback"] for row in bank.table if row["fallback"])
    for reason, count in fallbacks.items():
        print(f"{count:,} pictures taken whole: {reason}")
    if index["left_out"]:
        print(f"{index['left_out']:,} left out; the reasons are in {config.bank / 'left_out.jsonl'}")


def _read(config: RecordsConfig):
    check(config.levels)
    if config.shard_size < 1 or config.encoder.batch_size < 1:
        raise UserError(f"shard_size is {config.shard_size}, encoder.batch_size {config.encoder.batch_size}", "records", "at least 1")
    return catalogue.read(config.source)
