"""The paper's Table 4: its rows, its claims, its figures; what the runs of ``kaleidobert ablate`` say about them, as tables and verdicts.

Every figure of a row is a mean over the seeds whose runs are finished, with its 95% interval by Student's t. A claim says that one row is
ahead of another; it is judged by the differences between runs of one seed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

from kaleidobert.evaluators import retrieval, statistics
from kaleidobert.evaluators.report.claims import ALONE, Comparison, over_seeds
from kaleidobert.evaluators.report.results import Result, head_name
from kaleidobert.evaluators.report.tables import CAPTION_KEYS, DIRECTIONS, MISSING, Cell, Column, Row, Table, Value

SUMR, SUM_CLS, SUM_CAP = SUMS = ("SumR", "Sum CLS", "Sum CAP")
TASKS = {"retrieval": SUMR, "classification": SUM_CLS, "captions": SUM_CAP}  # {task: the paper's measure of it}
Figures = Mapping[str, float]  # of one row and seed, by their names
Measured = Mapping[str, Mapping[int, Figures]]  # {runs of a row: {seed: its figures}}


@dataclass(frozen=True)
class AblationRow:
    """A row of Table 4. runs: the name of its runs, the same where rows are the same model; paper: SumR, Sum CLS and Sum CAP as printed,
    None where the paper has no such row."""

    group: str
    title: str
    runs: str
    paper: tuple[float, float, float] | None


SCRATCH = "scratch"  # runs without a pre-training
FULL = (319.52, 318.14, 84.0)  # printed three times: all pretexts, masked by AGM, the product cut out
ROWS = {
    "fixed": AblationRow("scale", "fixed", "fixed", (276.97, 313.43, 76.6)),
    "kaleido": AblationRow("scale", "kaleido", "kaleido", (303.80, 314.96, 79.7)),
    "kaleido-saliency": AblationRow("scale", "kaleido + saliency", "b_i-v", FULL),
    "random": AblationRow("masking", "random", "random", (299.50, 314.31, 78.6)),
    "agm": AblationRow("masking", "AGM", "b_i-v", FULL),
    "b": AblationRow("pretexts", "B", "b", (295.70, 297.40, 77.9)),
    "b_i": AblationRow("pretexts", "B+I", "b_i", (297.18, 298.77, 79.0)),
    "b_i-ii": AblationRow("pretexts", "B+I-II", "b_i-ii", (300.82, 307.54, 79.2)),
    "b_i-iii": AblationRow("pretexts", "B+I-III", "b_i-iii", (312.65, 315.30, 81.6)),
    "b_i-iv": AblationRow("pretexts", "B+I-IV", "b_i-iv", (316.10, 316.88, 83.4)),
    "b_i-v": AblationRow("pretexts", "B+I-V", "b_i-v", FULL),
    "b_v": AblationRow("pretexts", "B+V", "b_v", (287.70, 300.21, 78.6)),
    SCRATCH: AblationRow("ours", "no pre-training", SCRATCH, None),
}
CLAIMS = {  # what the paper says: (the row that is ahead, the row that it is ahead of)
    "kaleido patches are ahead of one scale": ("kaleido", "fixed"),
    "the product cut out is ahead of the whole picture": ("kaleido-saliency", "kaleido"),
    "AGM is ahead of random masking": ("agm", "random"),
    "rotation (I) adds to B": ("b_i", "b"),
    "jigsaw (II) adds to the ones before it": ("b_i-ii", "b_i"),
    "camouflage (III) adds to the ones before it": ("b_i-iii", "b_i-ii"),
    "grey (IV) adds to the ones before it": ("b_i-iv", "b_i-iii"),
    "blank (V) adds to the ones before it": ("b_i-v", "b_i-iv"),
    "blank alone (B+V) is ahead of B": ("b_v", "b"),
    "pre-training is ahead of the same fine-tuning from random weights (ours)": ("b_i-v", SCRATCH),
}
FINER = {  # {figure: its heading}; the Rank@1 of parts of a head follow
    "matching": "text belongs to picture", "masked aligned": "masked words, aligned", "masked unaligned": "masked words, others",
    "i2t rank@1": "ITR R@1", "t2i rank@1": "TIR R@1", "subcategory": "SUB ACC"}


def figures(results: Mapping[str, Result]) -> dict[str, float]:
    """Returns the figures of one row and seed. results: of its finished runs, by the names of their steps: pretrain, masked_words, i2t,
    t2i, cat, subcat, caption.

    SumR: the sum of six Rank@K, Sum CLS: accuracies and macro-F over all classes, Sum CAP: four caption metrics, each times 100 (paper,
    section 4.2); the others as they are. METEOR needs Java: without it there is no Sum CAP. Raises UserError, which names file and key,
    where an entry is missing.
    """
    made: dict[str, float] = {}
    if "pretrain" in results:
        made["matching"] = results["pretrain"].number("metrics", "itm_accuracy")
    if "masked_words" in results:
        made |= {f"masked {name}": results["masked_words"].number("metrics", name) for name in results["masked_words"].group("metrics")}
    ranked: dict[str, list[Mapping[str, Any]]] = {}  # by the name of the model: "" is the run's own, then parts of its head
    for result in (results[name] for name in DIRECTIONS if name in results):
        for model in result.counted():
            if model.keys and result.find(*model.keys):
                made[f"{result.text('direction')} rank@1 {model.name}".strip()] = result.number(*model.keys, "rank@1")
                ranked.setdefault(model.name, []).append(result.group(*model.keys))
    made |= {f"{SUMR} {name}".strip(): retrieval.sum_of_ranks(*each) for name, each in ranked.items() if len(each) == len(DIRECTIONS)}
    if "cat" in results and "subcat" in results:
        made["subcategory"] = results["subcat"].number("metrics", "accuracy")
        made[SUM_CLS] = 100 * sum(results[name].number("metrics", metric) for name in ("cat", "subcat")
                                  for metric in ("accuracy", "macro_f1_all"))
    if "caption" in results:
        parts = [results["caption"].measure("metrics", name) for name in CAPTION_KEYS]
        if None not in parts:
            made[SUM_CAP] = 100 * sum(part.value for part in parts if part)
    return made


def heads(results: Mapping[str, Result]) -> dict[str, str]:
    """Returns {step: the head of its model, and whose idea that is}."""
    return {name: head_name(result.model()) for name, result in results.items() if name != "masked_words"}


def measures(measured: Measured, sums: Sequence[str]) -> list[str]:
    """Returns the measures of the tables: ``sums``, and of a head of ours for retrieval the SumR of its part that is the encoder's own."""
    known = {name for by_seed in measured.values() for name in _names(by_seed)}
    alone = [f"{SUMR} {part}" for part in ALONE if f"{SUMR} {part}" in known][:1] if SUMR in sums else []
    return [measure for name in sums for measure in (name, *(alone if name == SUMR else ()))]


