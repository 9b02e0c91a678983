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
from kaleidobert.app_zoo import lineage, training
from kaleidobert.app_zoo.align import networks
from kaleidobert.app_zoo.align import task as tasks
from kaleidobert.app_zoo.align.networks import Captioner
from kaleidobert.app_zoo.align.task import Task, captioner_folder, captioner_settings
from kaleidobert.app_zoo.caption.writing import simple_captions
from kaleidobert.configs import AlignConfig
from kaleidobert.datasets import grid_features
from kaleidobert.datasets.bank import alignment as alignments
from kaleidobert.datasets.bank.bank import Bank, describe
from kaleidobert.engines.run_folder import FIX, check_folder
from kaleidobert.errors import UserError
from kaleidobert.evaluators import alignment
from kaleidobert.evaluators import captions as captioning
from kaleidobert.evaluators.report import plots
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
                            statistics=lambda strengths: link_statistics(bank, strengths, notes))


def write_results(captioner: Captioner, notes: list[dict], links: dict[str, Any]) -> None:
    """Judges captions and links, writes maps and results.json, prints both."""
    task, parts = captioner.task, {}
    config, bank, folder = task.config, task.bank, _mode_folder(task)
    if config.keep_maps:
        _keep_maps(bank, folder, notes)
        splits = config.data.train_split, config.data.val_split
        parts = evaluate_parts(bank, folder, notes, splits, config.train.seed)
    result, model = evaluate_captions(captioner, notes, folder), model_of(config)
    io.write_json(folder / "results.json", {
        "task": "align", "model": model, "mode": config.mode, **result, "choice": task.choice.metadata(), "alignment": links["statistics"],
        "parts": parts, "checkpoint_sha256": _checkpoint(config), "config": configs.to_dict(config)})
    print_parts(parts)
    print(f"{head_name(model)}; {model['trained']}")
    print_summary(config, result, links["statistics"], folder)


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
    ours = [name for name, used in (("word grounder", options.grounding), ("word queries", options.query == "word"),
                                    ("cell positions", options.positions), ("teacher_forced", config.mode == "teacher_forced")) if used]
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
                        "the training ends early", "set captioner.patience=0 to train all epochs, or a fraction as held_out")
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


# --- How good the captions are beside simple ones, and how much of the texts is aligned


def evaluate_captions(captioner: Captioner, notes: list[dict], folder: Path) -> dict[str, Any]:
    """Returns {"metrics", "baselines", "bank", ...} of the first picture of every validation product; writes captions.csv."""
    task = captioner.task
    config, bank = task.config, task.bank
    rows = training.first_of_products(bank, task.rows.val)
    references = [[notes[row]["words"]] for row in rows]
    captions = {"caption": [notes[row]["caption"].split() for row in rows]}
    if config.baselines:
        train = np.union1d(task.rows.train, task.rows.held)
        simple = simple_captions(bank, train, [" ".join(notes[row]["words"]) for row in train], rows, config.subcategory)
        captions |= {name: [text.split() for text in texts] for name, texts in simple.items()}
    report = {name: {"bleu4": captioning.bleu(result, references), "cider_d": float(captioning.cider_d(result, references).mean())}
              for name, result in captions.items()}
    metrics = {"perplexity": captioner.perplexity(task.rows.val), **report.pop("caption"),
               "different_captions": len({" ".join(words) for words in captions["caption"]})}
    io.write_csv(folder / "captions.csv", ["image_id", "text", *captions],
                 ([notes[row]["image_id"], " ".join(notes[row]["words"]), *(" ".join(result[number]) for result in captions.values())]
                  for number, row in enumerate(rows)))
    return {"metrics": metrics, "baselines": report, "products": len(rows), "vocabulary": task.vocabulary.size, "bank": describe(bank)}


def link_statistics(bank: Bank, strengths: np.ndarray, notes: list[dict]) -> dict[str, Any]:
    """Returns how much of the texts is aligned; strengths f16[N, T, P]."""
    linked = np.concatenate([(strengths[i : i + 256] > 0).any(2) for i in range(0, len(strengths), 256)])  # [N, T]
    links = sum(int(np.count_nonzero(strengths[i : i + 256])) for i in range(0, len(strengths), 256))
    real = np.asarray(bank.token_words) >= 0
    content = [int(alignment_generator.content(note["words"]).sum()) for note in notes]
    seen = sum(int((alignment_generator.content(note["words"]) & note["has_map"]).sum()) for note in notes)
    return {"tokens": int(real.sum()), "aligned_tokens": int(linked.sum()), "share_of_tokens": float(linked.sum() / max(1, real.sum())),
            "words": sum(len(note["words"]) for note in notes), "content_words": sum(content), "content_words_with_map": seen,
            "words_with_map": sum(sum(note["has_map"]) for note in notes), "links": links,
            "pictures": len(notes), "pictures_without_text": int((~real.any(1)).sum()),
            "pictures_without_content_word": sum(count == 0 for count in content) - int((~real.any(1)).sum()),
            "pictures_without_alignment": int((~linked.any(1)).sum())}


