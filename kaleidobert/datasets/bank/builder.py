"""Making a bank: shard by shard, over several processes, to be interrupted and continued at any moment; and copying one.

A shard is written when all its pictures are encoded, its notes (boxes, faults, and which pictures these were) last; a shard with
notes is made again only where a picture has changed since. The index is written when every shard has its notes.

    bank/work.json            {"format", "fingerprint"}: of which bank the shards are
         shards/00000.json    the notes: {"kept", "skipped", "pictures"}; pictures: of every product of the shard its files as
                              {"path", "stamp", "sha256"}, the picture's and, where masks give the foreground, the mask's
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
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import zip_longest
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import numpy as np

from kaleidobert import configs, io
from kaleidobert import levels as kaleido
from kaleidobert.configs import RecordsConfig
from kaleidobert.configs.data import FOREGROUND_REMAKE
from kaleidobert.datasets import addresses
from kaleidobert.datasets.bank import alignment
from kaleidobert.datasets.bank.bank import FORMAT, Bank, checksums, write_array
from kaleidobert.datasets.products import Product, digest, stamp, tabulate_classes
from kaleidobert.errors import UserError
from kaleidobert.io import sha256
from kaleidobert.preprocessors import encoders, features, foreground, tokenization
from kaleidobert.preprocessors.features import quantise

_ENCODERS: dict[str, Any] = {}  # one network per worker process, not one per shard
TRAIN = "train"  # the split on which the vocabulary is trained
WORK = 3  # format of work.json and of the notes
FIX = "wait until it has ended, or choose another folder with bank=..."
READERS = 16  # threads that look at pictures: on a network disk each waits for its answer


@dataclass(frozen=True)
class Changes:
    """How the pictures of a catalogue differ from those that the shards were made of.

    number: of pictures; first: the id of one of them; shards: numbers of those that have to be made again; notes: of the shards whose
    pictures have the same content under another path or stamp.
    """

    number: int
    first: str
    shards: tuple[int, ...]
    notes: Mapping[int, dict[str, Any]]

    def describe(self, dry: bool) -> str:
        """Returns a line to print; dry: of a run that makes nothing."""
        counts = {"picture": self.number, "shard": len(self.shards)}
        pictures, shards = (f"{count:,} {name}{'s' * (count != 1)}" for name, count in counts.items())
        follows = "would be" if dry else "is" if len(self.shards) == 1 else "are"
        return f"{pictures} changed (the first: {self.first}): {shards} {follows} made again"


def fingerprint(config: RecordsConfig, products: Sequence[Product]) -> str:
    """Returns what decides the content of the shards and of the table beside the pictures: products, foreground, encoder, levels; not
    paths, workers or text settings. The pictures' contents are in the notes of the shards (``compare``)."""
    encoder = {"name": encoder_name(config.encoder), "weights": encoders.weights_identity(config.encoder)}
    settings = {"foreground": foreground_identity(config.foreground), "encoder": encoder, "shard_size": config.shard_size,
                "levels": configs.to_dict(config.levels), **storage_entries(config.storage, ()),
                "products": [[p.image_id, p.product_id, p.group, p.view, p.split, p.text, dict(p.labels),
                              [[part.word, *part.box] for part in p.parts]] for p in products]}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


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
    mark = check_folder(config, products)
    io.check_unlocked(config.bank, FIX)
    io.check_folder(config.bank, "choose another folder with bank=...")
    return mark


def check_folder(config: RecordsConfig, products: Sequence[Product]) -> str:
    """Returns the fingerprint; raises UserError where the folder holds anything but the begun bank that has it."""
    mark = fingerprint(config, products)
    _check_work(config.bank, mark)
    return mark


def _check_work(folder: Path, mark: str) -> None:
    path = folder / "work.json"
    if path.is_file():
        work = io.read_json(path)
        if work.get("format") != WORK:
            raise UserError(f"an earlier version made this bank, with notes of format {work.get('format', 1)}", str(folder),
                            f"format {WORK}", "delete it and make it again; bank=... chooses another folder")
        if work["fingerprint"] != mark:
            raise UserError("the folder holds another bank (other products, encoder, levels or foreground)", str(folder),
                            fix="choose another folder with bank=..., or delete this one")
    elif folder.exists() and not folder.is_dir():
        raise UserError("this is a file", str(folder), "a folder", "choose another folder with bank=...")
    elif io.contents(folder):
        raise UserError("the folder is not empty and holds no bank", str(folder), fix="choose another folder with bank=...")