def tables(rows: Sequence[str], measured: Measured, sums: Sequence[str], models: Mapping[str, str] = MappingProxyType({})) -> list[Table]:
    """Returns Table 4, the finer figures, and the claims where there are any about these rows.

    rows: names of ROWS; sums: of SUMS, those that were asked for; models: of ``heads``.
    """
    shown = [name for name in rows if measured.get(ROWS[name].runs)]
    missing = [f"{ROWS[name].group}: {ROWS[name].title}" for name in rows if name not in shown]
    unfinished = [f"No seed of these rows is finished yet: {', '.join(missing)}."] if missing else []
    if models:
        steps = {head: ", ".join(name for name, other in models.items() if other == head) for head in dict.fromkeys(models.values())}
        unfinished.append(f"Heads: {'; '.join(f'{names}: {head}' for head, names in steps.items())}. Rows are the paper's model only where "
                          "all heads are the paper's.")
    compared = compare(rows, measured, sums)
    return [_main(shown, measured, sums, unfinished), _finer(shown, measured), *([_claims(compared)] if compared else [])]


def compare(rows: Sequence[str], measured: Measured, sums: Sequence[str]) -> dict[str, dict[str, Comparison | None]]:
    """Returns {claim: {measure: its comparison, None where no seed has both}} of the claims about these rows."""
    made: dict[str, dict[str, Comparison | None]] = {}
    for claim, ends in CLAIMS.items():
        if set(ends) <= set(rows):
            first, second = (measured.get(ROWS[name].runs, {}) for name in ends)
            made[claim] = {name: over_seeds(*({seed: each[name] for seed, each in side.items() if name in each}
                                              for side in (first, second))) for name in measures(measured, sums)}
    return made


def papers_difference(claim: str, measure: str) -> float | None:
    """Returns the paper's own difference, on Fashion-Gen; None of a claim that is not the paper's."""
    whole = next(name for name in SUMS if measure.startswith(name))  # of a part of the head, too
    first, second = (ROWS[name].paper for name in CLAIMS[claim])
    return None if first is None or second is None else round(first[SUMS.index(whole)] - second[SUMS.index(whole)], 2)


def to_json(rows: Sequence[str], measured: Measured, sums: Sequence[str]) -> dict[str, Any]:
    """Returns {"rows": {row: {group, title, runs, seeds, paper, figures, by_seed}}, "claims": [...]}, ready for JSON."""
    made = {}
    for name in rows:
        row, by_seed = ROWS[name], measured.get(ROWS[name].runs, {})
        made[name] = {"group": row.group, "title": row.title, "runs": row.runs, "seeds": list(by_seed),
                      "paper": dict(zip(SUMS, row.paper)) if row.paper else None,
                      "figures": {key: asdict(cell) for key in _names(by_seed) if (cell := _mean(by_seed, key))},
                      "by_seed": {str(seed): dict(each) for seed, each in by_seed.items()}}
    claims = [{"claim": claim, "ahead": CLAIMS[claim][0], "of": CLAIMS[claim][1], "measure": name,
               **(asdict(one) | {"half_width": one.half_width} if one else {"seeds": 0}), "paper": papers_difference(claim, name)}
              for claim, each in compare(rows, measured, sums).items() for name, one in each.items()]
    return {"rows": made, "claims": claims}


