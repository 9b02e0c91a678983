"""The feature bank: shards as memory maps beside a small table; random rows cost a copy, no decoding.

    bank/index.json            spec, levels, encoder, vocabulary, source, file sizes and checksums
         features-00000.npy    f16[rows, V, F], all views of all patches; uint8 where the index says "storage": "uint8"
         scales-00000.npy      f32[rows, V], only beside uint8: features are these bytes times the scale of their vector
         boxes.npy             f32[N, P, 5]
         token_ids.npy         i32[N, T]      token_words.npy  i16[N, T]
         table.jsonl           ids, text, labels, picture path, foreground box: one line per picture
         skipped.jsonl        what was not taken, with the reason
         alignment.*           added by `kaleidobert align`, see alignment.py
"""

import copy
import json
import mmap
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np

from kaleidobert import io, specs
from kaleidobert import levels as kaleido
from kaleidobert.errors import UserError
from kaleidobert.io import sha256
from kaleidobert.levels import KaleidoLevel
from kaleidobert.preprocessors import features, tokenization

FORMAT = 2
SUBCATEGORY = "subcategory"  # the label that is meant where a configuration names none
REMAKE = "delete the folder and make it again with `kaleidobert records`"


class Bank:
    """An opened bank. Raises UserError where a file is missing, truncated or does not fit the index, and while another process is
    writing it. Reading takes no lock: files are replaced, never changed, so that an opened bank stays as it was.

    levels (those in use: all that the bank was made with, unless ``require`` chose others), made_with (all), square (names of those
    whose patches were cut square), feature_size (F), storage ("float16" or "uint8"), text_length (T), encoder (name), size (N);
    token_ids, token_words, boxes: arrays over all N rows; table: list of N dicts with image_id, product_id, group, view, split,
    image_path, text, labels, box, fallback.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        io.check_unlocked(self.folder, "wait until it has ended")
        if not (self.folder / "index.json").is_file():
            raise UserError("there is no finished bank", str(self.folder), "a folder made by `kaleidobert records`",
                            "set data.bank, or run `kaleidobert records` (again: it continues where it stopped)")
        self.index: dict[str, Any] = io.read_json(self.folder / "index.json")
        if self.index.get("format") != FORMAT:
            raise UserError(f"the bank has format {self.index.get('format')}", str(self.folder), f"format {FORMAT}", REMAKE)
        self.levels = self.made_with = tuple(KaleidoLevel(**row) for row in self.index["levels"])
        self.patches: np.ndarray | None = None  # i64[P], i64[V]: the patches and vectors in use, where those are not all
        self._vectors: np.ndarray | None = None
        self.encoder: str = self.index["encoder"]["name"]
        self.square = kaleido.turned_levels(self.made_with) if self.index["encoder"].get("turned") == "square" else frozenset()
        self.feature_size: int = self.index["encoder"]["feature_size"]
        self.text_length: int = self.index["text"]["length"]
        self.vocabulary = tokenization.Vocabulary(**{**self.index["text"]["vocabulary"],
                                                     "ordinary": tuple(self.index["text"]["vocabulary"]["ordinary"])})
        self.size: int = self.index["size"]
        self._check_sizes()
        self.token_ids = self._array("token_ids.npy")
        self.token_words = self._array("token_words.npy")
        self.boxes = self._stored_boxes = self._array("boxes.npy")
        self.storage: str = self.index.get("storage", "float16")
        self._features = Shards([self._mapped(name) for name in self.index["shards"]], random=True)
        self._scales = Shards([self._mapped(name) for name in self.index.get("scales", ())], random=False)
        row = {"token_ids": self.token_ids[0], "token_words": self.token_words[0], "boxes": self.boxes[0],
               "vectors": self._features.arrays[0][0]} | {f"vectors{specs.SCALE}": scales[0] for scales in self._scales.arrays[:1]}
        specs.check(row, specs.record(self.levels, self.text_length, self.feature_size, self.storage), str(self.folder))

    @cached_property
    def table(self) -> list[dict[str, Any]]:
        """One dict per row."""
        with open(self.folder / "table.jsonl", encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    def shard(self, number: int) -> tuple[int, int]:
        """Returns the first row of a shard, and the one behind its last."""
        return int(self._features.starts[number]), int(self._features.starts[number + 1])

    def rows(self, split: str) -> np.ndarray:
        """Returns i64[n]: the rows of a split; raises UserError where it has none."""
        rows = np.flatnonzero([row["split"] == split for row in self.table])
        if not len(rows):
            known = sorted({row["split"] for row in self.table})
            raise UserError(f"the split {split!r} is empty", str(self.folder), f"one of {known}", "set data.train_split or "
                            "data.val_split, or give the catalogue a split column")
        return rows

    def column(self, name: str) -> np.ndarray:
        """Returns str[N]: a label column or one of the ids; raises UserError that names the labels that exist."""
        if name == "text":  # as objects: an array of fixed width would be as wide as the longest text
            return np.array([row[name] for row in self.table], object)
        if name in ("image_id", "product_id", "group", "view", "split"):
            return np.array([row[name] for row in self.table])
        if name not in self.index["labels"]:
            raise UserError(f"the bank has no label {name!r}", str(self.folder), f"one of {self.index['labels']}",
                            "map the column under source.columns.labels and make the bank again")
        return np.array([row["labels"][name] for row in self.table])

    def subcategories(self, name: str) -> np.ndarray:
        """Returns str[N], the label that is the subcategory; all "" where the bank has none (``lack_of_subcategories``)."""
        return np.full(len(self.table), "") if self.lack_of_subcategories(name) else self.column(name)

    def lack_of_subcategories(self, name: str) -> str:
        """Returns a line to print where the bank has no labels, or none of the name that is meant where none is set; "" otherwise."""
        labels = self.index["labels"]
        if name in labels or labels and name != SUBCATEGORY:
            return ""
        named = f"; its labels are {', '.join(labels)}" if labels else ""
        return f"the bank has no label {name!r}{named}: negatives come from the whole split"

    def tokenizer(self) -> tokenization.Tokenizer:
        """Returns the tokenizer that made token_ids."""
        path = self.folder / self.index["text"]["file"]
        return tokenization.SentencePiece(path) if path.suffix == ".model" else tokenization.WordPiece.read(path)

    def gather(self, rows: np.ndarray, vectors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns {name: f16[B, K, F]} for {name: i64[B, K]}: the vectors of rows i64[B]; of a bank stored as uint8, that and
        {name + "_scale": f32[B, K]}. IndexError where a number is out of range. Threads may call it at the same time."""
        if self._vectors is not None:
            vectors = {name: self._stored(numbers) for name, numbers in vectors.items()}
        taken = self._features.take(rows, vectors)
        if self._scales.arrays:
            taken |= self._scales.take(rows, {name + specs.SCALE: numbers for name, numbers in vectors.items()})
        return taken

    def _stored(self, numbers: np.ndarray) -> np.ndarray:
        """Returns the numbers in the files of vectors in use."""
        assert self._vectors is not None  # else numbers are those of the files already
        if numbers.size and numbers.min() < 0:  # numpy would count from the end
            raise IndexError(f"{numbers.min()} of {len(self._vectors)}")
        return self._vectors[numbers]

    def features(self, rows: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        """Returns f16[B, K, F]: as ``gather``, however the bank is stored."""
        return features.to_floats(self.gather(rows, {"features": vectors}))["features"]

    @property
    def identity(self) -> dict[str, str]:
        """What a model trained on this bank depends on beyond sizes: written into checkpoints, compared when one is loaded."""
        vocabulary = self.index["files"][self.index["text"]["file"]]
        return {"encoder": self.encoder, "encoder_weights": self.index["encoder"]["weights"],
                "vocabulary_sha256": vocabulary["sha256"]}

    @property
    def pictures(self) -> dict[str, str]:
        """{"pictures": SHA-256 of all pictures that the bank was made of}; empty of a bank that does not know them."""
        return {"pictures": self.index["pictures"]} if "pictures" in self.index else {}

    def require(self, levels: tuple[KaleidoLevel, ...], encoder: str) -> "Bank":
        """Returns the bank as these levels see it: itself, or one on the same files that shows their patches, boxes and links only.

        levels: those that the bank was made with, or some of them in the same order, each with its pretext or with none.
        Raises UserError for others, and where the bank was made with another encoder than a run asks for.
        """
        positions = kaleido.subset(self.made_with, kaleido.check(levels))
        if positions is None:
            raise UserError(f"the bank was made with levels {_show(self.made_with)}", str(self.folder), _show(levels),
                            "set the same levels, or some of them in the same order, each with its pretext or with none; or make a bank "
                            "with these")
        if encoder and encoder != self.encoder:
            raise UserError(f"the bank was made with the encoder {self.encoder!r}", str(self.folder), repr(encoder),
                            "set data.encoder to it, or make a bank with the other one")
        if [_key(level) for level in levels] == [_key(level) for level in self.levels]:
            return self
        shown = copy.copy(self)
        patches, vectors = kaleido.patch_slices(self.made_with), kaleido.vector_slices(self.made_with)
        names = [self.made_with[position].name for position in positions]
        shown.levels = tuple(levels)
        shown.patches = np.concatenate([np.arange(patches[name].start, patches[name].stop) for name in names])
        shown._vectors = np.concatenate([vectors[level.name].start + np.arange(level.num_patches * level.num_views) for level in levels])
        shown.boxes = self._stored_boxes[:, shown.patches]
        return shown

    def verify(self) -> None:
        """Reads every file and compares its SHA-256; raises UserError that names the first that differs."""
        for name, entry in self.index["files"].items():
            if sha256(self.folder / name) != entry["sha256"]:
                raise UserError("the content does not fit the checksum in index.json", str(self.folder / name), fix=REMAKE)

    def _check_sizes(self) -> None:
        for name, entry in self.index["files"].items():
            path = self.folder / name
            size = path.stat().st_size if path.is_file() else None
            if size != entry["bytes"]:
                result = "is missing" if size is None else f"has {size:,} bytes"
                raise UserError(f"{result}", str(path), f"{entry['bytes']:,} bytes", REMAKE)

    def _array(self, name: str) -> np.ndarray:
        return self._load(name)

    def _mapped(self, name: str) -> np.memmap:
        return self._load(name, "r")

    def _load(self, name: str, mode: Literal["r"] | None = None) -> Any:
        try:
            return np.load(self.folder / name, mmap_mode=mode, allow_pickle=False)
        except OSError as error:
            raise UserError(f"cannot be opened ({error.strerror})", str(self.folder / name),
                            fix="raise the limit of open files (ulimit -n), or make the bank with a larger shard_size") from None
        except ValueError as error:
            raise UserError(f"not a numpy array ({error})", str(self.folder / name), fix=REMAKE) from None


def checksums(folder: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Returns {name: {"bytes", "sha256"}} of files in a folder."""
    return {name: {"bytes": (folder / name).stat().st_size, "sha256": sha256(folder / name)} for name in names}


def write_array(path: Path, array: np.ndarray) -> None:
    """Writes an array atomically as .npy. Raises UserError where the disk is full."""
    with io.atomic(path) as file:
        # only its write method: into a real file numpy writes past Python, and a full disk is an error without a number
        np.save(SimpleNamespace(write=file.write), array)


def describe(bank: Bank) -> Mapping[str, Any]:
    """Returns sizes for people and for results.json."""
    splits: dict[str, int] = {}
    for row in bank.table:
        splits[row["split"]] = splits.get(row["split"], 0) + 1
    return {"folder": str(bank.folder), "pictures": bank.size, "splits": splits, "encoder": bank.encoder,
            "feature_size": bank.feature_size, "storage": bank.storage, "patches": kaleido.num_patches(bank.levels),
            "text_length": bank.text_length, "vocabulary": bank.vocabulary.size, "labels": bank.index["labels"],
            "sha256": sha256(bank.folder / "index.json")}


def _key(level: KaleidoLevel) -> tuple[str, int, str]:
    """Returns what a bank depends on."""
    return level.name, level.grid, level.pretext


def _show(levels: Sequence[KaleidoLevel]) -> str:
    return ", ".join(f"{level.name} {level.grid}x{level.grid} {level.pretext}" for level in levels)


# --- Vectors out of shards on disk, opened as memory maps: each is copied once, to where it stays


Places = list[tuple[int, int]]  # (shard, row in it)


class Shards:
    """Arrays [n, V, ...] of one shape but for n, one after another; row r is the r-th of all.

    random: rows are taken here and there. The kernel is then advised not to read what lies around them, which costs most of the
    bandwidth of cold storage, but all pictures of a call at once, before the first is copied.
    """

    def __init__(self, maps: Sequence[np.memmap], random: bool):
        # as plain arrays: indexing one of numpy's memmap class takes several times as long
        self.arrays = [np.asarray(one) for one in maps]
        self.starts = np.cumsum([0] + [len(one) for one in maps])
        advised = maps if random and hasattr(mmap, "MADV_WILLNEED") else []
        self._files: list[tuple[mmap.mmap, int]] = []
        for one in advised:
            assert isinstance(one.base, mmap.mmap)
            one.base.madvise(mmap.MADV_RANDOM)
            self._files.append((one.base, one.offset))

    def take(self, rows: np.ndarray, vectors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns {name: [B, K, ...]} for {name: i64[B, K]}: the vectors of rows i64[B]. IndexError where a number is out of range.

        A picture's vectors lie together: each picture is visited once.
        """
        for numbers, limit in ((rows, self.starts[-1]), *((numbers, self.arrays[0].shape[1]) for numbers in vectors.values())):
            if numbers.size and not 0 <= numbers.min() <= numbers.max() < limit:
                raise IndexError(f"{numbers.min()} to {numbers.max()} of {limit}")
        shard = np.searchsorted(self.starts, rows, "right") - 1
        positions = list(zip(shard.tolist(), (rows - self.starts[shard]).tolist()))
        if self._files:
            self._announce(positions, [numbers for numbers in vectors.values() if numbers.size])
        shape, dtype = self.arrays[0].shape[2:], self.arrays[0].dtype
        taken = {name: np.empty((*numbers.shape, *shape), dtype) for name, numbers in vectors.items()}
        for (number, row), *wanted in zip(positions, *(zip(numbers, taken[name]) for name, numbers in vectors.items())):
            picture = self.arrays[number][row]
            for numbers, target in wanted:
                # "clip": in the mode "raise" numpy fills a buffer first; the numbers were checked
                picture.take(numbers, 0, target, "clip")
        return taken

    def _announce(self, positions: Places, vectors: Sequence[np.ndarray]) -> None:
        """Asks the kernel for what lies between the first and the last vector of each picture; what is in memory costs nothing."""
        if not vectors:
            return
        first = np.min([numbers.min(1) for numbers in vectors], 0).tolist()
        last = np.max([numbers.max(1) for numbers in vectors], 0).tolist()
        step, row_step = self.arrays[0].strides[1], self.arrays[0].strides[0]
        for (number, row), low, high in zip(positions, first, last):
            file, offset = self._files[number]
            begin = offset + row * row_step + low * step
            aligned = begin - begin % mmap.PAGESIZE
            file.madvise(mmap.MADV_WILLNEED, aligned, begin - aligned + (high - low + 1) * step)
