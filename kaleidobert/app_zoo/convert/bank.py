"""``kaleidobert convert`` of a bank: a copy whose features are bytes (storage=uint8, half the room), or float16 again."""

from pathlib import Path

from tqdm import tqdm

from kaleidobert.configs import ConvertConfig
from kaleidobert.datasets.bank import storage
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.errors import UserError


def is_bank(source: Path) -> bool:
    """Whether a source is the folder of a bank."""
    return (source / "index.json").is_file()


def dry_run(config: ConvertConfig) -> None:
    """Check the bank and the target, print sizes."""
    bank = _bank(config)
    storage.check(bank, config.target, config.storage)
    print(f"{config.source}: {bank.size:,} pictures, features as {bank.storage}, {_gigabytes(bank):.2f} GB\n"
          f"would be written: {config.target}, features as {config.storage}")


def run(config: ConvertConfig) -> None:
    """Copy the bank, or go on with a copy that was interrupted."""
    bank = _bank(config)
    with tqdm(total=bank.size, unit="picture", desc="convert") as bar:
        for count in storage.convert(bank, config.target, config.storage):
            bar.update(count)
    print(f"written: {config.target}: features as {config.storage}, {_gigabytes(Bank(config.target)):.2f} GB in the place of "
          f"{_gigabytes(bank):.2f} GB; use it as data.bank")


def _bank(config: ConvertConfig) -> Bank:
    if not config.storage:
        raise UserError("storage is not set", f"source {config.source}, a bank", "uint8 or float16", "set storage=uint8")
    return Bank(config.source)


def _gigabytes(bank: Bank) -> float:
    return sum(bank.index["files"][name]["bytes"] for name in (*bank.index["shards"], *bank.index.get("scales", ()))) / 1e9
