"""Results of runs in the layout of the paper's Tables 2 (retrieval) and 3 (classification, captioning), the paper's rows beside ours.

    print("\\n".join(markdown(table) for table in tables([Result("i2t", "runs/i2t/results.json", read_json(...)), ...])))

Tables are values; ``markdown`` also reads well in a terminal, ``to_json`` keeps them for programs.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from kaleidobert.evaluators.report.results import (
    NOT_KNOWN,
    NOT_MEASURED,
    Counted,
    Result,
    Value,
    head_name,
    models_by_row,
    pair_name,
    pairs,
)
from kaleidobert.evaluators.retrieval import RANKS

MISSING = "–"
TASKS = {"retrieve": "rank@1", "classify": "accuracy", "caption": "bleu4"}  # and a metric that only this task has
# name: ITR Rank@1/5/10, TIR Rank@1/5/10; accuracy and macro-F1 of categories, of subcategories; BLEU-4, METEOR, ROUGE-L, CIDEr.
# As printed: all in percent but macro-F1.
PAPER = {
    "FashionBERT": ((23.96, 46.31, 52.12, 26.75, 46.48, 55.74), (91.25, 0.705, 85.27, 0.620), (3.3, 9.8, 29.7, 30.1)),
    "ImageBERT": ((22.76, 41.89, 50.77, 24.78, 45.20, 55.90), (90.77, 0.699, 80.11, 0.575), ()),
    "OSCAR": ((23.39, 44.67, 52.55, 25.10, 49.14, 56.68), (91.79, 0.727, 84.23, 0.591), (4.5, 10.9, 30.1, 30.7)),
    "Kaleido-BERT": ((27.99, 60.09, 68.37, 33.88, 60.60, 68.59), (95.07, 0.714, 88.07, 0.636), (5.7, 12.8, 32.9, 32.6)),
}
PRINTED = {"head": "as printed", "trained": "as printed"}
NO_NETWORK = {"head": "no network"}
PAPERS = "The paper's figure, on Fashion-Gen; not comparable with rows on other data"
DIRECTIONS = {"i2t": "ITR", "t2i": "TIR"}
RANK_KEYS = [f"{direction} rank@{k}" for direction in DIRECTIONS for k in RANKS]
LABELS = {"category": "CR", "subcategory": "SUB"}
LABEL_KEYS = [f"{label} {metric}" for label in LABELS.values() for metric in ("accuracy", "macro_f1_all")]
CAPTION_KEYS = {"bleu4": "BLEU-4", "meteor": "METEOR", "rouge_l": "ROUGE-L", "cider_d": "CIDEr-D"}
BASELINES = {
    "ridge": "ridge regression to TF-IDF", "subcategory_oracle": "oracle of the subcategory",
    "nearest_neighbours_image": "nearest neighbours, picture", "logistic_regression_image": "logistic regression, picture",
    "logistic_regression_text": "logistic regression, text", "commonest_of_subcategory": "most frequent caption of the subcategory",
    "nearest_picture": "caption of the nearest picture"}
MODALITIES = {"both": "picture and text", "image": "picture", "text": "text"}
INTERVALS = "In brackets: 95% intervals, by bootstrap over queries or examples."
LABEL_HEADS = (
    "Head: plain is the paper's; wide, and captions not of mode mask-all or chosen by a matcher, are ours, and only rows with head "
    "plain are the paper's model. The plain head and the parts of wide are counted on the same examples as the row above them."
)
LABEL_TOKEN = "(?<![a-zA-Z])(?:subcategory|subcat|sub|category|cat|cr)(?![a-zA-Z])"
RETRIEVAL_TOKEN = "i2t|t2i|itr|tir"
SHARE = "share_same_subcategory"
RETRIEVAL_HEADS = (
    "Head: plain is the paper's matching head; product, contrastive, dual_encoder are ours, and only rows with head plain, "
    "pre-trained without image-text contrast, are the paper's model. The plain head and the parts of the last two are counted on the same "
    "lists as the row above them."
)

Cell = Value | str | None


@dataclass(frozen=True)
class Column:
    """digits: behind the point; printed: those of the paper's numbers. scale: factor of a value when it is shown."""

    key: str
    head: str
    digits: int = 0
    printed: int = 0
    scale: float = 1.0


MODEL_COLUMNS = (Column("head", "head"), Column("trained", "trained"))  # which model a row is of, in every table


