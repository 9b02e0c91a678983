"""``kaleidobert align``: the Attention-based Alignment Generator (paper, section 3.2): a captioner trained on the bank's own
texts has an attention map for every word; words of the text are linked to the patches there, and the links go into the bank.

    run/word_grounding/               the word grounder's run folder: where single words look (captioner.grounding)
        captioner/            the captioner's run folder; both are kept when mode, decoding or regions change
        generated/, teacher_forced/   per mode: config.yaml, part-*.npz (the unit of work and of resuming), results.json, captions.csv,
                              maps.npy f16[N, W, G, G], words.jsonl {image_id, words, has_map, frame}, parts.png where the
                              catalogue knows where the described parts are
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from tqdm import tqdm

from kaleidobert import configs, io
from kaleidobert.app_zoo import lineage
from kaleidobert.app_zoo.align import networks, report
from kaleidobert.app_zoo.align import task as tasks
from kaleidobert.app_zoo.align.networks import Captioner
from kaleidobert.app_zoo.align.task import Task, captioner_folder, captioner_settings
from kaleidobert.configs import AlignConfig
from kaleidobert.datasets import grid_features
from kaleidobert.datasets.bank import alignment as alignments
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.engines.run_folder import FIX, check_folder
from kaleidobert.errors import UserError
from kaleidobert.evaluators.report.results import head_name
from kaleidobert.io import sha256
from kaleidobert.preprocessors import alignment_generator
from kaleidobert.preprocessors.tokenization import join_pieces, words_of_text

CHUNK = 256  # pictures per chunk, part-*.npz


def dry_run(config: AlignConfig) -> None:
    """Checks bank and folder, prints sizes."""
    task = open_task(config)
    rows = task.rows
    print(f"{len(rows.train):,} texts to learn from, {len(rows.held):,} held out, {len(rows.val):,} to evaluate, "
          f"{task.vocabulary.size:,} word pieces; grids of {task.cells} x {task.cells} cells of {task.feature_size} "
          f"features ({config.grid.network}); {task.bank.size:,} pictures to align, mode {config.mode}")
    print(*tasks.rates(task), sep="\n")


def run(config: AlignConfig) -> None:
    """Trains the captioner, or loads it; captions and aligns every picture; stores the links in the bank; writes results."""
    task = open_task(config)
    tasks.rates(task)  # refuses a warm-up that is too long before a folder is made
    with io.locked(config.run, fix=FIX):  # of all modes: they share the captioner
        grids, grounder = tasks.extract_grid_features(task), None
        if task.targets:
            grounder = networks.train_grounder(task, grids)
            if grounder.encoder is not None:  # trained along; the captioner sees its cells from then on
                grids = networks.extract_cells(task, grounder)
        captioner = networks.train_captioner(task, grids, grounder)
        notes = align_pictures(captioner)
        links = store_links(task, notes)
        write_results(captioner, notes, links)
        _clean(task)


def align_pictures(captioner: Captioner) -> list[dict]:
    """Captions and aligns every picture, in chunks that an interrupted run keeps; returns the notes of each picture."""
    task = captioner.task
    folder = _mode_folder(task)
    _claim(task)
    with tqdm(total=task.bank.size, unit="picture", desc=f"align ({task.config.mode})") as bar:
        for count in _make_chunks(captioner, folder):
            bar.update(count)
    return [note for chunk in range(_num_chunks(task.bank)) for note in io.read_json(_notes(folder, chunk))]


def store_links(task: Task, notes: list[dict]) -> dict[str, Any]:
    """Writes the links of all pictures into the bank; returns its alignment.json."""
    config, bank, folder = task.config, task.bank, _mode_folder(task)
    blocks = (np.load(_arrays(folder, chunk))["strengths"] for chunk in range(_num_chunks(bank)))
    settings = {name: configs.to_dict(getattr(config, name)) for name in ("decoding", "regions")}
    return alignments.write(bank, blocks, notes, mode=config.mode, captioner=_checkpoint(config), settings=settings,
                            statistics=lambda strengths: report.statistics(bank, strengths, notes))


def write_results(captioner: Captioner, notes: list[dict], links: dict[str, Any]) -> None:
    """Judges captions and links, writes maps and results.json, prints both."""
    task, parts = captioner.task, {}
    config, bank, folder = task.config, task.bank, _mode_folder(task)
    if config.keep_maps:
        _keep_maps(bank, folder, notes)
        splits = config.data.train_split, config.data.val_split
        parts = report.evaluate_parts(bank, folder, notes, splits, config.train.seed)
    result, model = report.evaluate(captioner, notes, folder), model_of(config)
    io.write_json(folder / "results.json", {
        "task": "align", "model": model, "mode": config.mode, **result, "choice": task.choice.metadata(), "alignment": links["statistics"],
        "parts": parts, "checkpoint_sha256": _checkpoint(config), "config": configs.to_dict(config)})
    report.print_parts(parts)
    print(f"{head_name(model)}; {model['trained']}")
    report.print_summary(config, result, links["statistics"], folder)


def _clean(task: Task) -> None:
    """Removes what only an interrupted run needs."""
    folder = _mode_folder(task)
    for chunk in range(_num_chunks(task.bank)):
        _arrays(folder, chunk).unlink()
        _notes(folder, chunk).unlink()
    if not task.config.grid.keep:
        for name in ("grids", "cells"):
            shutil.rmtree(captioner_folder(task.config) / name, ignore_errors=True)


def _mode_folder(task: Task) -> Path:
    """Returns the folder of the mode."""
    return task.config.run / task.config.mode


def _checkpoint(config: AlignConfig) -> str:
    """Returns the SHA-256 of the captioner's weights."""
    return sha256(captioner_folder(config) / "best.npz")


