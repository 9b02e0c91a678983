"""Results of classification and captioning in the layout of the paper's Table 3, and a table of the three macro-F."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kaleidobert.evaluators.report.tables_layout import MISSING, MODEL_COLUMNS, Cell, Column, Row, Table, together, total
from kaleidobert.evaluators.report.tables_paper import (
    CAPTION_KEYS,
    INTERVALS,
    LABEL_KEYS,
    LABELS,
    MODALITIES,
    NO_NETWORK,
    PAPER,
    PAPERS,
    PRINTED,
    both,
    printed,
    words,
)
from kaleidobert.evaluators.report.tables_read import NOT_KNOWN, NOT_MEASURED, Counted, Result, beside, head_name, pair_name, pairs

HEADS = ("Head: plain is the paper's; wide, and captions not of mode mask-all or chosen by a matcher, are ours, and only rows with head "
         "plain are the paper's model. The plain head and the parts of wide are counted on the same examples as the row above them.")
TOKEN = "(?<![a-zA-Z])(?:subcategory|subcat|sub|category|cat|cr)(?![a-zA-Z])"


def labels_and_captions(labelled: list[Result], captioned: list[Result]) -> Table:
    """Table 3, of results whose label has a column (``task_of``) and of captions, which have rows of their own."""
    columns = []
    for name in LABELS.values():
        columns += [Column(f"{name} accuracy", f"{name} ACC", 1, 2, 100), Column(f"{name} macro_f1_all", f"{name} macro-F", 3, 3)]
    columns.append(Column("Sum CLS", "Sum CLS", 1, 2, 100))
    columns += [Column(key, head, 1, 1, 100) for key, head in CAPTION_KEYS.items()]
    rows, simple, ours = [], [], []
    for name, (_, labels, captions) in PAPER.items():
        cells = total(printed(columns[:4], labels), LABEL_KEYS, "Sum CLS")
        rows.append(Row(name, "paper", {**PRINTED, **cells, **printed(columns[5:], captions)}, PAPERS))
    for result in labelled:
        simple += _label_baselines(result)
    for modality in dict.fromkeys(result.text("modality") for result in labelled):
        part = [result for result in labelled if result.text("modality") == modality]
        for pair in pairs(part, [result for result in part if task_of(result) == "CR"], TOKEN):
            runs = [result for result in pair if result]
            name, note = f"{pair_name(pair, TOKEN)} ({MODALITIES.get(modality, modality)})", both(map(_label_setting, runs))
            for model, each in beside(runs):
                cells = {key: cell for result, one in each for key, cell in _label_cells(result, one).items()}
                cells |= {"head": model.head, "trained": model.trained}
                ours.append(Row(model.row(name), "ours", total(cells, LABEL_KEYS, "Sum CLS"), note))
    rows += together(simple, ours)
    rows += together([row for result in captioned for row in _caption_baselines(result)],
                     [row for result in captioned for row in _captions(result)])
    remarks = ["CR, SUB: recognition of the category and of the subcategory; accuracy in percent; macro-F over all classes of the label "
               "map, absent ones counting 0, as released. Sum CLS: accuracies and macro-F times 100, added.", INTERVALS, HEADS]
    if captioned:
        remarks.append("BLEU-4, METEOR, ROUGE-L and CIDEr-D times 100; the paper gives CIDEr.")
    return Table("Classification and captioning (layout of the paper's Table 3)", [*MODEL_COLUMNS, *columns], rows, remarks)


def task_of(result: Result) -> str:
    """CR, SUB, or neither: of the label's name, such as img_subcategory or subcategory_std."""
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
        rows.append(Row(words(name), "baseline", cells, note))
    return rows


def _captions(result: Result) -> list[Row]:
    """`kaleidobert evaluate` knows neither mode nor length. Where a matcher chose, the captioner's own words have a row too."""
    length, name, way = result.find("length"), result.name, ""
    if result.text("task") == "caption":
        way = f"{result.text('mode')}, {'length of the reference, an oracle' if length == 'oracle' else f'length: {length}'}"
    model, own = result.model(), result.group("model", "writer") or result.model()
    if by := result.group("model", "chosen_by"):
        model = {**model, "trained": f"{model['trained']} | matcher: {head_name(by)}, {by.get('trained')}"}
    rows = [Row(f"{name} ({way})" if way else name, "ours", _named(model) | _caption_cells(result, "metrics"), result.data())]
    if (share := result.find("share_found")) is not None:
        rows[0] = replace(rows[0], name=f"{name} ({way}; chosen by the matcher, {share:.0%} texts of training products)")
        trained = {"trained": result.model().get("trained", NOT_KNOWN)}
        rows.append(Row(f"{name} ({way}; its own words)", "ours", _named({**own, **trained}) | _caption_cells(result, "written"),
                        result.data()))
    return rows


def _named(model: Mapping[str, Any]) -> dict[str, Cell]:
    return {"head": head_name(model), "trained": str(model.get("trained", NOT_KNOWN))}


def _caption_cells(result: Result, *keys: str) -> dict[str, Cell]:
    """METEOR is null where there was no Java; older baselines lack it and others."""
    found = result.group(*keys)
    cells: dict[str, Cell] = {key: result.measure(*keys, key) for key in CAPTION_KEYS if len(keys) == 1 or key in found}
    if "meteor" in cells and cells["meteor"] is None:
        cells["meteor"] = "needs Java"
    return cells


def _caption_baselines(result: Result) -> list[Row]:
    return [Row(words(name), "baseline", NO_NETWORK | _caption_cells(result, "baselines", name), result.data())
            for name in result.group("baselines")]


def label_details(results: list[Result]) -> Table:
    """A row per run, and for what stands beside a head of ours: three macro-F, and of how many classes."""
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
            common["chance"] = result.optional("metrics", "chance")
            rows.append(Row(model.row(result.name), "ours", {"head": model.head, "trained": model.trained, **common, **cells}))
    remarks = ["Macro-F over all classes of the label map, over those present in the evaluation, over those trained; classes: how many."]
    return Table("Classification: three macro-F", columns, rows, remarks)