def print_summary(config: AlignConfig, report: dict[str, Any], counts: dict[str, Any], folder: Path) -> None:
    """Prints the outcome in a few lines."""
    metrics = report["metrics"]
    print(f"captions of {report['products']:,} {config.data.val_split!r} products: perplexity {metrics['perplexity']:.2f}, BLEU-4 "
          f"{metrics['bleu4']:.4f}, CIDEr-D {metrics['cider_d']:.3f}, {metrics['different_captions']:,} different"
          + "".join(f"; {name} {values['bleu4']:.4f}, {values['cider_d']:.3f}" for name, values in report["baselines"].items()))
    print(f"mode {config.mode}: {counts['words_with_map']:,} of {counts['words']:,} words have a map, "
          f"{counts['content_words_with_map']:,} of {counts['content_words']:,} content words; "
          f"{counts['share_of_tokens']:.1%} of {counts['tokens']:,} word pieces are aligned, by {counts['links']:,} links")
    for key, what in (("without_text", "no text"), ("without_content_word", "a text without a content word"),
                      ("without_alignment", "no link at all (these included); masking draws at random there")):
        if counts[f"pictures_{key}"]:
            print(f"  {counts[f'pictures_{key}']:,} of {counts['pictures']:,} pictures have {what}")
    print(f"alignment: in the bank {config.data.bank}\ncaptions and maps: {folder}\ncaptioner: {captioner_folder(config)}")


# --- How well an alignment finds the parts that words name, where the catalogue knows their boxes (drawn catalogues)


def evaluate_parts(bank: Bank, folder: Path, words: list[dict], splits: tuple[str, str], seed: int) -> dict[str, Any]:
    """Returns the summary of evaluators.alignment on the second of the two splits, with the fraction of sightings whose word has a map
    ("coverage"); only those are scored. Writes parts.png into ``folder``, which holds maps.npy. Empty without part boxes.

    words: one dict per row with "words" and "has_map"; splits: names of the training and the evaluation split.
    """
    if not any(row["parts"] for row in bank.table):
        return {}
    train, test = (alignment.sightings(bank.rows(split), bank.table, bank.boxes) for split in splits)
    maps, strengths = np.load(folder / "maps.npy", mmap_mode="r"), alignments.of(bank)
    own = [_numbered_word(words[row], word) for row, word in zip(test.rows, test.words)]
    seen = np.array([number >= 0 for number in own])
    if not seen.any():
        return {"coverage": 0.0, "sightings": len(seen)}
    test = alignment.Sightings(*(getattr(test, name)[seen] for name in ("rows", "words", "boxes", "frames", "patches")))
    own = [number for number in own if number >= 0]
    peaks = alignment.peaks(np.stack([maps[row, number] for row, number in zip(test.rows, own)]).astype(np.float32), test.frames)
    links = np.stack([strengths[row, bank.token_words[row] == number].max(0, initial=0) for row, number in zip(test.rows, own)])
    result = alignment.scores(test, train, peaks, links, bank.levels)
    summary = alignment.summary(result, test, np.random.Generator(np.random.Philox(seed)))
    plots.located_parts(summary, folder / "parts.png")
    return {"coverage": float(seen.mean()), "sightings": len(seen), **summary}


def print_parts(report: dict[str, Any]) -> None:
    """Prints the outcome in a few lines; nothing where there are no part boxes."""
    if not report:
        return
    print(f"words that name a described part: {report['coverage']:.1%} of {report['sightings']:,} have a map")
    for measure, row in report.items():
        if isinstance(row, dict):
            pooled = {name: row[name]["sightings"] for name in alignment.METHODS}
            for what, values in (("mean over words", row), ("over all sightings", pooled)):
                print(f"  {measure}, {what}: " + "; ".join(f"{name} {values[name]['value']:.3f} [{values[name]['low']:.3f}, "
                                                           f"{values[name]['high']:.3f}]" for name in alignment.METHODS))


def _numbered_word(row: dict, word: str) -> int:
    """Returns the first word of a row that is ``word`` and has a map; -1 where there is none."""
    texts = [text.lower() for text in row["words"]]
    return next((number for number, text in enumerate(texts) if text == word and row["has_map"][number]), -1)