def model_of(config: AlignConfig) -> dict[str, Any]:
    """Returns the entry "model" of results.json; in the paper Show, Attend and Tell writes the words, without a word grounder."""
    options = config.captioner
    ours = [name for name, used in (("word grounder", options.grounding), ("asked by words", options.query == "word"),
                                    ("knows places", options.positions), ("teacher_forced", config.mode == "teacher_forced")) if used]
    head = ", ".join(["Show, Attend and Tell", *ours])
    stages = [lineage.epochs("word grounder trained at most", config.word_grounding.epochs if options.grounding else 0),
              lineage.epochs("captioner trained at most", config.train.epochs)]
    trained = "; ".join(sum(stages, []))
    return {"head": head, "head_of": lineage.OURS if ours else lineage.PAPERS, "trained": trained, "trained_in_this_run": trained,
            "init": None, "masking": None}


def open_task(config: AlignConfig) -> Task:
    """Checks settings, folders, bank and disk before hours are spent; writes nothing."""
    for name, train in (("train", config.train), ("word_grounding", config.word_grounding)):
        if train.precision != "float32":
            raise UserError(f"{name}.precision is {train.precision}", "align", "float32: the captioner is small")
        if config.predict_batch_size < 1 or not 0 < train.epochs:
            raise UserError(f"predict_batch_size is {config.predict_batch_size}, {name}.epochs {train.epochs}", "align", "more than 0")
    if config.captioner.patience and not config.held_out:
        raise UserError(f"held_out is 0 and captioner.patience is {config.captioner.patience}", "align", "something held out, by which "
                        "the training ends early", "set captioner.patience=0 to train all epochs, or a share as held_out")
    if not (captioner_folder(config) / "config.yaml").is_file():
        check_folder(config.run, captioner_settings(config))  # refuses a folder that holds something else
    io.check_unlocked(config.run, FIX)
    io.check_folder(config.run, "choose another folder with run=...")
    bank = Bank(config.data.bank)
    bank.require(bank.levels, config.data.encoder)
    alignments.check_folder(bank)
    task = tasks.make(config, bank)
    _check_room(task)
    return task


def _check_room(task: Task) -> None:
    """Raises UserError where the disk has no room for what the captioner sees of every picture, as far as it is not there."""
    config, features = task.config, 2 * task.cells**2 * task.feature_size
    # pictures, and with a word grounder what its encoder sees of them
    each = 3 * config.grid.size**2 + features * (task.targets is not None) if task.sees_pictures else features
    there = sum(path.stat().st_size for name in ("grids", "cells") for path in (captioner_folder(config) / name).glob("part-*.npy"))
    io.check_room(config.run, each * task.bank.size - there, f"grids of {task.bank.size:,} pictures",
                  "free some space, or choose another folder with run=...")


