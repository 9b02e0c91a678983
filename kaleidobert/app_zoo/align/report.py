"""What ``kaleidobert align`` reports: how good the captions are beside simple ones, and how much of the texts is aligned."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np

from kaleidobert import io as files
from kaleidobert.app_zoo.align.networks import Captioner
from kaleidobert.app_zoo.align.task import captioner_folder
from kaleidobert.app_zoo.caption.writing import simple_captions
from kaleidobert.configs import AlignConfig
from kaleidobert.datasets.bank import alignment as alignments
from kaleidobert.datasets.bank.bank import Bank, describe
from kaleidobert.evaluators import alignment
from kaleidobert.evaluators import captions as captioning
from kaleidobert.evaluators.report import plots
from kaleidobert.preprocessors import alignment_generator


def evaluate(captioner: Captioner, notes: list[dict], folder: Path) -> dict[str, Any]:
    """Returns {"metrics", "baselines", "bank", ...} of the first picture of every validation product; writes captions.csv."""
    task = captioner.task
    config, bank = task.config, task.bank
    products = bank.column("product_id")
    rows = task.rows.val[np.sort(np.unique(products[task.rows.val], return_index=True)[1])]
    references = [[notes[row]["words"]] for row in rows]
    captions = {"caption": [notes[row]["caption"].split() for row in rows]}
    if config.baselines:
        train = np.union1d(task.rows.train, task.rows.held)
        simple = simple_captions(bank, train, [" ".join(notes[row]["words"]) for row in train], rows, config.subcategory)
        captions |= {name: [text.split() for text in texts] for name, texts in simple.items()}
    report = {name: {"bleu4": captioning.bleu(result, references), "cider_d": captioning.cider_d(result, references)}
              for name, result in captions.items()}
    metrics = {"perplexity": captioner.perplexity(task.rows.val), **report.pop("caption"),
               "different_captions": len({" ".join(words) for words in captions["caption"]})}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image_id", "text", *captions])
    writer.writerows([notes[row]["image_id"], " ".join(notes[row]["words"]), *(" ".join(result[number]) for result in captions.values())]
                     for number, row in enumerate(rows))
    files.write_text(folder / "captions.csv", text.getvalue())
    return {"metrics": metrics, "baselines": report, "products": len(rows), "vocabulary": task.vocabulary.size, "bank": describe(bank)}


def statistics(bank: Bank, strengths: np.ndarray, notes: list[dict]) -> dict[str, Any]:
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
    """Returns the summary of evaluators.alignment on the second of the two splits, with the share of sightings whose word has a map
    ("coverage"); only those are scored. Writes parts.png into ``place``, which holds maps.npy. Empty without part boxes.

    words: one dict per row with "words" and "has_map"; splits: names of the training and the evaluation split.
    """
    if not any(row["parts"] for row in bank.table):
        return {}
    train, test = (alignment.sightings(bank.rows(split), bank.table, bank.boxes) for split in splits)
    maps, strengths = np.load(folder / "maps.npy", mmap_mode="r"), alignments.of(bank)
    own = [_number(words[row], word) for row, word in zip(test.rows, test.words)]
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


def _number(row: dict, word: str) -> int:
    """Returns the first word of a row that is ``word`` and has a map; -1 where there is none."""
    texts = [text.lower() for text in row["words"]]
    return next((number for number, text in enumerate(texts) if text == word and row["has_map"][number]), -1)
