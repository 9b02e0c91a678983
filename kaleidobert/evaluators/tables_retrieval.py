"""Results of retrieval in the layout of the paper's Table 2, and a table of bounds and other measures."""

from kaleidobert.evaluators.tables_layout import Cell, Column, Row, Table, together, total
from kaleidobert.evaluators.tables_paper import DIRECTIONS, INTERVALS, PAPER, PAPERS, RANK_KEYS, RANKS, both, printed, words
from kaleidobert.evaluators.tables_read import Result, pair_name, pairs

TOKEN = "i2t|t2i|itr|tir"


def retrieval(results: list[Result]) -> Table:
    """Table 2, of results with a direction: i2t and t2i of one model in one row."""
    heads = [f"{name} R@{k}" for name in DIRECTIONS.values() for k in RANKS]
    columns = [Column(key, head, 1, 2, 100) for key, head in zip(RANK_KEYS, heads)]
    rows = [Row(name, "paper", total(printed(columns, ranks), RANK_KEYS, "SumR"), PAPERS) for name, (ranks, _, _) in PAPER.items()]
    simple, ours = [], []
    for result in results:
        note, chance = _setting(result), {}
        for key in [f"rank@{k}" for k in RANKS] if result.need("metrics") is not None else []:
            chance[f"{result.text('direction')} {key}"] = result.measure("metrics", key, "chance")
        simple.append(Row("chance", "baseline", chance, note))
        for name in result.group("baselines"):
            simple.append(Row(words(name), "baseline", _ranks(result, "baselines", name), note))
    for pair in pairs(results, [result for result in results if result.text("direction") == "i2t"], TOKEN):
        runs = [result for result in pair if result]
        cells = {key: cell for result in runs for key, cell in (_other_ranks(result) | _ranks(result, "metrics")).items()}
        ours.append(Row(pair_name(pair, TOKEN), "ours", cells, both(map(_setting, runs))))
    rows += [Row(row.name, row.kind, total(row.cells, RANK_KEYS, "SumR"), row.note) for row in together(simple, ours)]
    remarks = ["ITR: a picture asks for its text; TIR: a text asks for its picture. Rank@K in percent; SumR: the sum of the six.",
               INTERVALS, "The paper does not say how it counts ties."]
    return Table("Retrieval (layout of the paper's Table 2)", [*columns, Column("SumR", "SumR", 1, 2, 100)], rows, remarks)


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
    columns = [Column("direction", ""), Column("queries", "queries"), *(Column(key, head) for key, head in heads.items()),
               Column("share_tied", "tied", 1, 1, 100), Column("share_several_right", "several right", 1, 1, 100), Column("lists", "lists")]
    rows = []
    for result in results:
        common = {"direction": DIRECTIONS.get(result.text("direction"), result.text("direction")),
                  "lists": str(result.find("candidates", "sha256") or "")[:12] or None}
        if result.need("metrics") is not None:
            cells: dict[str, Cell] = {key: _bounds(result, key) for key in heads}
            cells |= {key: result.measure("metrics", key) for key in ("share_tied", "share_several_right")}
            rows.append(Row(result.name, "ours", {**common, **cells, "queries": f"{result.whole('metrics', 'queries'):,}"}))
        if result.group("released_counting"):
            cells = {f"rank@{k}": f"{100 * result.number('released_counting', f'rank@{k}'):.1f}" for k in RANKS}
            queries = f"{result.whole('released_counting', 'queries'):,}"
            rows.append(Row(f"{result.name}, counted as released", "ours", {**common, **cells, "queries": queries}))
    remarks = ["In brackets: the same scores with the right ones last, and first, among equal scores. Tied: percent of queries whose right "
               "candidate has a wrong one beside it; several right: percent with more than one right candidate. Lists: the start of "
               "their SHA-256."]
    return Table("Retrieval: bounds of ties, other measures", columns, rows, remarks)


def _bounds(result: Result, key: str) -> str:
    """'36.9 [36.4, 37.2]': expected, pessimistic, optimistic."""
    scale, digits = (100, 1) if key.startswith("rank") else (1, 1 if key == "median_rank" else 3)
    numbers = [f"{scale * result.number('metrics', key, name):.{digits}f}" for name in ("value", "pessimistic", "optimistic")]
    return f"{numbers[0]} [{numbers[1]}, {numbers[2]}]"