def _claim(task: Task) -> None:
    """Keeps the chunks of an interrupted run with the same settings and captioner; removes others."""
    config, folder = task.config, _mode_folder(task)
    work = {"captioner": _checkpoint(config), "bank": str(config.data.bank),
            **{name: configs.to_dict(getattr(config, name)) for name in ("mode", "decoding", "regions", "predict_batch_size")}}
    if not (folder / "work.json").is_file() or io.read_json(folder / "work.json") != work:
        shutil.rmtree(folder, ignore_errors=True)
        io.write_json(folder / "work.json", work)
    io.clear(folder)
    io.write_text(folder / "config.yaml", configs.dump(config))


def _make_chunks(captioner: Captioner, folder: Path) -> Iterator[int]:
    """Makes the missing chunks; yields the number of pictures done. The notes come last: a chunk with notes is complete."""
    task, write = captioner.task, captioner.writer()
    bank = task.bank
    max_words = max(1, int(bank.token_words.max()) + 1)
    for number in range(_num_chunks(bank)):
        rows = np.arange(number * CHUNK, min(bank.size, (number + 1) * CHUNK))
        if not _notes(folder, number).is_file():
            result = [_align(captioner, write, chunk, max_words)
                     for chunk in np.array_split(rows, -(-len(rows) // task.config.predict_batch_size))]
            arrays = {name: np.concatenate([each[0][name] for each in result]) for name in result[0][0]}
            with io.atomic(_arrays(folder, number)) as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]  # none is named allow_pickle
            io.write_json(_notes(folder, number), [note for each in result for note in each[1]])
        yield len(rows)


def _align(captioner: Captioner, write: Any, rows: np.ndarray, max_words: int) -> tuple[dict[str, np.ndarray], list[dict]]:
    """Returns ({"strengths" [n, T, P], "maps" [n, W, G, G]}, notes) of some rows."""
    task = captioner.task
    bank, config, tokenizer, cells = task.bank, task.config, task.bank.tokenizer(), task.cells
    result = np.zeros((len(rows), max_words, cells**2), np.float32)
    known = np.zeros((len(rows), max_words), bool)
    captions, notes = write(rows), []
    scores = captioner.score(rows) if config.mode == "teacher_forced" else None
    after = config.captioner.query == "word"  # with the query "word" the attention finds a word after the word was read
    frames = grid_features.frames(bank, rows)
    for number, (row, caption) in enumerate(zip(rows, captions)):
        words = words_of_text(tokenizer.pieces(bank.token_ids[row]), bank.token_words[row])
        written = join_pieces(tokenizer.pieces(task.vocabulary.bank_ids[caption.pieces]))
        if scores is not None:
            own = alignment_generator.teacher_forced_maps(words, scores[number][1], after, config.regions.content_only)
        else:
            own = alignment_generator.generated_maps(words, written, caption.alpha, after, config.regions.content_only)
        result[number, : len(words)], known[number, : len(words)] = own
        entry = bank.table[row]
        notes.append({"image_id": entry["image_id"], "caption": " ".join(word.text for word in written),
                      "words": [word.text for word in words], "has_map": own[1].tolist(),
                      "frame": [round(float(side), 5) for side in frames[number]], "log_likelihood": round(caption.score, 4)})
    maps = result.reshape(len(rows), max_words, cells, cells)
    options = config.regions
    strengths = alignment_generator.align(bank.token_words[rows], maps, known, boxes=bank.boxes[rows], frames=frames, levels=bank.levels,
                                threshold=options.threshold, relative_threshold=options.relative_threshold, top_k=options.top_k)
    return {"strengths": strengths, "maps": maps.astype(np.float16)}, notes


def _keep_maps(bank: Bank, folder: Path, notes: list[dict]) -> None:
    first = np.load(_arrays(folder, 0))["maps"]
    with io.atomic(folder / "maps.npy") as file:
        header = {"descr": "<f2", "fortran_order": False, "shape": (bank.size, *first.shape[1:])}
        np.lib.format.write_array_header_1_0(SimpleNamespace(write=file.write), header)
        for chunk in range(_num_chunks(bank)):
            file.write(np.ascontiguousarray(np.load(_arrays(folder, chunk))["maps"], "<f2").tobytes())
    io.write_text(folder / "words.jsonl", "".join(json.dumps(
        {name: note[name] for name in ("image_id", "words", "has_map", "frame")}, ensure_ascii=False) + "\n" for note in notes))


def _num_chunks(bank: Bank) -> int:
    return -(-bank.size // CHUNK)


def _arrays(folder: Path, chunk: int) -> Path:
    return folder / f"part-{chunk:05d}.npz"


def _notes(folder: Path, chunk: int) -> Path:
    return folder / f"part-{chunk:05d}.json"
