"""Tokens and metrics of captions beside those of pycocoevalcap: do they agree, and what do they cost?

    python -m benchmarks.caption_metrics FOLDER --texts titles.csv --column productDisplayName --texts products.csv --column title

Needs pycocoevalcap (``pip install --no-deps pycocoevalcap``) and Java. Every text of the files is split into words by both. Captions are
made of the texts by leaving out, replacing and exchanging words; each has one to four references. Writes caption_metrics.md.
"""

import argparse
import csv
import gzip
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter

import numpy as np

from kaleidobert import io
from kaleidobert.errors import UserError
from kaleidobert.evaluators import captions as metrics
from kaleidobert.evaluators import meteor
from kaleidobert.evaluators.ptb_tokenizer import tokenize_all

SHOWN = 200  # differing texts in the report
EMPTY = 200  # one caption of so many is empty
Pairs = tuple[list[str], list[list[str]]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command."""
    options = _parser().parse_args(arguments)
    if len(options.texts) != len(options.column):
        raise SystemExit("error: as many --column as --texts")
    try:
        columns = [list(read(*pair)) for pair in zip(options.texts, options.column)]
        lines = compare(columns, options.texts, options.column, options.captions, options.seed)
    except (UserError, ImportError) as error:
        raise SystemExit(f"error: {error}") from None
    io.write_text(options.folder / "caption_metrics.md", "\n".join(lines) + "\n")
    print("\n".join(lines[:40]))


def read(path: Path, column: str) -> Iterator[str]:
    """Returns the texts of a column of a CSV file (.gz or not), blank ones skipped."""
    csv.field_size_limit(sys.maxsize)
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if (row[column] or "").strip():
                yield row[column]


def perturbed(texts: Sequence[str], number: int, rng: np.random.Generator) -> Pairs:
    """Returns ``number`` captions, and for each one to four references: a text, and others made of it as the caption is."""
    words = [word for text in texts for word in text.split()]
    captions, references = [], []
    for position in rng.choice(len(texts), number, replace=number > len(texts)):
        text = texts[position]
        captions.append("" if rng.integers(EMPTY) == 0 else _changed(text, words, rng))
        others = (_changed(text, words, rng) for _ in range(rng.integers(0, 4)))
        references.append([text, *(other for other in others if other)])
    return captions, references


def reference_tokens(texts: Sequence[str]) -> list[list[str]]:
    """Returns the words as pycocoevalcap has them; [] of an empty text."""
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    result = PTBTokenizer().tokenize({number: [{"caption": text}] for number, text in enumerate(texts)})
    return [result[number][0].split(" ") if result.get(number, [""])[0] else [] for number in range(len(texts))]


def reference_scores(captions: Sequence[str], references: Sequence[Sequence[str]], with_meteor: bool = True) -> dict[str, tuple]:
    """Returns {metric: (of the corpus, of each caption, seconds)} by pycocoevalcap, of words with blanks between them."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    given, truth = {number: [text] for number, text in enumerate(captions)}, dict(enumerate(map(list, references)))
    scores = {}
    begin = perf_counter()
    corpus, each = Bleu(4).compute_score(truth, given, verbose=0)
    scores |= {f"BLEU-{order}": (corpus[order - 1], np.array(each[order - 1]), perf_counter() - begin) for order in (1, 2, 3, 4)}
    scorers = {"ROUGE-L": Rouge, "CIDEr-D": Cider}
    if with_meteor:
        from pycocoevalcap.meteor.meteor import Meteor

        scorers["METEOR"] = Meteor
    for name, scorer in scorers.items():
        begin = perf_counter()
        corpus, each = scorer().compute_score(truth, given)
        scores[name] = float(corpus), np.array(each), perf_counter() - begin
    return scores


def our_scores(captions: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]],
               with_meteor: bool = True) -> dict[str, tuple]:
    """Returns the same as ``reference_scores``, by our code, of lists of words."""
    begin = perf_counter()
    apart = [_apart(words) for words in captions], [[_apart(words) for words in several] for several in references]
    scores = {}
    for order in (1, 2, 3, 4):
        counts = metrics.bleu_counts(*apart, order)
        scores[f"BLEU-{order}"] = float(metrics.bleu_of(counts.sum(axis=0))), metrics.bleu_of(counts), perf_counter() - begin
    for name, each, pair in (("ROUGE-L", metrics.rouge_l, (captions, references)), ("CIDEr-D", metrics.cider_d, apart)):
        begin = perf_counter()
        values = each(*pair)
        scores[name] = float(values.mean()), values, perf_counter() - begin
    if with_meteor:
        begin = perf_counter()
        result = meteor.corpus([" ".join(words) for words in captions], [[" ".join(words) for words in several] for several in references])
        scores["METEOR"] = *result, perf_counter() - begin
    return scores