@dataclass(frozen=True)
class Row:
    """origin: whose numbers. cells: {column's key: cell}, a missing key = none.

    note: the conditions of the row; rows with equal notes have one footnote.
    """

    name: str
    origin: Literal["paper", "baseline", "ours"]
    cells: Mapping[str, Cell]
    note: str = ""


@dataclass(frozen=True)
class Table:
    """remarks: lines below the footnotes, about the whole table."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    remarks: Sequence[str] = field(default=())


def task_with_tables(result: Result) -> str | None:
    """Returns the task whose tables a result belongs to, None where there is none; for `kaleidobert evaluate` its metrics decide."""
    task = result.text("task")
    if task == "evaluate":
        return next((name for name, metric in TASKS.items() if metric in result.group("metrics")), None)
    return task if task in TASKS else None


def tables(results: Sequence[Result]) -> list[Table]:
    """Returns Table 2, Table 3 and their details, as far as the results fill them.

    Results of other tasks are skipped; those without a direction, and those of labels that are no category, are in the details only.
    Raises UserError, which names file and key, where a result lacks an entry of its task.
    """
    of = {task: [result for result in results if task_with_tables(result) == task] for task in TASKS}
    directed = [result for result in of["retrieve"] if result.text("direction") in DIRECTIONS]
    named = [result for result in of["classify"] if task_of(result)]
    made = [retrieval(directed)] if directed else []
    made += [retrieval_details(of["retrieve"])] if of["retrieve"] else []
    made += [labels_and_captions(named, of["caption"])] if named or of["caption"] else []
    return made + ([label_details(of["classify"])] if of["classify"] else [])


def markdown(table: Table) -> str:
    """Returns heading, table with aligned columns, footnotes and remarks."""
    notes = list(dict.fromkeys(row.note for row in table.rows if row.note))
    lines = [["", *(column.head for column in table.columns)]]
    for row in table.rows:
        mark = f" [{notes.index(row.note) + 1}]" if row.note else ""
        name = f"**{plain(row.name)}**" if row.origin == "ours" else plain(row.name)
        lines.append([name + mark, *(plain(show(row.cells.get(column.key), column, row.origin)) for column in table.columns)])
    widths = [max(map(len, cells)) for cells in zip(*lines)]
    made = ["| " + " | ".join([line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:]))]) + " |"
            for line in lines]
    made.insert(1, "|" + "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])]) + "|")
    below = [f"[{number}] {plain(note)}" for number, note in enumerate(notes, 1)] + list(table.remarks)
    return "\n".join([f"## {table.title}", "", *made, *(["", *(f"- {line}" for line in below)] if below else []), ""])


def to_json(table: Table) -> dict[str, Any]:
    """Returns the table ready for JSON; values are not scaled."""
    rows = [{"name": row.name, "kind": row.origin, "note": row.note,
             "cells": {column.key: _plain_value(row.cells.get(column.key)) for column in table.columns}} for row in table.rows]
    columns = [{"key": column.key, "head": column.head, "scale": column.scale} for column in table.columns]
    return {"title": table.title, "columns": columns, "rows": rows, "remarks": list(table.remarks)}


# --- Classification and captioning: the paper's Table 3, and a table of the three macro-F1


def labels_and_captions(labelled: list[Result], captioned: list[Result]) -> Table:
    """Returns Table 3, of results whose label has a column (``task_of``) and of captions, which have rows of their own."""
    columns = []
    for name in LABELS.values():
        columns += [Column(f"{name} accuracy", f"{name} ACC", 1, 2, 100), Column(f"{name} macro_f1_all", f"{name} macro-F", 3, 3)]
    columns.append(Column("Sum CLS", "Sum CLS", 1, 2, 100))
    columns += [Column(key, head, 1, 1, 100) for key, head in CAPTION_KEYS.items()]
    rows, simple, ours = [], [], []
    for name, (_, labels, captions) in PAPER.items():
        cells = with_sum(paper_cells(columns[:4], labels), LABEL_KEYS, "Sum CLS")
        rows.append(Row(name, "paper", {**PRINTED, **cells, **paper_cells(columns[5:], captions)}, PAPERS))
    for result in labelled:
        simple += _label_baselines(result)
    for modality in dict.fromkeys(result.text("modality") for result in labelled):
        of_modality = [result for result in labelled if result.text("modality") == modality]
        for pair in pairs(of_modality, [result for result in of_modality if task_of(result) == "CR"], LABEL_TOKEN):
            runs = [result for result in pair if result]
            name, note = f"{pair_name(pair, LABEL_TOKEN)} ({MODALITIES.get(modality, modality)})", joint_note(map(_label_setting, runs))
            for model, each in models_by_row(runs):
                cells = {key: cell for result, one in each for key, cell in _label_cells(result, one).items()}
                cells |= {"head": model.head, "trained": model.trained}
                ours.append(Row(model.row(name), "ours", with_sum(cells, LABEL_KEYS, "Sum CLS"), note))
    rows += ordered(simple, ours)
    rows += ordered([row for result in captioned for row in _caption_baselines(result)],
                     [row for result in captioned for row in _captions(result)])
    remarks = ["CR, SUB: recognition of the category and of the subcategory; accuracy in percent; macro-F over all classes of the label "
               "map, absent ones counting 0, as released. Sum CLS: accuracies and macro-F times 100, added.", INTERVALS, LABEL_HEADS]
    if captioned:
        remarks.append("BLEU-4, METEOR, ROUGE-L and CIDEr-D times 100; the paper gives CIDEr.")
    return Table("Classification and captioning (layout of the paper's Table 3)", [*MODEL_COLUMNS, *columns], rows, remarks)


def task_of(result: Result) -> str:
    """Returns CR, SUB or "" by the label's name, such as img_subcategory or subcategory_std."""
    label = result.text("label").lower()
    return "SUB" if "subcat" in label else "CR" if "categ" in label else ""


