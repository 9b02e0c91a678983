"""Made-up retrieval scores, and writers of every type of file that holds scores or captions of other models."""

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kaleidobert.evaluators.files.scores import released_line


@dataclass
class Long:
    """Pairs, one after another."""

    queries: list[str]
    candidates: list[str]
    labels: list[int]
    scores: list[float]

    def rows(self):
        return zip(self.queries, self.candidates, self.labels, self.scores)


def random_pairs(seed: int = 0, queries: int = 12, most: int = 9, levels: int = 4) -> Long:
    """Lists of 2 to ``most`` candidates with few distinct scores, in file order of their queries; at least one right each."""
    rng = np.random.Generator(np.random.Philox(seed))
    made = Long([], [], [], [])
    for query in range(queries):
        length = int(rng.integers(2, most + 1))
        labels = rng.random(length) < 0.2
        labels[rng.integers(length)] = True
        made.queries += [f"q{query}"] * length
        made.candidates += [f"c{name}" for name in rng.permutation(40)[:length]]
        made.labels += labels.astype(int).tolist()
        made.scores += (rng.integers(levels, size=length) / 4 - 0.25).tolist()
    return made


def write(path: Path, pairs: Long, names=("query", "candidate", "label", "score"), batch: int = 5) -> Path:
    """The pairs in the format that the name asks for: .csv, .tsv, .jsonl, .npz, lists.jsonl, .txt (a released result file)."""
    columns = dict(zip(names, (pairs.queries, pairs.candidates, pairs.labels, pairs.scores)))
    if path.suffix == ".npz":
        np.savez(path, **{name: np.array(values) for name, values in columns.items()})
    elif path.suffix == ".txt":
        path.write_text(released(pairs, batch), encoding="utf-8")
    elif path.name.endswith("lists.jsonl"):
        path.write_text("".join(json.dumps(row) + "\n" for row in grouped(pairs)), encoding="utf-8")
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(dict(zip(names, row))) + "\n" for row in pairs.rows()), encoding="utf-8")
    else:
        text = io.StringIO()
        writer = csv.writer(text, delimiter="\t" if path.suffix == ".tsv" else ",", lineterminator="\n")
        writer.writerows([names, *pairs.rows()])
        path.write_text(text.getvalue(), encoding="utf-8")
    return path


def grouped(pairs: Long) -> list[dict]:
    """As `kaleidobert retrieve` writes them."""
    lines: dict[str, dict] = {}
    for query, candidate, label, score in pairs.rows():
        line = lines.setdefault(query, {"query": query, "candidates": [], "relevant": [], "scores": []})
        for name, value in (("candidates", candidate), ("relevant", label), ("scores", score)):
            line[name].append(value)
    return list(lines.values())


def released(pairs: Long, batch: int) -> str:
    """A released result file of texts that answer pictures (i2t), ``batch`` pairs per line."""
    lines = []
    for start in range(0, len(pairs.queries), batch):
        part = slice(start, start + batch)
        logits = np.stack([np.zeros(len(pairs.scores[part])), pairs.scores[part]], axis=1)
        pictures = [f"{name}_0" for name in pairs.queries[part]]
        lines.append(released_line(pairs.candidates[part], pairs.queries[part], pictures, np.array(pairs.labels[part]), logits))
    return "\n".join(lines) + "\n"


def write_caption_lines(path: Path, ids, captions) -> None:
    """Writes captions as JSONL."""
    path.write_text("".join(json.dumps({"image_id": name, "caption": text}) + "\n" for name, text in zip(ids, captions)))


def write_reference_lines(path: Path, ids, references) -> None:
    """Writes references as JSONL."""
    path.write_text("".join(json.dumps({"image_id": name, "references": several}) + "\n" for name, several in zip(ids, references)))