def compare(columns: Sequence[Sequence[str]], names: Sequence[Path], heads: Sequence[str], number: int, seed: int) -> list[str]:
    """Returns the report, a Markdown text line by line. Raises UserError without Java, ImportError without pycocoevalcap."""
    meteor.find()
    lines = ["# Captions: tokens and metrics beside pycocoevalcap", "",
             "| texts | column | number | equal tokens | ours, s | reference, s |", "|---|---|---:|---:|---:|---:|"]
    differing: list[tuple[str, list[str], list[str]]] = []
    for texts, name, head in zip(columns, names, heads):
        begin = perf_counter()
        ours = tokenize_all(texts)
        middle = perf_counter()
        theirs = reference_tokens(texts)
        end = perf_counter()
        wrong = [triple for triple in zip(texts, ours, theirs) if triple[1] != triple[2]]
        differing += wrong
        lines.append(f"| {name.name} | {head} | {len(texts):,} | {len(texts) - len(wrong):,} ({1 - len(wrong) / len(texts):.4%}) "
                     f"| {middle - begin:.2f} | {end - middle:.2f} |")
    captions, references = perturbed([text for texts in columns for text in texts], number, np.random.Generator(np.random.Philox(seed)))
    lines += ["", *_metrics(captions, references), "", f"## Texts with other tokens: {len(differing)}", ""]
    lines += [f"- `{text}`\n  - ours `{' '.join(ours)}`\n  - reference `{' '.join(theirs)}`" for text, ours, theirs in differing[:SHOWN]]
    return lines


def _metrics(captions: list[str], references: list[list[str]]) -> list[str]:
    flat = [other for several in references for other in several]
    mine, others = tokenize_all(captions), iter(tokenize_all(flat))
    ours = our_scores(mine, [[next(others) for _ in several] for several in references])
    given, truth = reference_tokens(captions), iter(reference_tokens(flat))
    joined = [[" ".join(next(truth)) for _ in several] for several in references]
    theirs = reference_scores([" ".join(words) for words in given], joined)
    lines = [f"{len(captions):,} captions ({captions.count('')} empty), {len(flat):,} references, each side with its own tokens.", "",
             "| metric | ours | reference | difference | largest of a caption | ours, s | reference, s |",
             "|---|---:|---:|---:|---:|---:|---:|"]
    for name, (value, each, seconds) in ours.items():
        other, other_each, other_seconds = theirs[name]
        lines.append(f"| {name} | {value:.6f} | {other:.6f} | {abs(value - other):.1e} | {np.abs(each - other_each).max():.1e} "
                     f"| {seconds:.2f} | {other_seconds:.2f} |")
    return [*lines, "", "Seconds of BLEU run from the beginning of BLEU-1 (the reference counts all four at once); "
            "METEOR's hold the start of its program."]


def _changed(text: str, words: Sequence[str], rng: np.random.Generator) -> str:
    made = text.split()
    for _ in range(rng.integers(0, 2 + len(made) // 3)):
        position = rng.integers(len(made)) if made else 0
        change = rng.integers(3)
        if change == 0:
            del made[position : position + 1]
        elif change == 1 and made:
            made[position] = words[rng.integers(len(words))]
        elif made:
            other = rng.integers(len(made))
            made[position], made[other] = made[other], made[position]
    return " ".join(made)


def _apart(words: Sequence[str]) -> list[str]:
    return [part for word in words for part in word.split()]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where caption_metrics.md is written")
    parser.add_argument("--texts", type=Path, action="append", required=True, help="a CSV file, .gz or not; may come several times")
    parser.add_argument("--column", action="append", required=True, help="the column with the texts, one for each file")
    parser.add_argument("--captions", type=int, default=2500)
    parser.add_argument("--seed", type=int, default=0)
    return parser


if __name__ == "__main__":
    main()
