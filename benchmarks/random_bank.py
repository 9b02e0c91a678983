"""The sizes that the programs know, and a bank of random features of such a size in a temporary folder."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kaleidobert import configs, io
from kaleidobert import levels as kaleido
from kaleidobert.app_zoo import commands
from kaleidobert.configs import PretrainConfig
from kaleidobert.datasets.bank.bank import FORMAT, Bank
from kaleidobert.io import sha256
from kaleidobert.levels import KALEIDO, KaleidoLevel
from kaleidobert.preprocessors import patch_generator, tokenization

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
SHARD_SIZE = 256
SUBCATEGORIES = 16
NETWORK_FEATURES = {"resnet50": 2048, "mobilenet_v2": 1280, "efficientnet_lite0": 1280}  # by encoder; pixels have 3 * size**2
GIVEN_VOCABULARY = 30522  # of bert-base-uncased, where a configuration names a file


@dataclass(frozen=True)
class Size:
    """The folder of a shipped pair of records.yaml and pretrain.yaml, and the batch that is timed unless another is requested."""

    folder: str
    batch: int


@dataclass(frozen=True)
class Content:
    """What a bank made with a records.yaml holds: F, the number of word pieces, T."""

    feature_size: int
    vocabulary_size: int
    text_length: int


SIZES = {"base": Size("", 16), "small": Size("catalogue_small", 64), "tiny": Size("quickstart", 32)}


def content(size: str) -> Content:
    """Returns the sizes of a bank as the size's records.yaml has them; a trained vocabulary counts as full."""
    records = commands.load("records", CONFIGS / SIZES[size].folder / "records.yaml")
    encoder, text = records.encoder, records.text
    return Content(NETWORK_FEATURES.get(encoder.name, 3 * encoder.size**2),
                   GIVEN_VOCABULARY if text.vocabulary else text.vocabulary_size, text.length)


def config(size: str, batch: int, precision: str = "float32", more: Sequence[str] = ()) -> PretrainConfig:
    """Returns the size's configuration with this batch, this precision and more words; masking is random, as the bank holds no
    alignment."""
    words = [f"train.batch_size={batch}", f"train.precision={precision}", "sampling.masking=random", *more]
    result = configs.load(PretrainConfig, CONFIGS / SIZES[size].folder / "pretrain.yaml", words)
    return replace(result, levels=result.levels or KALEIDO)


def sizes(size: str, precision: str = "float32") -> dict[str, Any]:
    """Returns the backbone's arguments, as models.backbone_config has them of such a bank; needs no Keras."""
    made, holds = config(size, 1, precision), content(size)
    return {**configs.to_dict(made.model), "levels": configs.to_dict(made.levels), "feature_size": holds.feature_size,
            "vocabulary_size": holds.vocabulary_size, "text_length": holds.text_length, "seed": made.train.seed, "precision": precision}


@contextmanager
def opened(size: str, pictures: int, levels: Sequence[KaleidoLevel] | None = None) -> Iterator[Bank]:
    """Yields a bank of random features in a temporary folder (TMPDIR chooses the disk), removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="kaleido-benchmark-") as folder:
        write(Path(folder), size, pictures, levels)
        yield Bank(folder)


def write(folder: Path, size: str, pictures: int, levels: Sequence[KaleidoLevel] | None = None) -> None:
    """Writes a bank of random features, two pictures per product, all in the split "train"; levels: default those of the size. Raises
    UserError where the disk is full."""
    levels, holds, rng = levels or config(size, 1).levels, content(size), np.random.Generator(np.random.Philox(0))
    shards = _write_shards(folder, (pictures, kaleido.num_vectors(levels), holds.feature_size), rng)
    tokenizer = _tokenizer(holds.vocabulary_size)
    vocabulary = tokenizer.vocabulary
    lengths = rng.integers(6, holds.text_length, size=pictures)
    texts = [rng.integers(*vocabulary.ordinary, size=length).tolist() for length in lengths]
    token_ids, token_words = tokenization.pack(texts, [list(range(len(text))) for text in texts], vocabulary, holds.text_length)
    boxes = np.tile(patch_generator.boxes((0, 0, 100, 100), 100, 100, levels), (pictures, 1, 1))
    for name, array in (("boxes", boxes), ("token_ids", token_ids), ("token_words", token_words)):
        _save(folder / f"{name}.npy", array)
    io.write_text(folder / "table.jsonl", "".join(json.dumps(_line(row)) + "\n" for row in range(pictures)))
    io.write_text(folder / "skipped.jsonl", "")
    text_file = tokenizer.save(folder).name
    names = [*shards, "boxes.npy", "token_ids.npy", "token_words.npy", "table.jsonl", "skipped.jsonl", text_file]
    io.write_json(folder / "index.json", {
        "format": FORMAT, "size": pictures, "skipped": 0, "levels": configs.to_dict(levels),
        "patches": kaleido.num_patches(levels), "vectors": kaleido.num_vectors(levels),
        "encoder": {"name": "random", "weights": "", "feature_size": holds.feature_size},
        "text": {"length": holds.text_length, "file": text_file, "vocabulary": asdict(vocabulary)},
        "labels": ["category", "subcategory"], "fingerprint": "", "source": "random numbers", "shards": shards,
        "files": {name: {"bytes": (folder / name).stat().st_size, "sha256": sha256(folder / name)} for name in names}})


def _write_shards(folder: Path, shape: tuple[int, int, int], rng: np.random.Generator) -> list[str]:
    """Writes features-*.npy of f16[pictures, V, F]; returns their names."""
    pictures, vectors, feature_size = shape
    names = []
    for start in range(0, pictures, SHARD_SIZE):
        features = rng.random((min(SHARD_SIZE, pictures - start), vectors, feature_size), np.float32)
        names.append(f"features-{len(names):05d}.npy")
        _save(folder / names[-1], features.astype(np.float16))
    return names


def _tokenizer(size: int) -> tokenization.WordPiece:
    words = [f"word{number}" for number in range(size - len(tokenization.SPECIAL))]
    return tokenization.WordPiece([*tokenization.SPECIAL, *words])


def _line(row: int) -> dict[str, Any]:
    product = f"product-{row // 2}"
    subcategory = row // 2 % SUBCATEGORIES
    return {"image_id": f"{product}-{row % 2}", "product_id": product, "group": product, "view": str(row % 2), "split": "train",
            "image_path": "", "text": f"the text of {product}", "box": [0, 0, 100, 100], "fallback": False, "parts": [],
            "labels": {"category": f"category-{subcategory // 4}", "subcategory": f"subcategory-{subcategory}"}}


def _save(path: Path, array: np.ndarray) -> None:
    with io.atomic(path) as file:
        np.save(file, array)
