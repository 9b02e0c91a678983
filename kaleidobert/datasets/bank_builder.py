"""Making a bank: shard by shard, over several processes, to be interrupted and continued at any moment.

A shard is written when all its pictures are encoded, its notes (ids, boxes, faults) last; a shard with notes is never made
again. The index is written when every shard has its notes.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, replace
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from kaleidobert import configs, files
from kaleidobert import levels as kaleido
from kaleidobert.configs import RecordsConfig
from kaleidobert.datasets import classes, cutting, storage, worker_processes
from kaleidobert.datasets.bank import FORMAT, sha256
from kaleidobert.datasets.products import Product
from kaleidobert.errors import UserError
from kaleidobert.preprocessors import features, tokenization

_ENCODERS: dict[str, Any] = {}  # one network per worker process, not one per shard
TRAIN = "train"  # the split on which the vocabulary is trained
LEFTOVER = ".*.tmp"  # what files.atomic leaves behind where the process was killed


def fingerprint(config: RecordsConfig, products: Sequence[Product]) -> str:
    """What decides the content of the shards: products, foreground, encoder, levels; not paths, workers or text settings."""
    encoder = {"name": encoder_name(config.encoder), "weights": _weights(config.encoder)}
    parts = {"foreground": cutting.identity(config.foreground), "encoder": encoder, "shard_size": config.shard_size,
             "levels": configs.to_dict(config.levels), **storage.entries(config.storage, ()),
             "products": [[p.image_id, p.product_id, p.group, p.split, p.text, dict(p.labels)] for p in products]}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def check(config: RecordsConfig, products: Sequence[Product]) -> str:
    """The fingerprint; UserError for what would be refused after all pictures are encoded, and where the folder belongs to
    another bank. Writes nothing."""
    if config.text.length < 3:
        raise UserError(f"text.length is {config.text.length}", "records", "at least 3: [CLS], one piece, [SEP]")
    if config.text.vocabulary is not None or config.text.tokenizer == "sentencepiece":
        _tokenizer(config, ())
    elif not any(product.split == TRAIN for product in products):
        raise UserError(f"no picture is in the split {TRAIN!r}, on which the vocabulary is trained", str(config.source.table),
                        f"{TRAIN!r} beside {sorted({product.split for product in products})[:8]}",
                        "correct the catalogue's split column, or name a text.vocabulary")
    mark, path = fingerprint(config, products), config.bank / "work.json"
    if path.is_file():
        if files.read_json(path)["fingerprint"] != mark:
            raise UserError("the folder holds another bank (other products, encoder, levels or foreground)", str(config.bank),
                            fix="choose another folder with bank=..., or delete this one")
    elif config.bank.exists() and not config.bank.is_dir():
        raise UserError("this is a file", str(config.bank), "a folder", "choose another folder with bank=...")
    elif config.bank.is_dir() and any(not entry.match(LEFTOVER) for entry in config.bank.iterdir()):
        raise UserError("the folder is not empty and holds no bank", str(config.bank), fix="choose another folder with bank=...")
    return mark


def claim(config: RecordsConfig, products: Sequence[Product]) -> str:
    """Check, clear away what a killed run left half written, and write the fingerprint, which is returned, into the folder."""
    mark = check(config, products)
    for path in config.bank.rglob(LEFTOVER):
        path.unlink()
    if not (config.bank / "work.json").is_file():
        files.write_json(config.bank / "work.json", {"fingerprint": mark})
    return mark


def portions(config: RecordsConfig, products: Sequence[Product]) -> Iterator[tuple[int, Sequence[Product]]]:
    """(number, products) of every shard."""
    for number, start in enumerate(range(0, len(products), config.shard_size)):
        yield number, products[start : start + config.shard_size]


def build_shards(config: RecordsConfig, products: Sequence[Product], build_encoder: Any, build_network: Any = None) -> Iterator[int]:
    """Make the shards that are not there yet; yields the number of pictures done, shard by shard.

    build_encoder: picklable, encoder configuration -> object with ``encode`` and ``batch``, as features.encode takes them;
    build_network: picklable, path of weights -> what foreground.network_mask calls, for foreground.method network; both are called
    once in every process.
    """
    todo = []
    for number, part in portions(config, products):
        if is_done(config.bank, number):
            yield len(part)
        else:
            todo.append((number, part))
    cores, devices = os.cpu_count() or 1, worker_processes.gpus() if todo else []
    usual = len(devices) if devices and config.encoder.name != "pixels" else cores
    workers = max(1, min(config.workers or usual, len(todo)))
    config = replace(config, threads=config.threads or max(1, cores // workers))
    if workers == 1:
        for number, part in todo:
            yield build_shard(config, number, part, build_encoder, build_network)
        return
    context = get_context("spawn")  # a process forked after TensorFlow started its threads hangs
    shares = context.SimpleQueue()
    for share in worker_processes.environments(workers, devices, cores):
        shares.put(share)
    with ProcessPoolExecutor(workers, context, worker_processes.settle, (shares,)) as pool:
        futures = [pool.submit(build_shard, config, number, part, build_encoder, build_network) for number, part in todo]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            raise UserError("a worker process died, most often for lack of memory", str(config.bank),
                            fix="run the same command again (finished shards are kept), with fewer workers=...") from None
        finally:
            pool.shutdown(cancel_futures=True)


def build_shard(config: RecordsConfig, number: int, products: Sequence[Product], build_encoder: Any, build_network: Any = None) -> int:
    """Encode the pictures of one shard and write its features and notes; returns the number of pictures looked at."""
    key = str(config.encoder)
    if key not in _ENCODERS:
        _ENCODERS[key] = build_encoder(config.encoder)
    segment = cutting.segmenter(config.foreground, build_network)
    rows: list[tuple[Product, dict[str, Any]]] = []
    reasons: dict[str, str] = {}

    def good() -> Iterator[features.Cut]:
        for product, cut in zip(products, cutting.ahead(products, config, segment)):
            if isinstance(cut, UserError):
                reasons[product.image_id] = str(cut)
            else:
                rows.append((product, {"box": list(cut.box), "fallback": cut.fallback, "boxes": cut.boxes.tolist()}))
                yield cut

    vectors, faults = features.encode(good(), _ENCODERS[key].encode, _ENCODERS[key].batch)
    reasons.update((product.image_id, fault) for (product, _), fault in zip(rows, faults) if fault)
    if not all(faults):
        good_ones = vectors[[not fault for fault in faults]] if any(faults) else vectors
        storage.save(_features_path(config.bank, number), good_ones, config.storage)
    kept = [{**_row(product), **found} for (product, found), fault in zip(rows, faults) if not fault]
    notes = [{"image_id": p.image_id, "where": p.image_path, "reason": reasons[p.image_id]} for p in products if p.image_id in reasons]
    files.write_json(_notes_path(config.bank, number), {"kept": kept, "left_out": notes})
    return len(products)


def finish(config: RecordsConfig, products: Sequence[Product], left_out: list[dict], mark: str) -> dict[str, Any]:
    """Tokenize the texts and write table and index; returns the index. UserError where no picture could be used.

    Shards serve any text settings. The old index goes first: a bank whose tokens are half rewritten must not open.
    """
    size, folder = config.shard_size, config.bank
    (folder / "index.json").unlink(missing_ok=True)
    numbers = range((len(products) + size - 1) // size)
    notes = [files.read_json(_notes_path(folder, number)) for number in numbers]
    rows = [row for note in notes for row in note["kept"]]
    faults = [row for note in notes for row in note["left_out"]]
    left_out = left_out + faults
    files.write_text(folder / "left_out.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in left_out))
    if not rows:
        raise UserError(f"none of {len(products)} pictures could be used (the first: {faults[0]['reason']})",
                        str(folder / "left_out.jsonl"), fix="correct the files or source.images and run the same command again")
    boxes = np.array([row.pop("boxes") for row in rows], np.float32)
    tokenizer = _tokenizer(config, rows)
    token_ids, token_words = tokenizer.encode([row["text"] for row in rows], config.text.length)
    for name, array in (("boxes", boxes), ("token_ids", token_ids), ("token_words", token_words)):
        _save(folder / f"{name}.npy", array)
    files.write_text(folder / "table.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    shards = [_features_path(folder, number).name for number in numbers if notes[number]["kept"]]
    feature_size = int(np.load(folder / shards[0], mmap_mode="r").shape[-1])
    text_file = tokenizer.save(folder).name
    labels = list(config.source.columns.labels)
    held = storage.entries(config.storage, shards)
    names = [*shards, *held.get("scales", ()), "boxes.npy", "token_ids.npy", "token_words.npy", "table.jsonl", "left_out.jsonl", text_file]
    index = {
        "format": FORMAT, "size": len(rows), "left_out": len(left_out), "levels": configs.to_dict(config.levels),
        "patches": kaleido.num_patches(config.levels), "vectors": kaleido.num_vectors(config.levels),
        "encoder": {"name": encoder_name(config.encoder), "weights": _weights(config.encoder), "feature_size": feature_size,
                    "turned": config.encoder.turned},
        "text": {"length": config.text.length, "file": text_file, "vocabulary": asdict(tokenizer.vocabulary)},
        "config": configs.to_dict(config),
        "labels": labels, "classes": classes.tabulate(((row["split"], row["labels"]) for row in rows), labels), "fingerprint": mark,
        "source": str(config.source.table), "shards": shards, **held,
        "files": {name: {"bytes": (folder / name).stat().st_size, "sha256": sha256(folder / name)} for name in names},
    }
    files.write_json(folder / "index.json", index)
    return index


def is_noted(folder: Path, number: int) -> bool:
    """Whether a shard was made, even if nothing of it could be used."""
    return _notes_path(folder, number).is_file()


def is_done(folder: Path, number: int) -> bool:
    """Whether a shard need not be made; one of which nothing could be used is tried again: its pictures may be in place by now."""
    return is_noted(folder, number) and _features_path(folder, number).is_file()


def encoder_name(config: configs.Encoder) -> str:
    """The name by which a bank remembers its encoder, such as mobilenet_v2-96: whatever changes features, but the weights."""
    how = {"float32": "folded" if config.folded else ""}.get(config.precision, config.precision.removeprefix("mixed_"))
    return "-".join(filter(None, (config.name, str(config.size), f"small{config.small_size}" if config.small_size else "",
                                   "square" if config.turned == "square" else "", how)))


def _weights(config: configs.Encoder) -> str:
    """Which weights the encoder has: the SHA-256 of a file, "imagenet" for what Keras fetches, "" for none."""
    return "" if config.name == "pixels" else sha256(config.weights) if config.weights else "imagenet"


def _tokenizer(config: RecordsConfig, rows: list[dict]) -> tokenization.Tokenizer:
    if config.text.tokenizer == "sentencepiece":
        if config.text.vocabulary is None:
            raise UserError("text.vocabulary is empty", "text.tokenizer: sentencepiece", "a SentencePiece .model file")
        return tokenization.SentencePiece(config.text.vocabulary)
    if config.text.vocabulary is not None:
        return tokenization.WordPiece.read(config.text.vocabulary)
    return tokenization.train([row["text"] for row in rows if row["split"] == TRAIN], config.text.vocabulary_size)


def _row(product: Product) -> dict[str, Any]:
    names = ("image_id", "product_id", "group", "view", "split", "image_path", "text")
    parts = [{"word": part.word, "box": list(part.box)} for part in product.parts]
    return {**{name: getattr(product, name) for name in names}, "labels": dict(product.labels), "parts": parts}


def _notes_path(folder: Path, number: int) -> Path:
    return folder / "shards" / f"{number:05d}.json"


def _features_path(folder: Path, number: int) -> Path:
    return folder / f"features-{number:05d}.npy"


def _save(path: Path, array: np.ndarray) -> None:
    with files.atomic(path) as file:
        # only its write method: into a real file numpy writes past Python, and a full disk is an error without a number
        np.save(SimpleNamespace(write=file.write), array)