def _label_setting(result: Result) -> str:
    return f"{result.data()}; {result.whole('metrics', 'n'):,} examples"


def _label_cells(result: Result, model: Counted) -> dict[str, Cell]:
    return {f"{task_of(result)} {metric}": result.measure(*model.keys, metric) if model.keys else NOT_MEASURED
            for metric in ("accuracy", "macro_f1_all")}


def _label_baselines(result: Result) -> list[Row]:
    task, note = task_of(result), _label_setting(result)
    rows = [Row("commonest class", "baseline", NO_NETWORK | {f"{task} accuracy": result.optional("metrics", "chance")}, note)]
    for name, numbers in result.group("baselines").items():
        keys = ("baselines", name, "accuracy") if isinstance(numbers, Mapping) and "accuracy" in numbers else ("baselines", name)
        cells = NO_NETWORK | {f"{task} accuracy": result.measure(*keys)}
        if len(keys) == 3 and "macro_f1_all" in numbers:
            cells[f"{task} macro_f1_all"] = result.measure("baselines", name, "macro_f1_all")
        rows.append(Row(baseline_name(name), "baseline", cells, note))
    return rows


def _captions(result: Result) -> list[Row]:
    """Returns the rows of a result; where a matcher chose, the captioner's own words have a row, too.

    `kaleidobert evaluate` has no mode and length.
    """
    length, name, way = result.find("length"), result.name, ""
    if result.text("task") == "caption":
        way = f"{result.text('mode')}, {'length of the reference, an oracle' if length == 'oracle' else f'length: {length}'}"
    model, own = result.model(), result.group("model", "writer") or result.model()
    if by := result.group("model", "chosen_by"):
        model = {**model, "trained": f"{model['trained']} | matcher: {head_name(by)}, {by.get('trained')}"}
    rows = [Row(f"{name} ({way})" if way else name, "ours", _named(model) | _caption_cells(result, "metrics"), result.data())]
    if (fraction := result.find("share_found")) is not None:
        rows[0] = replace(rows[0], name=f"{name} ({way}; chosen by the matcher, {fraction:.0%} texts of training products)")
        trained = {"trained": result.model().get("trained", NOT_KNOWN)}
        rows.append(Row(f"{name} ({way}; its own words)", "ours", _named({**own, **trained}) | _caption_cells(result, "written"),
                        result.data()))
    return rows


def _named(model: Mapping[str, Any]) -> dict[str, Cell]:
    return {"head": head_name(model), "trained": str(model.get("trained", NOT_KNOWN))}


