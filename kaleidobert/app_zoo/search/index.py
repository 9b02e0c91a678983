"""``kaleidobert index``: the vectors of a bank's pictures and texts, which ``kaleidobert search`` compares with a query.

The index follows the bank: vectors of pictures and texts whose content is unchanged are kept under the same checkpoint, and the rest is
made. The result equals, byte for byte, an index that is made from nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from kaleidobert import io
from kaleidobert.app_zoo import lineage
from kaleidobert.app_zoo.search import folder, vectors
from kaleidobert.app_zoo.search.folder import SIDES, Vectors
from kaleidobert.app_zoo.search.vectors import Encoder, LinearEncoder, Model
from kaleidobert.configs.loader import path_as_written
from kaleidobert.configs.search import IndexConfig
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.engines import vector_index
from kaleidobert.errors import UserError
from kaleidobert.io import sha256

SAMPLE = 500  # pictures and texts whose products say how far scores spread


@dataclass(frozen=True)
class Task:
    """What is indexed: rows i64[N] of a bank; digests u8[N, 2, 16]; bank_sha256: of the bank's index.json."""

    config: IndexConfig
    model: Model
    encoder: Encoder
    rows: np.ndarray
    digests: np.ndarray
    bank_sha256: str

    @property
    def identity(self) -> dict[str, Any]:
        """What decides a vector beside its content."""
        return {**self.encoder.identity, "batch": self.config.predict_batch_size}


def dry_run(config: IndexConfig) -> None:
    """Checks bank, checkpoint and folder; prints how many vectors would be kept and made."""
    folder.check_target(config.index)
    task = _open(config)
    before, why = folder.earlier(config.index)
    print(*_lines(task), sep="\n")
    if why:
        print(f"the index that is there is not used: {why}")
    usable = before is not None and before.info["identity"] == task.identity
    known = before.digests if before is not None and usable else task.digests[:0]
    for number, side in enumerate(SIDES):
        kept = np.isin(_numbers(task.digests[:, number]), _numbers(known[:, number])).sum()
        print(f"{side}: {len(task.rows):,}, of which {kept:,} would be kept and {len(task.rows) - kept:,} made")


def run(config: IndexConfig) -> None:
    """Brings the index up to date with bank and checkpoint."""
    folder.check_target(config.index)
    task = _open(config)
    with io.locked(config.index, fix=folder.FIX):
        before, why = folder.earlier(config.index)
        print(*_lines(task), sep="\n")
        if why:
            print(f"the index that was there is not used: {why}")
        vectors_of = Vectors(config.index, task.identity, before)
        encode = vectors.readers(task.model.bank, task.encoder)
        arrays: dict[str, np.ndarray] = {"rows": task.rows, "digests": task.digests}
        for number, side in enumerate(SIDES):
            own = task.digests[:, number]
            made = np.isin(_numbers(own), _numbers(own[vectors_of.missing(side, own)])).sum()
            with tqdm(total=len(vectors_of.missing(side, own)), desc=side, unit="vector", leave=False) as bar:
                for count in vectors_of.make(side, own, task.rows, encode[side], config.predict_batch_size):
                    bar.update(count)
            arrays[side] = vectors_of.take(side, own)
            gone = 0 if before is None else int((~np.isin(_numbers(before.digests[:, number]), _numbers(own))).sum())
            print(f"{side}: {len(own):,}, of which {len(own) - made:,} kept and {made:,} made" + (f"; {gone:,} gone" if gone else ""))
        _write(task, arrays)
    print(f"index: {config.index}\n  try: kaleidobert search {config.index} \"...\"")


def _open(config: IndexConfig) -> Task:
    index = config.data.bank / "index.json"
    digest = sha256(index) if index.is_file() else ""
    bank = Bank(config.data.bank)
    model = vectors.open_model(bank, config.init)
    rows = np.arange(bank.size)
    if config.data.splits:
        rows = np.sort(np.concatenate([bank.rows(split) for split in dict.fromkeys(config.data.splits)]))
    made_by = vectors.encoder(model, config.data.train_split, config.seed)
    digests = np.stack(vectors.digests(model.bank, rows, made_by.reads_words), axis=1)
    if not index.is_file() or sha256(index) != digest:  # what was read may be of either
        raise UserError("the bank was replaced while it was read", str(bank.folder), "a bank that stays as it is",
                        "run `kaleidobert index` again, once the bank is finished")
    return Task(config, model, made_by, rows, digests, digest)


def _lines(task: Task) -> list[str]:
    """Describes what each stage compares, a line each."""
    model, kind = task.model, vector_index.choose(len(task.rows), task.config.kind)
    why = "as set" if task.config.kind != "auto" else f"for {len(task.rows):,}; more than {vector_index.MAX_FLAT:,} are searched as ivf"
    second = "none: no checkpoint is named" if model.matcher is None else f"matching head {model.matcher.head} of {model.checkpoint}"
    return [f"stage one: {task.encoder.name}; kind {kind} ({why})", f"stage two: {second}"]


def _write(task: Task, arrays: Mapping[str, np.ndarray]) -> None:
    config, model = task.config, task.model
    kind = vector_index.choose(len(task.rows), config.kind)
    built = {side: vector_index.build(arrays[side], kind, arrays[other], config.seed) for side, other in zip(SIDES, SIDES[::-1])}
    probes = {side: one.probes for side, one in built.items()}
    if kind == "ivf":
        print("ivf compares " + ", ".join(f"{probes[side]} of {built[side].structure.nlist} lists of {side}" for side in SIDES))
    network: dict[str, Any] = {"checkpoint": None, "sha256": "", "head": None, "trained": None}
    if model.matcher is not None and model.checkpoint is not None:
        network = {"checkpoint": path_as_written(model.checkpoint), "sha256": model.sha256, "head": model.matcher.head,
                   "trained": lineage.model(model.matcher.head, model.checkpoint)["trained"]}
    info = {"bank": {"folder": path_as_written(config.data.bank), "sha256": task.bank_sha256, "splits": list(config.data.splits)},
            "model": {**network, "vectors": task.encoder.name}, "identity": task.identity, "kind": kind, "probes": probes,
            "size": len(task.rows), "width": arrays["pictures"].shape[1], "seed": config.seed, "spread": spread(arrays)}
    more = task.encoder.arrays() if isinstance(task.encoder, LinearEncoder) else {}
    folder.write(config.index, info, {**arrays, **more}, {side: one.content() for side, one in built.items() if one.content()})


def spread(arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Returns the standard deviations of the products of pictures and texts ("pair"), and of the cosines of "pictures" and of "texts":
    where a query has words and a picture, each counts by its own."""
    sample = {side: arrays[side][:: max(1, len(arrays[side]) // SAMPLE)][:SAMPLE].astype(np.float64) for side in SIDES}
    unit = {side: rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12) for side, rows in sample.items()}
    products = {"pair": sample["texts"] @ sample["pictures"].T} | {side: rows @ rows.T for side, rows in unit.items()}
    return {name: float(f"{max(table.std(), 1e-6):.6g}") for name, table in products.items()}


def _numbers(digests: np.ndarray) -> np.ndarray:
    """Returns digests u8[n, 16] as n values that can be compared."""
    return np.ascontiguousarray(digests).view(f"V{vectors.DIGEST}").ravel()