def claim(config: RecordsConfig, products: Sequence[Product]) -> str:
    """Checks and locks the folder for the length of the io.lock_scope, removes what a killed run left half written, and writes the
    fingerprint, which is returned, into the folder."""
    mark = check(config, products)
    lock = io.lock(config.bank, fix=FIX)  # noqa: F841  outside of a scope it goes with this name
    _check_work(config.bank, mark)  # of another process, which has ended meanwhile
    for folder in (config.bank, config.bank / "shards"):
        io.clear(folder)
    if not (config.bank / "work.json").is_file():
        io.write_json(config.bank / "work.json", {"format": WORK, "fingerprint": mark})
    return mark


def compare(config: RecordsConfig, products: Sequence[Product]) -> Changes:
    """Returns how the pictures differ from those that the shards that are there were made of: only files whose path or stamp is another are
    read. Writes nothing. Raises UserError where pictures are not there any more: what was made of them would be lost."""
    changed: list[Product] = []
    gone: list[Product] = []
    shards: list[int] = []
    noted: dict[int, dict[str, Any]] = {}
    with ThreadPoolExecutor(READERS) as pool:
        for number, chunk in portions(config, products):
            if not is_noted(config.bank, number):
                continue
            notes = io.read_json(_notes_path(config.bank, number))
            before, kept = notes["pictures"], {row["image_id"] for row in notes["kept"]}
            now = list(pool.map(partial(_files, config), chunk, before))
            lost, others = [], []
            for product, old, new in zip(chunk, before, now):
                pairs = [(one["sha256"], other["sha256"]) for one, other in zip(old, new, strict=True)]
                if product.image_id in kept and not all(other for _, other in pairs):
                    lost.append(product)
                elif any(one != other for one, other in pairs):
                    others.append(product)
            gone, changed, shards = gone + lost, changed + others, shards + [number] * bool(others)
            if now != before and not others:
                noted[number] = {**notes, "pictures": now}
    if gone:
        raise UserError(f"{len(gone):,} of the pictures that the bank was made of cannot be read any more (the first: {gone[0].image_id})",
                        addresses.shown(gone[0].image_path), "the files that were there",
                        "put them back, correct source.images or source.columns, or "
                        "choose another folder with bank=...")
    return Changes(len(changed), changed[0].image_id if changed else "", tuple(shards), noted)


def refresh(config: RecordsConfig, result: Changes) -> None:
    """Drops the shards of which a picture has changed, and notes pictures with the same content under another path or stamp."""
    if result.shards:
        with io.explained(config.bank):  # a bank whose shards are of two states must not open
            (config.bank / "index.json").unlink(missing_ok=True)
            for number in result.shards:
                _notes_path(config.bank, number).unlink()
    for number, notes in result.notes.items():
        io.write_json(_notes_path(config.bank, number), notes)


def _files(config: RecordsConfig, product: Product, before: Sequence[dict[str, Any]] = ()) -> list[dict[str, Any]]:
    """Returns {"path", "stamp", "sha256"} of every file that decides about a product's patches; sha256 is taken from ``before`` where path
    and stamp are as there. A file that is replaced while it is read gets the older stamp: it counts as changed the next time."""
    result = []
    for path, old in zip_longest([product.image_path] + [product.mask_path] * (config.foreground.method == "masks"), before):
        now = {"path": path, "stamp": stamp(path)}
        known = old is not None and all(old[name] == value for name, value in now.items())
        result.append({**now, "sha256": old["sha256"] if known else digest(path)})
    return result


def room(config: RecordsConfig, products: Sequence[Product], feature_size: int, again: Sequence[int] = ()) -> int:
    """Returns bytes that the bank still needs: of the shards that are not there, of one of those that are made ``again``, and of the rest.
    """
    made = [(number in again, len(chunk)) for number, chunk in portions(config, products)
            if number in again or not is_done(config.bank, number)]
    rows = sum(size for once_more, size in made if not once_more) + max((size for once_more, size in made if once_more), default=0)
    vectors, patches = kaleido.num_vectors(config.levels), kaleido.num_patches(config.levels)
    values = {"float16": 2 * feature_size, "uint8": feature_size + 4}[config.storage]
    return rows * vectors * values + len(products) * (patches * 5 * 4 + config.text.length * 6)


def portions(config: RecordsConfig, products: Sequence[Product]) -> Iterator[tuple[int, Sequence[Product]]]:
    """Yields (number, products) of every shard."""
    for number, start in enumerate(range(0, len(products), config.shard_size)):
        yield number, products[start : start + config.shard_size]


