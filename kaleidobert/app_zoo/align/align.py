"""``kaleidobert align``: the Attention-based Alignment Generator (paper, section 3.2): a captioner trained on the bank's own
texts has an attention map for every word, or word presence makes one (ours); words of the text are linked to the patches there, and the
links go into the bank.

    run/presence/             the run folder of word presence
        word_grounding/       the word grounder's run folder: where single words look (captioner.grounding)
        captioner/            the captioner's run folder; all three are kept when mode, decoding or regions change
        generated/, teacher_forced/, word_presence/   per mode: config.yaml, part-*.npz (the unit of work and of resuming), results.json,
                              captions.csv of a captioner, maps.npy f16[N, W, G, G], words.jsonl {image_id, words, has_map, frame},
                              parts.png where the catalogue knows where the described parts are
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
from kaleidobert.app_zoo.align import networks, presence
from kaleidobert.app_zoo.align import task as tasks
from kaleidobert.app_zoo.align.task import CaptionTask, Linker, PresenceTask, Task, captioner_folder, captioner_settings
from kaleidobert.configs import AlignConfig
from kaleidobert.datasets import grid_features
from kaleidobert.datasets.bank import alignment as alignments
from kaleidobert.datasets.bank.bank import Bank, describe
from kaleidobert.engines import environment
from kaleidobert.engines.run_folder import FIX, check_folder
from kaleidobert.errors import UserError
from kaleidobert.evaluators import alignment
from kaleidobert.evaluators.report import plots
from kaleidobert.evaluators.report.results import head_name
from kaleidobert.io import sha256
from kaleidobert.preprocessors import alignment_generator

CHUNK = 256  # pictures per chunk, part-*.npz


def dry_run(config: AlignConfig) -> None:
    """Checks bank and folder, prints sizes."""
    task = open_task(config)
    rows = task.rows
    print(f"{len(rows.train):,} texts to learn from, {len(rows.held):,} held out, {len(rows.val):,} to evaluate, {_sizes(task)}; "
          f"{task.bank.size:,} pictures to align, mode {config.mode}")
    print(*tasks.rates(task), sep="\n")


def _sizes(task: PresenceTask | CaptionTask) -> str:
    if isinstance(task, PresenceTask):
        return f"{task.vocabulary.size:,} terms"
    return (f"{task.vocabulary.size:,} word pieces; grids of {task.cells} x {task.cells} cells of {task.feature_size} features "
            f"({task.config.grid.network})")


def run(config: AlignConfig) -> None:
    """Trains the mode's network, or loads it; aligns every picture; stores the links in the bank; writes results."""
    task, start = open_task(config), environment.Start(config.run / config.mode)
    tasks.rates(task)  # refuses a warm-up that is too long before a folder is made
    with io.locked(config.run, fix=FIX):  # of all modes: they share the captioner
        linker: Linker = presence.train(task) if isinstance(task, PresenceTask) else networks.train(task)
        notes = align_pictures(linker)
        links = store_links(linker, notes)
        write_results(linker, notes, links)
        start.write()
        _clean(task)


def align_pictures(linker: Linker) -> list[dict]:
    """Aligns every picture, in chunks that an interrupted run keeps; returns the notes of each picture."""
    task, folder = linker.task, _mode_folder(linker.task)
    _claim(linker)
    with tqdm(total=task.bank.size, unit="picture", desc=f"align ({task.config.mode})") as bar:
        for count in _make_chunks(linker, folder):
            bar.update(count)
    return [note for chunk in range(_num_chunks(task.bank)) for note in io.read_json(_notes(folder, chunk))]


def store_links(linker: Linker, notes: list[dict]) -> dict[str, Any]:
    """Writes the links of all pictures into the bank; returns its alignment.json."""
    config, bank, folder = linker.task.config, linker.task.bank, _mode_folder(linker.task)
    blocks = (np.load(_arrays(folder, chunk))["strengths"] for chunk in range(_num_chunks(bank)))
    settings = {name: configs.to_dict(getattr(config, name)) for name in ("decoding", "regions")}
    return alignments.write(bank, blocks, notes, mode=config.mode, captioner=sha256(linker.weights), settings=settings,
                            statistics=lambda strengths: link_statistics(bank, strengths, notes))


