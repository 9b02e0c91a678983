"""Making a bank, shard by shard and over several processes, so that it can be interrupted and continued at any moment; and copying one.

A shard is written when all its pictures are encoded, its notes (boxes, faults, and which pictures these are) last. ``changes`` says which
shards of an existing bank are made again, and what is copied. The index is written when every shard has its notes and lies where it
belongs (``states``).
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from multiprocessing import get_context, parent_process
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from kaleidobert import configs, io
from kaleidobert import levels as kaleido
from kaleidobert.configs import RecordsConfig
from kaleidobert.configs.data import FOREGROUND_REMAKE
from kaleidobert.datasets import addresses
from kaleidobert.datasets.bank import alignment, changes, states
from kaleidobert.datasets.bank.bank import FORMAT, Bank, checksums, write_array
from kaleidobert.datasets.bank.changes import Changes, Entry, ShardPlan, portions
from kaleidobert.datasets.products import Product, tabulate_classes
from kaleidobert.errors import UserError
from kaleidobert.io import sha256
from kaleidobert.preprocessors import encoders, features, foreground, patch_generator, tokenization
from kaleidobert.preprocessors.features import quantise

_ENCODERS: dict[str, Any] = {}  # one network per worker process, not one per shard
TRAIN = "train"  # the split on which the vocabulary is trained
WORK = 5  # format of work.json and of the notes
FIX = "wait until it has ended, or choose another folder with bank=..."


def identity(config: RecordsConfig) -> dict[str, Any]:
    """Returns what decides the vectors of a picture and how they are held: foreground, encoder, levels and what resizes patches; not paths,
    workers or texts."""
    encoder = {"name": encoder_name(config.encoder), "weights": encoders.weights_identity(config.encoder)}
    return {"foreground": foreground_identity(config.foreground), "encoder": encoder, "shard_size": config.shard_size,
            "levels": configs.to_dict(config.levels), "pillow": pillow(PIL.__version__), **storage_entries(config.storage, ())}


def pillow(version: str) -> int:
    """Returns what of Pillow's version counts: 12 and 13 resize some patches otherwise, those that grow one way and shrink the other.

    >>> pillow("12.3.0")
    12
    """
    return int(version.partition(".")[0])


def fingerprint(config: RecordsConfig, products: Sequence[Product]) -> str:
    """Returns what decides the content of the shards and of the table beside the pictures, whose contents are in the shards' notes."""
    settings = {**identity(config), "products": [[p.image_id, p.product_id, p.group, p.view, p.split, p.text, dict(p.labels),
                                                  [[part.word, *part.box] for part in p.parts]] for p in products]}
    return _digest_of(settings)


def check(config: RecordsConfig, products: Sequence[Product]) -> str:
    """Returns the fingerprint; raises UserError for what would be refused after all pictures are encoded, where the folder belongs to
    another bank or another process is using it, and where it cannot be written. Leaves nothing behind."""
    if config.text.length < 3:
        raise UserError(f"text.length is {config.text.length}", "records", "at least 3: [CLS], one piece, [SEP]")
    if config.text.vocabulary is not None or config.text.tokenizer == "sentencepiece":
        _tokenizer(config, ())
    elif not any(product.split == TRAIN for product in products):
        raise UserError(f"no picture is in the split {TRAIN!r}, on which the vocabulary is trained", str(config.source.table),
                        f"{TRAIN!r} beside {sorted({product.split for product in products})[:8]}",
                        "correct the catalogue's split column, or name a text.vocabulary")
    _check_work(config)
    io.check_unlocked(config.bank, FIX)
    io.check_folder(config.bank, "choose another folder with bank=...")
    return fingerprint(config, products)


def check_products(config: RecordsConfig, products: Sequence[Product]) -> None:
    """Raises UserError where the folder does not hold the begun bank of these products."""
    work = _check_work(config)
    if work.get("fingerprint") != fingerprint(config, products):
        raise UserError("the folder holds another bank: the table has changed since it was begun", str(config.bank),
                        "the products of which it is being made", "run the same command again, which takes the changes in")


