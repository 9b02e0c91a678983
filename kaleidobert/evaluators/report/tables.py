"""Results of runs in the layout of the paper's Tables 2 (retrieval) and 3 (classification, captioning), the paper's rows beside ours.

    print("\\n".join(markdown(table) for table in tables([Result("i2t", "runs/i2t/results.json", read_json(...)), ...])))
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from kaleidobert.evaluators.report.tables_layout import MISSING, MODEL_COLUMNS, Cell, Column, Row, Table, markdown, to_json, together, total
from kaleidobert.evaluators.report.tables_paper import (
    CAPTION_KEYS,
    DIRECTIONS,
    INTERVALS,
    LABEL_KEYS,
    LABELS,
    MODALITIES,
    NO_NETWORK,
    PAPER,
    PAPERS,
    PRINTED,
    RANK_KEYS,
    RANKS,
    both,
    printed,
    words,
)
from kaleidobert.evaluators.report.tables_read import NOT_KNOWN, NOT_MEASURED, Counted, Result, beside, head_name, pair_name, pairs

__all__ = ["Result", "TASKS", "kind", "markdown", "tables", "to_json"]

TASKS = {"retrieve": "rank@1", "classify": "accuracy", "caption": "bleu4"}  # and a metric that only this task has


def kind(result: Result) -> str | None:
    """The task whose tables have room for a result; None where none has. Of `kaleidobert evaluate`, its metrics tell."""
    task = result.text("task")
    if task == "evaluate":
        return next((name for name, metric in TASKS.items() if metric in result.group("metrics")), None)
    return task if task in TASKS else None


def tables(results: Sequence[Result]) -> list[Table]:
    """Table 2, Table 3 and their details, as far as the results fill them. Results of other tasks are passed over; those of no
    direction, and of labels that are no category, stand in the details only.

    Raises UserError that names file and key where a result lacks what its task has.
    """
    of = {task: [result for result in results if kind(result) == task] for task in TASKS}
    directed = [result for result in of["retrieve"] if result.text("direction") in DIRECTIONS]
    named = [result for result in of["classify"] if task_of(result)]
    made = [retrieval(directed)] if directed else []
    made += [retrieval_details(of["retrieve"])] if of["retrieve"] else []
    made += [labels_and_captions(named, of["caption"])] if named or of["caption"] else []
    return made + ([label_details(of["classify"])] if of["classify"] else [])


# --- Results of classification and captioning in the layout of the paper's Table 3, and a table of the three macro-F


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
            chance = {"chance": result.optional("metrics", "chance")}
            rows.append(Row(model.row(result.name), "ours", {"head": model.head, "trained": model.trained, **common, **chance, **cells}))
    remarks = ["Macro-F over all classes of the label map, over those present in the evaluation, over those trained; classes: how many."]
    return Table("Classification: three macro-F", columns, rows, remarks)


# --- Results of retrieval in the layout of the paper's Table 2, and a table of bounds and other measures


RETRIEVAL_TOKEN = "i2t|t2i|itr|tir"
SHARE = "share_same_subcategory"
RETRIEVAL_HEADS = (
    "Head: plain is the paper's matching head; product, dual_encoder are ours, and only rows with head plain are the paper's "
    "model. The plain head and the parts of dual_encoder are counted on the same lists as the row above them."
)


def retrieval(results: list[Result]) -> Table:
    """Table 2, of results with a direction: i2t and t2i of one model in one row, what stands beside a head of ours below it."""
    heads = [f"{name} R@{k}" for name in DIRECTIONS.values() for k in RANKS]
    columns = [Column(key, head, 1, 2, 100) for key, head in zip(RANK_KEYS, heads)]
    rows = [Row(name, "paper", PRINTED | total(printed(columns, ranks), RANK_KEYS, "SumR"), PAPERS)
            for name, (ranks, _, _) in PAPER.items()]
    simple, ours = [], []
    for result in results:
        note, chance = _setting(result), dict[str, Cell](NO_NETWORK)
        for key in [f"rank@{k}" for k in RANKS] if result.need("metrics") is not None else []:
            chance[f"{result.text('direction')} {key}"] = result.measure("metrics", key, "chance")
        simple.append(Row("chance", "baseline", chance, note))
        for name in result.group("baselines"):
            simple.append(Row(words(name), "baseline", NO_NETWORK | _ranks(result, "baselines", name), note))
    for pair in pairs(results, [result for result in results if result.text("direction") == "i2t"], RETRIEVAL_TOKEN):
        runs = [result for result in pair if result]
        ours += _ours(pair_name(pair, RETRIEVAL_TOKEN), runs)
    rows += [Row(row.name, row.kind, total(row.cells, RANK_KEYS, "SumR"), row.note) for row in together(simple, ours)]
    remarks = ["ITR: a picture asks for its text; TIR: a text asks for its picture. Rank@K in percent; SumR: the sum of the six.",
               INTERVALS, "The paper does not say how it counts ties.", RETRIEVAL_HEADS, *_own_subcategory(results)]
    return Table("Retrieval (layout of the paper's Table 2)", [*MODEL_COLUMNS, *columns, Column("SumR", "SumR", 1, 2, 100)], rows, remarks)


def _ours(name: str, runs: Sequence[Result]) -> list[Row]:
    """The row of runs that belong together, and one for each model that stands beside theirs."""
    rows = []
    for model, each in beside(runs):
        cells: dict[str, Cell] = {"head": model.head, "trained": model.trained}
        for result, one in each:
            cells |= (_other_ranks(result) if not one.name else {}) | _ranks_of(result, one)
        rows.append(Row(model.row(name), "ours", cells, both(map(_setting, runs))))
    return rows


def _ranks_of(result: Result, model: Counted) -> dict[str, Cell]:
    if model.keys is None:
        return {f"{result.text('direction')} rank@{k}": NOT_MEASURED for k in RANKS}
    return _ranks(result, *model.keys)


def _own_subcategory(results: Sequence[Result]) -> list[str]:
    """How hard the lists are: the other candidates that are of the query's subcategory."""
    shares = {result.name: result.find("candidates", SHARE) for result in results}
    told = ", ".join(f"{name} {100 * share:.1f}%" for name, share in shares.items() if isinstance(share, float))
    return [f"Of the other candidates of a query, as many are of its own subcategory (mean over queries): {told}."] if told else []


