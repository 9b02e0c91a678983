"""Results of retrieval in the layout of the paper's Table 2, and a table of bounds and other measures."""

from collections.abc import Sequence

from kaleidobert.evaluators.report.tables_layout import MODEL_COLUMNS, Cell, Column, Row, Table, together, total
from kaleidobert.evaluators.report.tables_paper import (
    DIRECTIONS,
    INTERVALS,
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
from kaleidobert.evaluators.report.tables_read import NOT_MEASURED, Counted, Result, beside, pair_name, pairs

TOKEN = "i2t|t2i|itr|tir"
SHARE = "share_same_subcategory"
HEADS = ("Head: plain is the paper's matching head; product, contrast are ours, and only rows with head plain are the paper's model. The "
         "plain head and the parts of contrast are counted on the same lists as the row above them.")


def retrieval(results: list[Result]) -> Table:
    """Table 2, of results with a direction: i2t and t2i of one model in one row, what stands beside a head of ours below it."""
    heads = [f"{name} R@{k}" for name in DIRECTIONS.values() for k in RANKS]
    columns = [Column(key, head, 1, 2, 100) for key, head in zip(RANK_KEYS, heads)]
    rows = [Row(name, "paper", PRINTED | total(printed(columns, ranks), RANK_KEYS, "SumR"), PAPERS)
            for name, (ranks, _, _) in PAPER.items()]
    simple, ours = [], []
    for result in results:
        note, chance = _setting(result), dict(NO_NETWORK)
        for key in [f"rank@{k}" for k in RANKS] if result.need("metrics") is not None else []:
            chance[f"{result.text('direction')} {key}"] = result.measure("metrics", key, "chance")
        simple.append(Row("chance", "baseline", chance, note))
        for name in result.group("baselines"):
            simple.append(Row(words(name), "baseline", NO_NETWORK | _ranks(result, "baselines", name), note))
    for pair in pairs(results, [result for result in results if result.text("direction") == "i2t"], TOKEN):
        runs = [result for result in pair if result]
        ours += _ours(pair_name(pair, TOKEN), runs)
    rows += [Row(row.name, row.kind, total(row.cells, RANK_KEYS, "SumR"), row.note) for row in together(simple, ours)]
    remarks = ["ITR: a picture asks for its text; TIR: a text asks for its picture. Rank@K in percent; SumR: the sum of the six.",
               INTERVALS, "The paper does not say how it counts ties.", HEADS, *_own_subcategory(results)]
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