def _check_work(config: RecordsConfig) -> dict[str, Any]:
    """Returns the content of work.json, {} where nothing is begun; raises UserError where the folder holds anything else than this bank."""
    folder, path = config.bank, config.bank / "work.json"
    if path.is_file():
        work: dict[str, Any] = io.read_json(path)
        if work.get("format") != WORK:
            raise UserError(f"an earlier version made this bank, with notes of format {work.get('format', 1)}", str(folder),
                            f"format {WORK}", "delete it and make it again; bank=... chooses another folder")
        if work["identity"] != _digest_of(identity(config)):
            raise UserError("the folder holds another bank (another encoder, foreground, storage, shard_size, other levels, or another "
                            f"Pillow than {PIL.__version__}, which resizes otherwise)", str(folder),
                            fix="choose another folder with bank=..., or delete this one")
        return work
    if folder.exists() and not folder.is_dir():
        raise UserError("this is a file", str(folder), "a folder", "choose another folder with bank=...")
    if io.contents(folder):
        raise UserError("the folder is not empty and holds no bank", str(folder), fix="choose another folder with bank=...")
    return {}


def claim(config: RecordsConfig, products: Sequence[Product]) -> str:
    """Checks and locks the folder for the length of the io.lock_scope, removes what a killed run left half written and brings to its end
    what it began to put in place; returns the fingerprint."""
    mark = check(config, products)
    lock = io.lock(config.bank, fix=FIX)  # noqa: F841  outside of a scope it goes with this name
    _check_work(config)  # of another process, which has ended meanwhile
    states.clear(config.bank)
    if not (config.bank / "work.json").is_file():
        io.write_json(config.bank / "work.json", work_of(config, mark))
    return mark


def work_of(config: RecordsConfig, mark: str) -> dict[str, Any]:
    """Returns the content of work.json. mark: the fingerprint."""
    return {"format": WORK, "identity": _digest_of(identity(config)), "fingerprint": mark}


def compare(config: RecordsConfig, products: Sequence[Product]) -> Changes:
    """Returns what has to be made, as ``changes.compare``."""
    begun = io.contents(config.bank) and _check_work(config).get("fingerprint") == fingerprint(config, products)
    return changes.compare(config, products, bool(begun))


def refresh(config: RecordsConfig, result: Changes, mark: str) -> None:
    """Notes of which products the bank is being made (mark: the fingerprint) and, of shards that stay, their present entries."""
    states.drop(config.bank, result.stale)
    io.write_json(config.bank / "work.json", work_of(config, mark))
    for (root, number), entries in result.notes.items():
        states.write_notes(config.bank / root, number, entries)


def room(config: RecordsConfig, products: Sequence[Product], feature_size: int, result: Changes | None = None) -> int:
    """Returns bytes that the bank still needs: of the shards that are made, which lie beside those whose place they take, and of the rest.

    result: what is made; None = what ``compare`` finds.
    """
    made = {plan.number for plan in (result or compare(config, products)).plans}
    rows = sum(len(chunk) for number, chunk in portions(config, products) if number in made)
    vectors, patches = kaleido.num_vectors(config.levels), kaleido.num_patches(config.levels)
    values = {"float16": 2 * feature_size, "uint8": feature_size + 4}[config.storage]
    return rows * vectors * values + len(products) * (patches * 5 * 4 + config.text.length * 6)