def write_results(linker: Linker, notes: list[dict], links: dict[str, Any]) -> None:
    """Judges network and links, writes maps and results.json, prints both."""
    config, bank, folder, parts = linker.task.config, linker.task.bank, _mode_folder(linker.task), {}
    if config.keep_maps:
        _keep_maps(bank, folder, notes)
        parts = evaluate_parts(config, bank, folder, notes)
    report, model = linker.report(notes, folder), model_of(config)
    io.write_json(folder / "results.json", {
        "task": "align", "model": model, "mode": config.mode, **report, "bank": describe(bank), "choice": linker.task.choice.metadata(),
        "alignment": links["statistics"], "parts": parts, "checkpoint_sha256": sha256(linker.weights), "config": configs.to_dict(config)})
    print_parts(parts)
    print(f"{head_name(model)}; {model['trained']}\n{linker.summary(report)}")
    print_summary(linker, links["statistics"], folder)


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


def model_of(config: AlignConfig) -> dict[str, Any]:
    """Returns the entry "model" of results.json; in the paper Show, Attend and Tell writes the words, without a word grounder."""
    options = config.captioner
    if config.mode == "word_presence":
        ours, head, stages = ["word presence"], "word presence", [lineage.epochs("word presence trained", config.word_presence.epochs)]
    else:
        ours = [name for name, used in (("word grounder", options.grounding), ("word queries", options.query == "word"),
                                        ("cell positions", options.positions), ("teacher_forced", config.mode == "teacher_forced")) if used]
        head = ", ".join(["Show, Attend and Tell", *ours])
        stages = [lineage.epochs("word grounder trained at most", config.word_grounding.epochs if options.grounding else 0),
                  lineage.epochs("captioner trained at most", config.train.epochs)]
    trained = "; ".join(sum(stages, []))
    return {"head": head, "head_of": lineage.OURS if ours else lineage.PAPERS, "trained": trained, "trained_in_this_run": trained,
            "init": None, "masking": None}


def open_task(config: AlignConfig) -> PresenceTask | CaptionTask:
    """Checks settings, folders, bank and disk before hours are spent; writes nothing."""
    by_presence = config.mode == "word_presence"
    for name in ("word_presence",) if by_presence else ("train", "word_grounding"):
        train = getattr(config, name)
        if train.precision != "float32":
            raise UserError(f"{name}.precision is {train.precision}", "align", "float32: the network is small")
        if config.predict_batch_size < 1 or not 0 < train.epochs:
            raise UserError(f"predict_batch_size is {config.predict_batch_size}, {name}.epochs {train.epochs}", "align", "more than 0")
    if config.captioner.patience and not config.held_out and not by_presence:
        raise UserError(f"held_out is 0 and captioner.patience is {config.captioner.patience}", "align", "something held out, by which "
                        "the training ends early", "set captioner.patience=0 to train all epochs, or a fraction as held_out")
    if not any((folder(config) / "config.yaml").is_file() for folder in (tasks.presence_folder, captioner_folder)):
        settings = tasks.presence_settings if by_presence else captioner_settings
        check_folder(config.run, settings(config))  # refuses a folder that holds something else
    io.check_unlocked(config.run, FIX)
    io.check_folder(config.run, "choose another folder with run=...")
    bank = Bank(config.data.bank)
    bank.require(bank.levels, config.data.encoder)
    alignments.check_folder(bank)
    task = tasks.make(config, bank)
    if isinstance(task, CaptionTask):
        _check_room(task)
    return task


def _check_room(task: CaptionTask) -> None:
    """Raises UserError where the disk has no room for what the captioner sees of every picture, as far as it is not there."""
    config, features = task.config, 2 * task.cells**2 * task.feature_size
    # pictures, and with a word grounder what its encoder sees of them
    each = 3 * config.grid.size**2 + features * (task.targets is not None) if task.sees_pictures else features
    there = sum(path.stat().st_size for name in ("grids", "cells") for path in (captioner_folder(config) / name).glob("part-*.npy"))
    io.check_room(config.run, each * task.bank.size - there, f"grids of {task.bank.size:,} pictures",
                  "free some space, or choose another folder with run=...")