def _caption_cells(result: Result, *keys: str) -> dict[str, Cell]:
    """Returns the cells of captions. METEOR is null where there was no Java; older baselines lack it and others."""
    figures = result.group(*keys)
    cells: dict[str, Cell] = {key: result.measure(*keys, key) for key in CAPTION_KEYS if len(keys) == 1 or key in figures}
    if "meteor" in cells and cells["meteor"] is None:
        cells["meteor"] = "needs Java"
    return cells


def _caption_baselines(result: Result) -> list[Row]:
    return [Row(baseline_name(name), "baseline", NO_NETWORK | _caption_cells(result, "baselines", name), result.data())
            for name in result.group("baselines")]


def label_details(results: list[Result]) -> Table:
    """Returns a row per run, and per part of a head of ours: three macro-F1, and of how many classes."""
    sets = ("all", "present", "trained")
    columns = [*MODEL_COLUMNS, Column("label", "label"), Column("modality", "from"), Column("n", "examples"),
               Column("accuracy", "ACC", 1, 1, 100), *(Column(f"macro_f1_{name}", f"macro-F {name}", 3) for name in sets),
               Column("classes", "classes"), Column("chance", "commonest class", 1, 1, 100)]
    rows = []
    for result in results:
        names = ("accuracy", *(f"macro_f1_{name}" for name in sets))
        common = {"label": result.text("label"), "modality": MODALITIES.get(result.text("modality"), result.text("modality")),
                  "n": f"{result.whole('metrics', 'n'):,}",
                  "classes": " / ".join(str(result.find("metrics", "num_classes", name) or MISSING) for name in sets)}
        for model in result.counted():
            cells: dict[str, Cell] = {"accuracy": NOT_MEASURED}
            if model.keys:
                cells = {name: result.optional(*model.keys, name) for name in names}
            chance = {"chance": result.optional("metrics", "chance")}
            rows.append(Row(model.row(result.name), "ours", {"head": model.head, "trained": model.trained, **common, **chance, **cells}))
    remarks = ["Macro-F over all classes of the label map, over those present in the evaluation, over those trained; classes: how many."]
    return Table("Classification: three macro-F", columns, rows, remarks)


# --- Retrieval: the paper's Table 2, and a table of bounds and other measures


def retrieval(results: list[Result]) -> Table:
    """Returns Table 2, of results with a direction: i2t and t2i of one model in one row, below it the parts of a head of ours."""
    heads = [f"{name} R@{k}" for name in DIRECTIONS.values() for k in RANKS]
    columns = [Column(key, head, 1, 2, 100) for key, head in zip(RANK_KEYS, heads)]
    rows = [Row(name, "paper", PRINTED | with_sum(paper_cells(columns, ranks), RANK_KEYS, "SumR"), PAPERS)
            for name, (ranks, _, _) in PAPER.items()]
    simple, ours = [], []
    for result in results:
        note, chance = _setting(result), dict[str, Cell](NO_NETWORK)
        for key in [f"rank@{k}" for k in RANKS] if result.need("metrics") is not None else []:
            chance[f"{result.text('direction')} {key}"] = result.measure("metrics", key, "chance")
        simple.append(Row("chance", "baseline", chance, note))
        for name in result.group("baselines"):
            simple.append(Row(baseline_name(name), "baseline", NO_NETWORK | _ranks(result, "baselines", name), note))
    for pair in pairs(results, [result for result in results if result.text("direction") == "i2t"], RETRIEVAL_TOKEN):
        runs = [result for result in pair if result]
        ours += _ours(pair_name(pair, RETRIEVAL_TOKEN), runs)
    rows += [Row(row.name, row.origin, with_sum(row.cells, RANK_KEYS, "SumR"), row.note) for row in ordered(simple, ours)]
    remarks = ["ITR: a picture asks for its text; TIR: a text asks for its picture. Rank@K in percent; SumR: the sum of the six.",
               INTERVALS, "The paper does not say how it counts ties.", RETRIEVAL_HEADS, *_own_subcategory(results)]
    return Table("Retrieval (layout of the paper's Table 2)", [*MODEL_COLUMNS, *columns, Column("SumR", "SumR", 1, 2, 100)], rows, remarks)


def _ours(name: str, runs: Sequence[Result]) -> list[Row]:
    """Returns the row of runs that belong together, and one for each of their other models."""
    rows = []
    for model, each in models_by_row(runs):
        cells: dict[str, Cell] = {"head": model.head, "trained": model.trained}
        for result, one in each:
            cells |= (_other_ranks(result) if not one.name else {}) | _ranks_of(result, one)
        rows.append(Row(model.row(name), "ours", cells, joint_note(map(_setting, runs))))
    return rows