def build_shards(config: RecordsConfig, products: Sequence[Product], build_encoder: Any, build_network: Any = None,
                 result: Changes | None = None) -> Iterator[int]:
    """Makes the shards that are not there yet; yields the number of pictures done, shard by shard.

    build_encoder: picklable, encoder configuration -> object with ``encode`` and ``batch``, as features.encode takes them;
    build_network: picklable, path of weights -> what foreground.network_mask calls, for foreground.method network; both are called
    once in every process, where it encodes. result: what is made; None = what ``compare`` finds.
    """
    plans = {plan.number: plan for plan in (result or compare(config, products)).plans}
    todo, mark = [], states.planned(config.bank)
    for number, chunk in portions(config, products):
        if number not in plans:
            yield len(chunk)
        elif plans[number].encoded(chunk):
            todo.append((plans[number], chunk))
        else:  # all is copied
            yield build_shard(config, plans[number], chunk, build_encoder, build_network, mark)
    cores, devices = os.cpu_count() or 1, gpus() if todo else []
    usual = len(devices) if devices and encoders.ENCODERS[config.encoder.name].architecture else cores
    workers = max(1, min(config.workers or usual, len(todo)))
    config = replace(config, threads=config.threads or max(1, cores // workers))
    if workers == 1:
        for plan, chunk in todo:
            with one_core_each():
                done = build_shard(config, plan, chunk, build_encoder, build_network, mark)
            yield done
        return
    context = get_context("spawn")  # a process forked after TensorFlow started its threads hangs
    waiting = context.SimpleQueue()
    for environment in environments(workers, devices, cores):
        waiting.put(environment)
    with ProcessPoolExecutor(workers, context, take_environment, (waiting,)) as pool:
        futures = [pool.submit(build_shard, config, plan, chunk, build_encoder, build_network, mark) for plan, chunk in todo]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            raise UserError("a worker process died, most often for lack of memory", str(config.bank),
                            fix="run the same command again (finished shards are kept), with fewer workers=...") from None
        finally:
            pool.shutdown(cancel_futures=True)


def build_shard(config: RecordsConfig, plan: ShardPlan, products: Sequence[Product], build_encoder: Any, build_network: Any = None,
                mark: str | None = None) -> int:
    """Encodes the pictures of one shard, but for those that are copied, and writes features and notes; returns the number of pictures.

    mark: the fingerprint that the plan belongs to, None = not looked at. Raises UserError, and writes nothing, where the bank is being made
    of other products by now, or the process that holds its lock has ended.
    """
    _check_plan(config, mark)
    entries, encoded = _encode(config, plan.encoded(products), build_encoder, build_network)
    copies = [copy for copy in plan.copies if copy is not None]
    entries |= {copy.entry["image_id"]: copy.entry for copy in copies}
    ordered = [entries[product.image_id] for product in products]
    root = config.bank / plan.root
    if any(map(changes.is_kept, ordered)):
        stored = encoded if not copies else _joined(config, plan, products, entries, encoded)
        _check_plan(config, mark)
        write_stored(states.features_path(root, plan.number), *stored)
    _check_plan(config, mark)
    states.write_notes(root, plan.number, ordered)
    return len(products)


def _check_plan(config: RecordsConfig, mark: str | None) -> None:
    """Raises UserError where a shard is no more to be written. A worker outlives a parent that is killed, whose lock is free then."""
    parent = parent_process()
    if mark is not None and (states.planned(config.bank) != mark or parent is not None and not parent.is_alive()):
        raise UserError("this shard belongs to a run that has ended, or the bank is being made of other products by now", str(config.bank),
                        "the run that began the shard", "run the same command again; finished shards are kept")


Stored = tuple[np.ndarray, np.ndarray | None]  # rows as a shard holds them: f16[n, V, F]; or uint8[n, V, F] and their scales f32[n, V]


def _encode(config: RecordsConfig, products: Sequence[Product], build_encoder: Any, build_network: Any) -> tuple[dict[str, Entry], Stored]:
    """Returns ({image_id: its entry}, what a shard holds of those without a fault)."""
    if not products:
        return {}, (np.empty((0, 0, 0), np.float16), None)
    encoder = make_encoder(config.encoder, build_encoder)
    segment = segmenter(config.foreground, build_network)
    rows: list[tuple[Product, Entry]] = []
    entries: dict[str, Entry] = {}
    reasons: dict[str, str] = {}
    looked_at = [replace(product, load_image=partial(_load, config, product, entries)) for product in products]

    def good() -> Iterator[features.Cut]:
        for product, cut in zip(products, cut_ahead(looked_at, config, segment)):
            if isinstance(cut, UserError):
                reasons[product.image_id] = str(cut)
            else:
                rows.append((product, {"box": list(cut.box), "size": list(cut.size), "fallback": cut.fallback}))
                yield cut

    threads = max(1, config.threads) if encoder.parallel else 1
    vectors, faults = features.encode(good(), encoder.encode, encoder.batch, threads)
    reasons.update((product.image_id, fault) for (product, _), fault in zip(rows, faults) if fault)
    for product in products:
        if product.image_id in reasons:
            entries[product.image_id] |= {"where": addresses.shown(product.image_path), "reason": reasons[product.image_id],
                                          "unread": bool(changes.fault(config, product))}
    for (product, found), fault in zip(rows, faults):
        entries[product.image_id] |= {} if fault else found
    return entries, stored_as(vectors[[not fault for fault in faults]] if any(faults) else vectors, config.storage)


def make_encoder(config: configs.Encoder, build_encoder: Any) -> Any:
    """Returns the encoder of a configuration; ``build_encoder`` is called once in every process."""
    key = str(config)
    if key not in _ENCODERS:
        _ENCODERS[key] = build_encoder(config)
    return _ENCODERS[key]


def _load(config: RecordsConfig, product: Product, entries: dict[str, Entry]) -> np.ndarray:
    """Returns a product's picture, its files noted before it is read."""
    entries[product.image_id] = changes.entry(config, product)
    return product.load_image()


def _joined(config: RecordsConfig, plan: ShardPlan, products: Sequence[Product], entries: Mapping[str, Entry], encoded: Stored) -> Stored:
    """Returns the rows of a shard, copied ones between those that were encoded."""
    sources = {number: read_stored(states.features_path(config.bank, number), config.storage)
               for number in {copy.shard for copy in plan.copies if copy is not None}}
    counted = iter(range(len(products)))
    rows = [(encoded, next(counted)) if copy is None else (sources[copy.shard], copy.row) for product, copy in zip(products, plan.copies)
            if changes.is_kept(entries[product.image_id])]
    parts = [np.stack([source[part][row] for source, row in rows]) for part in range(2 if config.storage == "uint8" else 1)]  # type: ignore[index]
    return parts[0], parts[1] if len(parts) > 1 else None


def finish(config: RecordsConfig, products: Sequence[Product], skipped: list[dict], mark: str) -> dict[str, Any]:
    """Puts new shards in the place of old ones, tokenizes the texts and writes table and index; returns the index.

    Raises UserError where no picture could be used.

    Shards serve any text settings. The old index goes first: a bank whose tokens are half rewritten must not open.
    """
    folder, numbers = config.bank, [number for number, _ in portions(config, products)]
    states.settle(folder, len(numbers))
    notes = {number: states.read_notes(folder, number) for number in numbers}
    entries = [one for number in numbers for one in notes[number]]
    kept = [(product, one) for product, one in zip(products, entries, strict=True) if changes.is_kept(one)]
    faults = [{name: one[name] for name in ("image_id", "where", "reason")} for one in entries if not changes.is_kept(one)]
    skipped = skipped + faults
    rows = [{**_row(product), "box": one["box"], "fallback": one["fallback"]} for product, one in kept]
    io.write_text(folder / "skipped.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in skipped))
    if not rows:
        raise UserError(f"none of {len(products)} pictures could be used (the first: {faults[0]['reason']})",
                        str(folder / "skipped.jsonl"), fix="correct the files or source.images and run the same command again")
    boxes = np.stack([patch_generator.boxes(one["box"], one["size"][0], one["size"][1], config.levels) for _, one in kept])
    tokenizer = _tokenizer(config, rows)
    ids, words = tokenizer.split([row["text"] for row in rows])
    token_ids, token_words = tokenization.pack(ids, words, tokenizer.vocabulary, config.text.length)
    for name, array in (("boxes", boxes), ("token_ids", token_ids), ("token_words", token_words)):
        write_array(folder / f"{name}.npy", array)
    io.write_text(folder / "table.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    shards = [states.features_path(folder, number).name for number in numbers if any(map(changes.is_kept, notes[number]))]
    feature_size = int(np.load(folder / shards[0], mmap_mode="r").shape[-1])
    text_file = tokenizer.save(folder).name
    labels = list(config.source.columns.labels)
    held = storage_entries(config.storage, shards)
    names = [*shards, *held.get("scales", ()), "boxes.npy", "token_ids.npy", "token_words.npy", "table.jsonl", "skipped.jsonl", text_file]
    index = {
        "format": FORMAT, "size": len(rows), "skipped": len(skipped), "levels": configs.to_dict(config.levels),
        "patches": kaleido.num_patches(config.levels), "vectors": kaleido.num_vectors(config.levels),
        "encoder": {"name": encoder_name(config.encoder), "weights": encoders.weights_identity(config.encoder),
                    "feature_size": feature_size, "turned": config.encoder.turned, "pillow": PIL.__version__},
        "text": {"length": config.text.length, "file": text_file, "vocabulary": asdict(tokenizer.vocabulary),
                 **tokenization.truncation(words, config.text.length)},
        "config": configs.to_dict(config),
        "pictures": _digest_of([[one["image_id"], *changes.content(one)] for _, one in kept]), "labels": labels,
        "classes": tabulate_classes(((row["split"], row["labels"]) for row in rows), labels), "fingerprint": mark,
        "source": str(config.source.table), "shards": shards, **held,
        "files": checksums(folder, names),
    }
    io.write_json(folder / "index.json", index)
    return index


def encoder_name(config: configs.Encoder) -> str:
    """Returns the name by which a bank remembers its encoder, such as mobilenet_v2-96: whatever changes features, but the weights."""
    how = {"float32": "folded" if config.folded else ""}.get(config.precision, config.precision.removeprefix("mixed_"))
    return "-".join(filter(None, (config.name, str(config.size), f"small{config.small_size}" if config.small_size else "",
                                   "square" if config.turned == "square" else "", how)))


def _tokenizer(config: RecordsConfig, rows: Sequence[Mapping[str, Any]]) -> tokenization.Tokenizer:
    if config.text.tokenizer == "sentencepiece":
        if config.text.vocabulary is None:
            raise UserError("text.vocabulary is empty", "text.tokenizer: sentencepiece", "a SentencePiece .model file")
        return tokenization.SentencePiece(config.text.vocabulary)
    if config.text.vocabulary is not None:
        return tokenization.WordPiece.read(config.text.vocabulary)
    return tokenization.train([row["text"] for row in rows if row["split"] == TRAIN], config.text.vocabulary_size,
                              config.text.accents, config.text.case)


def _row(product: Product) -> dict[str, Any]:
    names = ("image_id", "product_id", "group", "view", "split", "image_path", "text")
    parts = [{"word": part.word, "box": list(part.box)} for part in product.parts]
    return {**{name: getattr(product, name) for name in names}, "labels": dict(product.labels), "parts": parts}


def _digest_of(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


# --- Which cores and GPUs the worker processes of this machine get


DEVICES = "CUDA_VISIBLE_DEVICES"
ONE_CORE = {"TF_NUM_INTRAOP_THREADS": "1"}  # of an operation, see one_core_each
SHARED = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # memory as needed: others need some too


def gpus(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Returns the NVIDIA GPUs of this machine as CUDA_VISIBLE_DEVICES names them; of one that is divided, its parts.

    Where that variable is set, those that it names.
    """
    if DEVICES in environment:
        names = [name.strip() for name in environment[DEVICES].split(",")]
        ends = [position for position, name in enumerate(names) if name in ("", "-1")]  # CUDA itself reads no further
        return names[: ends[0]] if ends else names
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        return listed(subprocess.run([program, "-L"], capture_output=True, text=True, timeout=60).stdout)
    except (OSError, subprocess.TimeoutExpired):  # a driver that does not answer
        return []


def listed(text: str) -> list[str]:
    """Returns the names in what nvidia-smi -L prints.

    >>> listed("GPU 0: NVIDIA A30 (UUID: GPU-1)\\nGPU 1: NVIDIA A30 (UUID: GPU-2)\\n  MIG 1g.6gb Device 0: (UUID: MIG-3)\\n")
    ['GPU-1', 'MIG-3']
    """
    result: list[list[str]] = []
    for line in text.splitlines():
        if name := re.search(r"\(UUID: (\S+)\)", line):
            if line.startswith("GPU"):
                result.append([name[1]])
            elif result:
                result[-1].append(name[1])
    return [name for names in result for name in (names[1:] or names)]


def environments(workers: int, devices: list[str], cores: int) -> list[dict[str, str]]:
    """Returns the variables of each process: some of the cores, and one of the GPUs in turn; without GPUs nothing about them is said."""
    cores_each = {**ONE_CORE, "OMP_NUM_THREADS": str(max(1, cores // workers))}
    return [cores_each | ({DEVICES: devices[number % len(devices)], **SHARED} if devices else {}) for number in range(workers)]


@contextmanager
def one_core_each() -> Iterator[None]:
    """Has TensorFlow, where it starts in this block, compute an operation on one core.

    The sums of two are rounded otherwise, and vectors must not follow from how many processes make the bank. Threads that call a network
    at the same time take the other cores.
    """
    before = {name: os.environ.get(name) for name in ONE_CORE}
    os.environ.update(ONE_CORE)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def take_environment(waiting: SimpleQueue) -> None:
    """Takes one of the environments for this process; must run before a network library is imported in it."""
    os.environ.update(waiting.get())


# --- From a product's picture to what the encoder sees: the foreground of the configured method, cut into patches


Segment = Callable[[np.ndarray], np.ndarray]  # uint8[h, w, 3] -> bool[h, w]
_NETWORKS: dict[str, foreground.Predictor] = {}  # one network per worker process, not one per shard


def foreground_identity(config: configs.Foreground) -> dict[str, Any]:
    """Returns what decides where the foreground is found: the settings, and of the network its weights' checksum instead of their path.

    Raises UserError where the weights are not there.
    """
    settings = {key: value for key, value in configs.to_dict(config).items() if key != "weights"}
    if config.method != "network":
        return settings
    if not config.weights.is_file():
        raise UserError("the weights of the foreground network are not there", str(config.weights),
                        fix=f"{FOREGROUND_REMAKE}, correct foreground.weights, or use foreground.method=border")
    return {**settings, "weights": sha256(config.weights)}


def segmenter(config: configs.Foreground, build_network: Callable[[Path], foreground.Predictor] | None) -> Segment | None:
    """Returns what finds the foreground of a picture; None where nothing does, or where masks are given.

    build_network: path of weights -> what foreground.network_mask calls; called once in every process; None: the method is another.
    """
    if config.method == "network":
        key = str(config.weights)
        if key not in _NETWORKS:
            assert build_network is not None
            network = _NETWORKS[key] = build_network(config.weights)
            network(np.zeros((1, network.size, network.size, 4), np.float32))  # compiled once, not by several threads at a time
        return partial(foreground.network_mask, predict=_NETWORKS[key])
    return partial(foreground.border_mask, tolerance=config.tolerance) if config.method == "border" else None


def cut_product(product: Product, config: RecordsConfig, segment: Segment | None) -> features.Cut:
    """Returns the patches of a product's picture. Raises UserError where the picture or its mask cannot be used."""
    image = product.load_image()
    if config.foreground.method == "masks":
        if product.load_mask is None:
            raise UserError("no mask is given", product.image_id, "a mask picture", "map source.columns.mask")
        mask = product.load_mask()
        if mask.shape != image.shape[:2]:
            raise UserError(f"the mask is {mask.shape[1]} x {mask.shape[0]}", product.image_id,
                            f"the picture's size, {image.shape[1]} x {image.shape[0]}")
        segment = lambda _: mask  # noqa: E731
    square = kaleido.turned_levels(config.levels) if config.encoder.turned == "square" else ()
    return features.cut(image, foreground.find(image, segment, config.foreground.margin), config.levels, config.encoder.size,
                        config.encoder.small_size, square)


def cut_ahead(products: Sequence[Product], config: RecordsConfig, segment: Segment | None) -> Iterator[features.Cut | UserError]:
    """Yields each product's patches in order, or the reason it was skipped; config.threads threads cut while others are encoded.

    At most config.encoder.batch_size pictures, or one per thread where those are more, are cut ahead. Raises
    other errors.
    """
    def attempt(product: Product) -> features.Cut | UserError:
        try:
            return cut_product(product, config, segment)
        except UserError as error:
            return error

    waiting: deque[Future] = deque()
    with ThreadPoolExecutor(max(1, config.threads), "cut") as pool:
        try:
            for product in products:
                waiting.append(pool.submit(attempt, product))
                if len(waiting) > max(config.encoder.batch_size, config.threads):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


# --- Features as float16 or as bytes with a scale for each vector, and a copy of a bank that holds them otherwise


COPY_MARK = "copy.json"  # in a copy: of which bank
COPY_FIX = "wait until it has ended, or choose another target"


def stored_as(features: np.ndarray, storage: str) -> Stored:
    """Returns f16[n, V, F] as a shard holds them; raises UserError where bytes cannot."""
    return quantise(features) if storage == "uint8" else (features, None)


def write_stored(path: Path, features: np.ndarray, scales: np.ndarray | None) -> None:
    """Writes a shard to features-*.npy, last of its files."""
    if scales is not None:
        write_array(states.scales_path(path), scales)
    write_array(path, features)


def read_stored(path: Path, storage: str) -> Stored:
    """Returns what a shard holds, as memory maps. Raises UserError where a file is damaged."""
    try:
        features = np.load(path, mmap_mode="r", allow_pickle=False)
        return features, np.load(states.scales_path(path), mmap_mode="r", allow_pickle=False) if storage == "uint8" else None
    except (OSError, ValueError) as error:
        raise UserError(f"a shard of the bank is damaged ({error})", str(path), fix="delete the folder and run the same command again"
                        ) from None


def storage_entries(storage: str, shards: Sequence[str]) -> dict[str, Any]:
    """Returns what index.json says of it; nothing of float16, as ever."""
    return {} if storage == "float16" else {"storage": storage, "scales": [states.scales_path(Path(name)).name for name in shards]}


def check_copy(bank: Bank, target: Path, storage: str) -> dict[str, str]:
    """Returns the mark of this copy; raises UserError where the bank is held so already, or the folder holds something else."""
    if bank.storage == storage:
        raise UserError(f"the bank holds {storage} already", str(bank.folder), "another storage")
    mark = {"source_index_sha256": sha256(bank.folder / "index.json"), "storage": storage}
    if target.exists() and not target.is_dir():
        raise UserError("this is a file", str(target), "a folder", "choose another target")
    begun = (target / COPY_MARK).is_file() and io.read_json(target / COPY_MARK) == mark
    if not begun and io.contents(target):
        raise UserError("the folder is not empty and holds no copy of this bank", str(target), fix="choose another target, or delete it")
    io.check_unlocked(target, COPY_FIX)
    io.check_folder(target, "choose another target")
    made = [name for name in bank.index["shards"] if not (target / name).is_file()]
    values = kaleido.num_vectors(bank.levels) * sum(end - first for first, end in map(bank.shard, map(bank.index["shards"].index, made)))
    io.check_room(target, values * (bank.feature_size * 2 if storage == "float16" else bank.feature_size + 4), "the features")
    return mark


def copy_bank(bank: Bank, target: Path, storage: str) -> Iterator[int]:
    """Copies a bank, an alignment too, into ``target`` with its features held as ``storage``; yields rows done, shard by shard.

    An interrupted copy continues where it stopped; index.json comes last. Raises UserError as ``check_copy`` and ``stored_as``, and
    where the source's table or its alignment is not what its index says.
    """
    mark = check_copy(bank, target, storage)
    with io.locked(target, fix=COPY_FIX):
        io.write_json(target / COPY_MARK, mark)
        io.clear(target)
        yield from _copy_shards(bank, target, storage)


def _copy_shards(bank: Bank, target: Path, storage: str) -> Iterator[int]:
    for number, name in enumerate(bank.index["shards"]):
        first, end = bank.shard(number)
        if not (target / name).is_file():
            rows, vectors = np.arange(first, end), np.arange(kaleido.num_vectors(bank.levels))
            floats = bank.features(rows, np.broadcast_to(vectors, (len(rows), len(vectors))))
            write_stored(target / name, *stored_as(floats, storage))
        yield end - first
    made = {*bank.index["shards"], *bank.index.get("scales", ())}
    kept = [name for name in bank.index["files"] if name not in made]
    aligned = alignment.info(bank)
    for name in (*kept, *((*aligned["files"], alignment.INFO) if aligned else ())):
        with open(bank.folder / name, "rb") as source, io.atomic(target / name) as copy:
            shutil.copyfileobj(source, copy)
    new = storage_entries(storage, bank.index["shards"])
    names = [*bank.index["shards"], *new.get("scales", ()), *kept]
    old = {key: value for key, value in bank.index.items() if key not in ("storage", "scales")}
    io.write_json(target / "index.json", {**old, **new, "files": checksums(target, names)})
