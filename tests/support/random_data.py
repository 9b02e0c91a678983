"""A bank of random features, texts and links for any level table: no pictures, no encoder, the same bytes everywhere.

    bank = random_bank(tmp_path)                        # with an alignment
"""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from kaleidobert import configs, io
from kaleidobert import levels as kaleido
from kaleidobert.datasets.bank import alignment
from kaleidobert.datasets.bank.bank import FORMAT, Bank
from kaleidobert.io import sha256
from kaleidobert.levels import KALEIDO, KaleidoLevel
from kaleidobert.preprocessors import tokenization

SIZE, FEATURES, LENGTH, WORDS, SHARD, KINDS = 61, 24, 20, 90, 16, 5


def random_bank(folder: Path, levels: tuple[KaleidoLevel, ...] = KALEIDO, shard: int = SHARD) -> Bank:
    """The opened bank, with an alignment, in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, vectors = np.random.Generator(np.random.Philox(7)), kaleido.num_vectors(levels)
    stored = rng.random((SIZE, vectors, FEATURES), np.float32).astype(np.float16)
    shards = [f"features-{number:05d}.npy" for number in range(-(-SIZE // shard))]
    for number, name in enumerate(shards):
        np.save(folder / name, stored[number * shard : (number + 1) * shard])
    words = tokenization.WordPiece([*tokenization.SPECIAL, *(f"word{number}" for number in range(WORDS))])
    texts = [rng.integers(*words.vocabulary.ordinary, size=length).tolist() for length in rng.integers(1, LENGTH + 4, size=SIZE)]
    token_ids, token_words = tokenization.pack(texts, [[place * 2 // 3 for place in range(len(text))] for text in texts],
                                               words.vocabulary, LENGTH)
    boxes = rng.random((SIZE, kaleido.num_patches(levels), 5), np.float32)
    for name, array in (("boxes", boxes), ("token_ids", token_ids), ("token_words", token_words)):
        np.save(folder / f"{name}.npy", array)
    rows = [{"image_id": f"p{row}", "product_id": f"p{row // 2}", "group": f"g{row // 2}", "view": str(row % 2), "split": "train",
             "image_path": "", "text": f"text {row // 2}", "box": [0, 0, 9, 9], "fallback": "", "parts": [],
             "labels": {"subcategory": f"kind {row % KINDS}"}} for row in range(SIZE)]
    (folder / "table.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    names = [*shards, "boxes.npy", "token_ids.npy", "token_words.npy", "table.jsonl", words.save(folder).name]
    io.write_json(folder / "index.json", {
        "format": FORMAT, "size": SIZE, "skipped": 0, "levels": configs.to_dict(levels),
        "encoder": {"name": "random", "weights": "", "feature_size": FEATURES}, "labels": ["subcategory"], "shards": shards,
        "text": {"length": LENGTH, "file": "vocab.txt", "vocabulary": asdict(words.vocabulary)},
        "files": {name: {"bytes": (folder / name).stat().st_size, "sha256": sha256(folder / name)} for name in names}})
    bank = Bank(folder)
    links = rng.random((SIZE, LENGTH, kaleido.num_patches(levels))) * (rng.random((SIZE, LENGTH, kaleido.num_patches(levels))) < 0.05)
    alignment.write(bank, [links.astype(np.float16)], ({} for _ in range(SIZE)), mode="random", settings={})
    return bank