def _ranks_of(result: Result, model: Counted) -> dict[str, Cell]:
    if model.keys is None:
        return {f"{result.text('direction')} rank@{k}": NOT_MEASURED for k in RANKS}
    return _ranks(result, *model.keys)


def _own_subcategory(results: Sequence[Result]) -> list[str]:
    """Returns a line about how hard the lists are: how many of the other candidates are of the query's subcategory."""
    fractions = {result.name: result.find("candidates", SHARE) for result in results}
    listed = ", ".join(f"{name} {100 * value:.1f}%" for name, value in fractions.items() if isinstance(value, float))
    return [f"Of the other candidates of a query, as many are of its own subcategory (mean over queries): {listed}."] if listed else []


def _ranks(result: Result, *keys: str) -> dict[str, Cell]:
    metrics = result.need(*keys)
    direction = result.text("direction")
    return {f"{direction} rank@{k}": result.measure(*keys, f"rank@{k}") if metrics is not None else None for k in RANKS}


def _other_ranks(result: Result) -> dict[str, Cell]:
    """Returns the ranks of the other direction, where `kaleidobert evaluate` has both."""
    if not result.group("other_direction"):
        return {}
    direction = result.text("other_direction", "direction")
    return {f"{direction} rank@{k}": result.measure("other_direction", "metrics", f"rank@{k}") for k in RANKS}


def _setting(result: Result) -> str:
    """Describes data, protocol and counting of a retrieval result: only rows with equal ones can be compared."""
    if result.need("metrics") is None:
        return f"{result.data()}; no query has a right candidate"
    size = " to ".join(dict.fromkeys(str(result.whole("metrics", "list_length", name)) for name in ("min", "max")))
    seed = result.find("candidates", "seed")
    protocol, draws = str(result.find("protocol") or "unknown"), result.find("metrics", "draws")
    protocol += f", mean of {draws} draws" if draws else ""
    if recall := result.group("two_stages", "recall"):
        k, name = result.whole("two_stages", "rerank"), result.text("two_stages", "stage_one")
        ceilings = ", ".join(f"{each}: {100 * result.number('two_stages', 'recall', each):.1f}" for each in recall)
        protocol += f" by two stages, the first {k} of {name} re-ranked (percent of queries whose right one is among the first {ceilings})"
    return (f"{result.data()}; {result.whole('metrics', 'queries'):,} queries, {size} candidates each; protocol {protocol}"
            f"{'' if seed is None else f', lists drawn with seed {seed}'}; ties by {result.text('metrics', 'ties')}")


def retrieval_details(results: list[Result]) -> Table:
    """Returns a row per run, and one for the released way to count where the result has it."""
    heads = {**{f"rank@{k}": f"R@{k}" for k in RANKS}, "mrr": "MRR", "median_rank": "median rank", "map": "mAP"}
    columns = [*MODEL_COLUMNS, Column("direction", ""), Column("queries", "queries"), *(Column(key, head) for key, head in heads.items()),
               Column("share_tied", "tied", 1, 1, 100), Column("share_several_right", "several right", 1, 1, 100),
               Column(SHARE, "own subcategory", 1, 1, 100), Column("lists", "lists")]
    rows = []
    for result in results:
        common = {"direction": DIRECTIONS.get(result.text("direction"), result.text("direction")),
                  "lists": str(result.find("candidates", "sha256") or "")[:12] or None,
                  SHARE: result.measure("candidates", SHARE) if result.find("candidates", SHARE) is not None else None}
        for model in result.counted() if result.need("metrics") is not None else []:
            common |= {"head": model.head, "trained": model.trained, "queries": f"{result.whole('metrics', 'queries'):,}"}
            cells: dict[str, Cell] = {"rank@1": NOT_MEASURED}
            if model.keys:
                cells = {key: _bounds(result, model.keys, key) for key in heads}
                cells |= {key: result.measure(*model.keys, key) for key in ("share_tied", "share_several_right")}
            rows.append(Row(model.row(result.name), "ours", {**common, **cells}))
        if result.group("released_counting"):
            own = result.counted()[0]
            common |= {"head": own.head, "trained": own.trained}
            cells = {f"rank@{k}": f"{100 * result.number('released_counting', f'rank@{k}'):.1f}" for k in RANKS}
            queries = f"{result.whole('released_counting', 'queries'):,}"
            rows.append(Row(f"{result.name}, counted as released", "ours", {**common, **cells, "queries": queries}))
    remarks = ["In brackets: the same scores with the right ones last, and first, among equal scores. Tied: percent of queries whose right "
               "candidate has a wrong one beside it; several right: percent with more than one right candidate. Own subcategory: percent "
               "of the other candidates that are of the query's, mean over queries. Lists: the start of their SHA-256."]
    return Table("Retrieval: bounds of ties, other measures", columns, rows, remarks)