def _main(shown: Sequence[str], measured: Measured, sums: Sequence[str], above: Sequence[str]) -> Table:
    columns = [Column("group", "group"), Column("seeds", "seeds")]
    for name in (every := measures(measured, sums)):
        columns.append(Column(name, _title(name), 1))
        columns += [Column(f"paper {name}", "paper", 1 if name == SUM_CAP else 2)] if name in sums else []
    rows = []
    for row in shown:
        by_seed = measured[ROWS[row].runs]
        cells: dict[str, Cell] = {"group": ROWS[row].group, "seeds": str(len(by_seed))}
        cells |= {name: _mean(by_seed, name) for name in every}
        if paper := ROWS[row].paper:
            cells |= {f"paper {name}": Value(paper[SUMS.index(name)]) for name in sums}
        rows.append(Row(ROWS[row].title, "ours", cells))
    remarks = [*above, "SumR: six Rank@K in percent, added. Sum CLS: accuracies and macro-F (over all classes) of category and "
               "subcategory times 100, added." + " Sum CAP: BLEU-4, METEOR, ROUGE-L and CIDEr-D times 100, added; the paper adds CIDEr; "
               "METEOR needs Java." * (SUM_CAP in sums),
               "kaleido + saliency, AGM and B+I-V are the same runs.",
               "In brackets: 95% intervals of the mean by Student's t over the seeds, on the same queries and examples; one seed has none.",
               "paper: on Fashion-Gen, with BERT-base; not comparable with rows on other data."]
    return Table("Ablation (layout of the paper's Table 4)", columns, rows, remarks)


def _finer(shown: Sequence[str], measured: Measured) -> Table:
    names = list(dict.fromkeys(key for row in shown for key in _names(measured[ROWS[row].runs]) if not key.startswith(SUMS)))
    ordered = [name for name in FINER if name in names] + sorted(name for name in names if name not in FINER)
    columns = [Column("group", "group"), *(Column(name, _head(name), 1, 1, 100) for name in ordered)]
    rows = [Row(ROWS[row].title, "ours", {"group": ROWS[row].group, **{name: _mean(measured[ROWS[row].runs], name) for name in ordered}})
            for row in shown]
    remarks = ["In percent. Text belongs to picture: accuracy of matching in pre-training, on the validation split, under each row's own "
               "masks. Masked words: accuracy on word pieces that are masked at random, the same ones for every row; aligned: those with a "
               "link to a patch in one bank, the same for every row.", "R@1: of the run's own head, of its parts, and of the paper's plain "
               "head as pre-training left it."]
    return Table("Ablation: finer figures", columns, rows, remarks)


def _claims(compared: Mapping[str, Mapping[str, Comparison | None]]) -> Table:
    columns = [Column(name, name) for name in ("measure", "seeds", "difference", "paper", "verdict")]
    rows = [Row(claim, "baseline", {"measure": _title(name), "seeds": str(one.seeds if one else 0), "difference": _difference(one),
                                    "paper": MISSING if (paper := papers_difference(claim, name)) is None else f"{paper:+.2f}",
                                    "verdict": one.judged() if one else MISSING})
            for claim, each in compared.items() for name, one in each.items()]
    remarks = ["Differences, paired by seed, with their 95% intervals by Student's t. yes: the whole interval is above 0, the claim is "
               "supported; no: the whole interval is below 0, it is contradicted; undecided: neither. Behind an undecided one: the "
               "half-width of its interval, the smallest mean difference that these seeds would have shown.",
               "SumR of a part that is alone stands beside the paper's SumR, of a plain head." * any(
                   name not in SUMS for each in compared.values() for name in each),
               "The intervals are over seeds, not over products or queries, and each is for itself: of twenty one misses by chance."]
    return Table("Ablation: does the data support what the paper claims?", columns, rows, list(filter(None, remarks)))


def _difference(one: Comparison | None) -> str:
    if one is None:
        return MISSING
    return f"{one.difference:+.1f}" + ("" if one.low is None else f" [{one.low:+.1f}, {one.high:+.1f}]")


def _names(by_seed: Mapping[int, Figures]) -> list[str]:
    return list(dict.fromkeys(name for each in by_seed.values() for name in each))


def _mean(by_seed: Mapping[int, Figures], name: str) -> Value | None:
    values = [each[name] for each in by_seed.values() if name in each]
    return Value(*statistics.mean_over_seeds(values)) if values else None


def _title(measure: str) -> str:
    """Returns the heading of a measure, such as 'SumR, encoder alone'."""
    return measure if measure in SUMS else f"{SUMR}, {measure.removeprefix(SUMR).strip()}"


def _head(name: str) -> str:
    """Returns the heading of a figure; of a part of a head that of its direction, then its name."""
    if name in FINER:
        return FINER[name]
    direction, _, part = name.split(" ", 2)
    return f"{DIRECTIONS[direction]} R@1, {part}"