def build_shards(config: RecordsConfig, products: Sequence[Product], build_encoder: Any, build_network: Any = None) -> Iterator[int]:
    """Makes the shards that are not there yet; yields the number of pictures done, shard by shard.

    build_encoder: picklable, encoder configuration -> object with ``encode`` and ``batch``, as features.encode takes them;
    build_network: picklable, path of weights -> what foreground.network_mask calls, for foreground.method network; both are called
    once in every process.
    """
    todo = []
    for number, chunk in portions(config, products):
        if is_done(config.bank, number):
            yield len(chunk)
        else:
            todo.append((number, chunk))
    cores, devices = os.cpu_count() or 1, gpus() if todo else []
    usual = len(devices) if devices and encoders.ENCODERS[config.encoder.name].architecture else cores
    workers = max(1, min(config.workers or usual, len(todo)))
    config = replace(config, threads=config.threads or max(1, cores // workers))
    if workers == 1:
        for number, chunk in todo:
            yield build_shard(config, number, chunk, build_encoder, build_network)
        return
    context = get_context("spawn")  # a process forked after TensorFlow started its threads hangs
    waiting = context.SimpleQueue()
    for environment in environments(workers, devices, cores):
        waiting.put(environment)
    with ProcessPoolExecutor(workers, context, take_environment, (waiting,)) as pool:
        futures = [pool.submit(build_shard, config, number, chunk, build_encoder, build_network) for number, chunk in todo]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            raise UserError("a worker process died, most often for lack of memory", str(config.bank),
                            fix="run the same command again (finished shards are kept), with fewer workers=...") from None
        finally:
            pool.shutdown(cancel_futures=True)


def build_shard(config: RecordsConfig, number: int, products: Sequence[Product], build_encoder: Any, build_network: Any = None) -> int:
    """Encodes the pictures of one shard and writes its features and notes; returns the number of its pictures."""
    encoder, segment = make_encoder(config.encoder, build_encoder), segmenter(config.foreground, build_network)
    rows: list[tuple[Product, dict[str, Any]]] = []
    reasons: dict[str, str] = {}
    pictures: dict[str, list[dict[str, Any]]] = {}
    looked_at = [replace(product, load_image=partial(_load, config, product, pictures)) for product in products]

    def good() -> Iterator[features.Cut]:
        for product, cut in zip(products, cut_ahead(looked_at, config, segment)):
            if isinstance(cut, UserError):
                reasons[product.image_id] = str(cut)
            else:
                rows.append((product, {"box": list(cut.box), "fallback": cut.fallback, "boxes": cut.boxes.tolist()}))
                yield cut

    vectors, faults = features.encode(good(), encoder.encode, encoder.batch)
    reasons.update((product.image_id, fault) for (product, _), fault in zip(rows, faults) if fault)
    if not all(faults):
        good_ones = vectors[[not fault for fault in faults]] if any(faults) else vectors
        save_features(_features_path(config.bank, number), good_ones, config.storage)
    kept = [{"image_id": product.image_id, **result} for (product, result), fault in zip(rows, faults) if not fault]
    notes = [{"image_id": p.image_id, "where": addresses.shown(p.image_path), "reason": reasons[p.image_id]}
             for p in products if p.image_id in reasons]
    io.write_json(_notes_path(config.bank, number), {"kept": kept, "skipped": notes,
                                                        "pictures": [pictures[product.image_id] for product in products]})
    return len(products)


def make_encoder(config: configs.Encoder, build_encoder: Any) -> Any:
    """Returns the encoder of a configuration; ``build_encoder`` is called once in every process."""
    key = str(config)
    if key not in _ENCODERS:
        _ENCODERS[key] = build_encoder(config)
    return _ENCODERS[key]


def _load(config: RecordsConfig, product: Product, pictures: dict[str, list[dict[str, Any]]]) -> np.ndarray:
    """Returns a product's picture, its files noted before it is read."""
    pictures[product.image_id] = _files(config, product)
    return product.load_image()


def finish(config: RecordsConfig, products: Sequence[Product], skipped: list[dict], mark: str) -> dict[str, Any]:
    """Tokenizes the texts and writes table and index; returns the index. Raises UserError where no picture could be used.

    Shards serve any text settings. The old index goes first: a bank whose tokens are half rewritten must not open.
    """
    size, folder = config.shard_size, config.bank
    with io.explained(folder):
        (folder / "index.json").unlink(missing_ok=True)
    numbers = range((len(products) + size - 1) // size)
    notes = [io.read_json(_notes_path(folder, number)) for number in numbers]
    of = {product.image_id: product for product in products}
    rows = [{**_row(of[row["image_id"]]), **row} for note in notes for row in note["kept"]]
    faults = [_moved(row, of[row["image_id"]]) for note in notes for row in note["skipped"]]
    skipped = skipped + faults
    io.write_text(folder / "skipped.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in skipped))
    if not rows:
        raise UserError(f"none of {len(products)} pictures could be used (the first: {faults[0]['reason']})",
                        str(folder / "skipped.jsonl"), fix="correct the files or source.images and run the same command again")
    boxes = np.array([row.pop("boxes") for row in rows], np.float32)
    tokenizer = _tokenizer(config, rows)
    ids, words = tokenizer.split([row["text"] for row in rows])
    token_ids, token_words = tokenization.pack(ids, words, tokenizer.vocabulary, config.text.length)
    for name, array in (("boxes", boxes), ("token_ids", token_ids), ("token_words", token_words)):
        write_array(folder / f"{name}.npy", array)
    io.write_text(folder / "table.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    shards = [_features_path(folder, number).name for number in numbers if notes[number]["kept"]]
    feature_size = int(np.load(folder / shards[0], mmap_mode="r").shape[-1])
    text_file = tokenizer.save(folder).name
    labels = list(config.source.columns.labels)
    held = storage_entries(config.storage, shards)
    names = [*shards, *held.get("scales", ()), "boxes.npy", "token_ids.npy", "token_words.npy", "table.jsonl", "skipped.jsonl", text_file]
    index = {
        "format": FORMAT, "size": len(rows), "skipped": len(skipped), "levels": configs.to_dict(config.levels),
        "patches": kaleido.num_patches(config.levels), "vectors": kaleido.num_vectors(config.levels),
        "encoder": {"name": encoder_name(config.encoder), "weights": encoders.weights_identity(config.encoder),
                    "feature_size": feature_size, "turned": config.encoder.turned},
        "text": {"length": config.text.length, "file": text_file, "vocabulary": asdict(tokenizer.vocabulary),
                 **tokenization.truncation(words, config.text.length)},
        "config": configs.to_dict(config),
        "pictures": _digest(config, products, notes), "labels": labels,
        "classes": tabulate_classes(((row["split"], row["labels"]) for row in rows), labels), "fingerprint": mark,
        "source": str(config.source.table), "shards": shards, **held,
        "files": checksums(folder, names),
    }
    io.write_json(folder / "index.json", index)
    return index


def is_noted(folder: Path, number: int) -> bool:
    """Whether a shard was made, even if nothing of it could be used."""
    return _notes_path(folder, number).is_file()


def is_done(folder: Path, number: int) -> bool:
    """Whether a shard need not be made; one of which nothing could be used is tried again: its pictures may be in place by now."""
    return is_noted(folder, number) and _features_path(folder, number).is_file()


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


def _moved(row: dict[str, str], product: Product) -> dict[str, str]:
    """Returns a skipped row with the present path of its picture."""
    where = addresses.shown(product.image_path)
    return {**row, "where": where, "reason": row["reason"].replace(row["where"] or where, where)}


def _digest(config: RecordsConfig, products: Sequence[Product], notes: Sequence[dict[str, Any]]) -> str:
    """Returns the SHA-256 of the contents of the pictures and masks that a bank was made of."""
    result = []
    for (_, chunk), note in zip(portions(config, products), notes):
        kept = {row["image_id"] for row in note["kept"]}
        result += [[product.image_id, *(one["sha256"] for one in entry)] for product, entry in zip(chunk, note["pictures"])
                  if product.image_id in kept]
    return hashlib.sha256(json.dumps(result).encode()).hexdigest()


def _notes_path(folder: Path, number: int) -> Path:
    return folder / "shards" / f"{number:05d}.json"


def _features_path(folder: Path, number: int) -> Path:
    return folder / f"features-{number:05d}.npy"


# --- Which cores and GPUs the worker processes of this machine get


DEVICES = "CUDA_VISIBLE_DEVICES"
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
    threads = str(max(1, cores // workers))
    cores_each = {"TF_NUM_INTRAOP_THREADS": threads, "TF_NUM_INTEROP_THREADS": "1", "OMP_NUM_THREADS": threads}
    return [cores_each | ({DEVICES: devices[number % len(devices)], **SHARED} if devices else {}) for number in range(workers)]


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


def save_features(path: Path, features: np.ndarray, storage: str) -> None:
    """Writes a shard f16[n, V, F] to features-*.npy, last of its files; raises UserError where bytes cannot hold it."""
    if storage == "uint8":
        features, scales = quantise(features)
        write_array(path.with_name(_scales_name(path.name)), scales)
    write_array(path, features)


def storage_entries(storage: str, shards: Sequence[str]) -> dict[str, Any]:
    """Returns what index.json says of it; nothing of float16, as ever."""
    return {} if storage == "float16" else {"storage": storage, "scales": [_scales_name(name) for name in shards]}


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

    An interrupted copy continues where it stopped; index.json comes last. Raises UserError as ``check_copy`` and ``save_features``, and
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
            save_features(target / name, bank.features(rows, np.broadcast_to(vectors, (len(rows), len(vectors)))), storage)
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


def _scales_name(name: str) -> str:
    return name.replace("features", "scales")