def _ranks(result: Result, *keys: str) -> dict[str, Cell]:
    found = result.need(*keys)
    direction = result.text("direction")
    return {f"{direction} rank@{k}": result.measure(*keys, f"rank@{k}") if found is not None else None for k in RANKS}


def _other_ranks(result: Result) -> dict[str, Cell]:
    """Of the other direction, where `kaleidobert evaluate` counted both."""
    if not result.group("other_direction"):
        return {}
    direction = result.text("other_direction", "direction")
    return {f"{direction} rank@{k}": result.measure("other_direction", "metrics", f"rank@{k}") for k in RANKS}


def _setting(result: Result) -> str:
    """Data, protocol and counting of a retrieval result: what two rows must share to be compared."""
    if result.need("metrics") is None:
        return f"{result.data()}; no query has a right candidate"
    size = " to ".join(dict.fromkeys(str(result.whole("metrics", "list_length", name)) for name in ("min", "max")))
    seed = result.find("candidates", "seed")
    protocol, draws = str(result.find("protocol") or "unknown"), result.find("metrics", "draws")
    protocol += f", mean of {draws} draws" if draws else ""
    return (f"{result.data()}; {result.whole('metrics', 'queries'):,} queries, {size} candidates each; protocol {protocol}"
            f"{'' if seed is None else f', lists drawn with seed {seed}'}; ties by {result.text('metrics', 'ties')}")


def retrieval_details(results: list[Result]) -> Table:
    """A row per run, and one for the released way to count where that stands beside ours."""
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
    """'36.9 [36.4, 37.2]': expected, pessimistic, optimistic."""
    scale, digits = (100, 1) if key.startswith("rank") else (1, 1 if key == "median_rank" else 3)
    numbers = [f"{scale * result.number(*keys, key, name):.{digits}f}" for name in ("value", "pessimistic", "optimistic")]
    return f"{numbers[0]} [{numbers[1]}, {numbers[2]}]"