def _bounds(result: Result, keys: tuple[str, ...], key: str) -> str:
    """Formats '36.9 [36.4, 37.2]': expected, pessimistic, optimistic."""
    scale, digits = (100, 1) if key.startswith("rank") else (1, 1 if key == "median_rank" else 3)
    numbers = [f"{scale * result.number(*keys, key, name):.{digits}f}" for name in ("value", "pessimistic", "optimistic")]
    return f"{numbers[0]} [{numbers[1]}, {numbers[2]}]"


# --- Rows and cells


def paper_cells(columns: Sequence[Column], numbers: Sequence[float]) -> dict[str, Cell]:
    """Returns the paper's numbers, unscaled; none where it has none."""
    return {column.key: Value(number / column.scale) for column, number in zip(columns, numbers)}


def joint_note(settings: Iterable[str]) -> str:
    """Returns one note of two runs, whose notes are mostly equal."""
    return " | ".join(dict.fromkeys(settings))


def baseline_name(name: str) -> str:
    """Returns the name of a baseline as a table shows it."""
    return BASELINES.get(name, name.replace("_", " "))


def merge_rows(rows: Sequence[Row]) -> list[Row]:
    """Joins rows of one name and note where no cell contradicts; the order is that of the first ones."""
    joined: list[Row] = []
    for row in rows:
        for position, other in enumerate(joined):
            if (other.name, other.origin, other.note) == (row.name, row.origin, row.note) and _agree(other.cells, row.cells):
                joined[position] = Row(row.name, row.origin, {**other.cells, **row.cells}, row.note)
                break
        else:
            joined.append(row)
    return joined


def ordered(simple: list[Row], ours: list[Row]) -> list[Row]:
    """Orders baselines, then runs, setting by setting."""
    rows = [*merge_rows(simple), *ours]
    order = {note: number for number, note in enumerate(dict.fromkeys(row.note for row in rows))}
    return sorted(rows, key=lambda row: (order[row.note], row.origin == "ours"))


def with_sum(cells: Mapping[str, Cell], keys: Sequence[str], name: str) -> dict[str, Cell]:
    """Returns the cells with the sum of those under ``keys``, where all are there."""
    values = [value for value in map(cells.get, keys) if isinstance(value, Value)]
    return {**cells, name: Value(sum(value.value for value in values)) if len(values) == len(keys) else None}


def _agree(one: Mapping[str, Cell], other: Mapping[str, Cell]) -> bool:
    return all(_same(one[key], other[key]) for key in one.keys() & other.keys())


def _same(one: Cell, other: Cell) -> bool:
    """Whether cells are equal; sums over the same numbers in another order differ in the last digit."""
    if isinstance(one, Value) and isinstance(other, Value):
        return abs(one.value - other.value) < 1e-9
    return one == other


def show(cell: Cell, column: Column, origin: str) -> str:
    """Returns a cell as a table shows it. origin: of its row."""
    if cell is None:
        return MISSING
    if isinstance(cell, str):
        return cell
    digits = column.printed if origin == "paper" else column.digits
    numbers = [f"{number * column.scale:.{digits}f}" for number in (cell.value, cell.low, cell.high) if number is not None]
    return f"{numbers[0]} [{numbers[1]}, {numbers[2]}]" if len(numbers) == 3 else numbers[0]


def _plain_value(cell: Cell) -> Any:
    return vars(cell) if isinstance(cell, Value) else cell


def plain(text: str) -> str:
    """Returns a text for Markdown: what would end a cell or start markup is escaped."""
    for mark in "\\|*`<":
        text = text.replace(mark, "\\" + mark)
    return " ".join(text.split())