def _claim(linker: Linker) -> None:
    """Keeps the chunks of an interrupted run with the same settings and network; removes others."""
    config, folder = linker.task.config, _mode_folder(linker.task)
    work = {"captioner": sha256(linker.weights), "bank": str(config.data.bank),
            **{name: configs.to_dict(getattr(config, name)) for name in ("mode", "decoding", "regions", "predict_batch_size")}}
    if not (folder / "work.json").is_file() or io.read_json(folder / "work.json") != work:
        shutil.rmtree(folder, ignore_errors=True)
        io.write_json(folder / "work.json", work)
    io.clear(folder)
    io.write_text(folder / "config.yaml", configs.dump(config))


def _make_chunks(linker: Linker, folder: Path) -> Iterator[int]:
    """Makes the missing chunks; yields the number of pictures done. The notes come last: a chunk with notes is complete."""
    bank, size = linker.task.bank, linker.task.config.predict_batch_size
    max_words = max(1, int(bank.token_words.max()) + 1)
    for number in range(_num_chunks(bank)):
        rows = np.arange(number * CHUNK, min(bank.size, (number + 1) * CHUNK))
        if not _notes(folder, number).is_file():
            result = [_align(linker, chunk, max_words) for chunk in np.array_split(rows, -(-len(rows) // size))]
            arrays = {name: np.concatenate([each[0][name] for each in result]) for name in result[0][0]}
            with io.atomic(_arrays(folder, number)) as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]  # none is named allow_pickle
            io.write_json(_notes(folder, number), [note for each in result for note in each[1]])
        yield len(rows)


def _align(linker: Linker, rows: np.ndarray, max_words: int) -> tuple[dict[str, np.ndarray], list[dict]]:
    """Returns ({"strengths" [n, T, P], "maps" [n, W, G, G]}, notes) of some rows."""
    bank, options, notes = linker.task.bank, linker.task.config.regions, []
    result, known = np.zeros((len(rows), max_words, linker.side**2), np.float32), np.zeros((len(rows), max_words), bool)
    frames = grid_features.frames(bank, rows)
    for number, (row, own) in enumerate(zip(rows, linker.maps(rows))):
        result[number, : len(own.words)], known[number, : len(own.words)] = own.maps, own.has_map
        notes.append({"image_id": bank.table[row]["image_id"], "words": [word.text for word in own.words],
                      "has_map": own.has_map.tolist(), "frame": [round(float(side), 5) for side in frames[number]], **own.notes})
    maps = result.reshape(len(rows), max_words, linker.side, linker.side)
    strengths = alignment_generator.align(
        bank.token_words[rows], maps, known, boxes=bank.boxes[rows], frames=frames, levels=bank.levels, threshold=options.threshold,
        relative_threshold=options.relative_threshold, top_k=options.top_k)
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


# --- How much of the texts is aligned


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


def print_summary(linker: Linker, counts: dict[str, Any], folder: Path) -> None:
    """Prints how much is aligned, and where all is."""
    config = linker.task.config
    print(f"mode {config.mode}: {counts['words_with_map']:,} of {counts['words']:,} words have a map, "
          f"{counts['content_words_with_map']:,} of {counts['content_words']:,} content words; "
          f"{counts['share_of_tokens']:.1%} of {counts['tokens']:,} word pieces are aligned, by {counts['links']:,} links")
    for key, what in (("without_text", "no text"), ("without_content_word", "a text without a content word"),
                      ("without_alignment", "no link at all (these included); masking draws at random there")):
        if counts[f"pictures_{key}"]:
            print(f"  {counts[f'pictures_{key}']:,} of {counts['pictures']:,} pictures have {what}")
    print(f"alignment: in the bank {config.data.bank}\nresults and maps: {folder}\n{linker.network}: {linker.weights.parent}")


# --- How well an alignment finds the parts that words name, where the catalogue knows their boxes (drawn catalogues)


def evaluate_parts(config: AlignConfig, bank: Bank, folder: Path, words: list[dict]) -> dict[str, Any]:
    """Returns the summary of evaluators.alignment on the validation split, with the fraction of sightings whose word has a map
    ("coverage"); only those are scored. Writes parts.png into ``folder``, which holds maps.npy. Empty without part boxes.

    words: one dict per row with "words" and "has_map".
    """
    if not any(row["parts"] for row in bank.table):
        return {}
    train, test = (alignment.sightings(bank.rows(split), bank.table, bank.boxes) for split in (config.data.train_split,
                                                                                              config.data.val_split))
    strengths, rng = alignments.of(bank), np.random.Generator(np.random.Philox(config.train.seed))
    own = np.array([_numbered_word(words[row], word) for row, word in zip(test.rows, test.words)])
    seen = own >= 0
    if not seen.any():
        return {"coverage": 0.0, "sightings": len(seen)}
    test = alignment.Sightings(*(getattr(test, name)[seen] for name in ("rows", "words", "boxes", "frames", "patches")))
    own, maps = own[seen], np.load(folder / "maps.npy", mmap_mode="r")
    links = np.stack([strengths[row, bank.token_words[row] == number].max(0, initial=0) for row, number in zip(test.rows, own)])
    shown = np.stack([maps[row, number] for row, number in zip(test.rows, own)]).astype(np.float32)
    controls = {name: (alignment.peaks(other, test.frames), _links(config, bank, test, other))
                for name, other in _controls(bank, maps, words, test, own, rng).items()}
    result = alignment.scores(test, train, alignment.peaks(shown, test.frames), links, bank.levels, controls)
    summary = alignment.summary(result, test, rng)
    plots.located_parts(summary, folder / "parts.png")
    return {"coverage": float(seen.mean()), "sightings": len(seen), **summary}


def _controls(bank: Bank, maps: np.ndarray, words: list[dict], test: alignment.Sightings, own: np.ndarray, rng: np.random.Generator
              ) -> dict[str, np.ndarray]:
    """Returns {control of evaluators.alignment: the maps f32[N, G, G] that stand in for those of the sightings}."""
    wanted, product = set(test.words.tolist()), bank.column("product_id")
    occurrences: dict[str, list[tuple[int, int]]] = {word: [] for word in wanted}
    for row, entry in enumerate(words):
        for number, (text, known) in enumerate(zip(entry["words"], entry["has_map"])):
            if known and text.lower() in wanted:
                occurrences[text.lower()].append((row, number))
    train = np.array([row["split"] for row in bank.table]) != bank.table[int(test.rows[0])]["split"]
    means, result = {}, {name: np.ones((len(own), *maps.shape[2:]), np.float32) for name in alignment.CONTROLS}
    for word, places in occurrences.items():
        learnt = [place for place in places if train[place[0]]] or places
        means[word] = np.mean([maps[place].astype(np.float32) for place in learnt], 0)
    for position, (row, word, number) in enumerate(zip(test.rows.tolist(), test.words.tolist(), own.tolist())):
        result["position_alone"][position] = means[word]
        others = [place for place in occurrences[word] if product[place[0]] != product[row]]
        neighbours = [(row, other) for other, known in enumerate(words[row]["has_map"]) if known and other != number]
        for name, places in (("other_picture", others), ("other_word", neighbours)):
            if places:
                result[name][position] = maps[places[int(rng.integers(len(places)))]]
    return result


def _links(config: AlignConfig, bank: Bank, test: alignment.Sightings, maps: np.ndarray) -> np.ndarray:
    """Returns f16[N, P]: the links that maps f32[N, G, G] would give to the sightings' words."""
    first, one, options = np.zeros((len(maps), 1), np.int16), np.ones((len(maps), 1), bool), config.regions
    boxes, frames = test.patches.astype(np.float32), test.frames.astype(np.float32)
    return alignment_generator.align(first, maps[:, None], one, boxes=boxes, frames=frames, levels=bank.levels, threshold=options.threshold,
                                     relative_threshold=options.relative_threshold, top_k=options.top_k)[:, 0]


def print_parts(report: dict[str, Any]) -> None:
    """Prints the outcome in a few lines; nothing where there are no part boxes."""
    if not report:
        return
    print(f"words that name a described part: {report['coverage']:.1%} of {report['sightings']:,} have a map")
    for measure, row in report.items():
        if isinstance(row, dict):
            names = [name for name in row if name != "words"]
            pooled = {name: row[name]["sightings"] for name in names}
            for what, values in (("mean over words", row), ("over all sightings", pooled)):
                print(f"  {measure}, {what}: " + "; ".join(f"{name} {values[name]['value']:.3f} [{values[name]['low']:.3f}, "
                                                           f"{values[name]['high']:.3f}]" for name in names))


def _numbered_word(row: dict, word: str) -> int:
    """Returns the first word of a row that is ``word`` and has a map; -1 where there is none."""
    texts = [text.lower() for text in row["words"]]
    return next((number for number, text in enumerate(texts) if text == word and row["has_map"][number]), -1)
