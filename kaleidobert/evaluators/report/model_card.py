"""The model card of a checkpoint: Markdown below the metadata that the Hugging Face Hub reads, made of what the run knows.

What nobody knows is said, and not guessed: the licence of the weights follows from the data, the language from the texts.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from kaleidobert.evaluators.report.figures import Figure, beside, figures
from kaleidobert.evaluators.report.results import NOT_KNOWN, Result, Value, head_name
from kaleidobert.evaluators.report.tables import MISSING, plain

NAME = "MODEL_CARD.md"
FASHION_GEN, DRAWN = "Fashion-Gen", "drawn catalogue"
TASKS = {  # {task: (what the model does, the Hub's pipeline_tag)}
    "pretrain": ("vision-language pre-training on products", "feature-extraction"),
    "classify": ("labels of products", "image-classification"),
    "retrieve": ("matching of pictures and texts of products", "feature-extraction"),
    "caption": ("captions of product pictures", "image-to-text"),
}
HUB_METRICS = {"accuracy": "accuracy", "macro_f1": "f1", "bleu4": "bleu", "meteor": "meteor", "rouge_l": "rouge", "cider_d": "cider",
               "rank@": "recall", "mrr": "mean_reciprocal_rank"}
LIMITS = {
    "pretrain": ["As it is it answers no question about a product: it is the start of a fine-tuning."],
    "classify": ["It knows the classes of its label map and no others: a product of another class gets one of these, without a warning.",
                 "Its probabilities are not calibrated: they rank answers, they are no rates of error."],
    "retrieve": ["Its scores order the candidates of one query. They are no probabilities, and not comparable between queries.",
                 "It was measured on short lists, whose length stands above; in a larger catalogue right answers come later."],
    "caption": ["What it writes may be wrong about material, brand, size or function. No text reaches a buyer unread."],
}
OF_ALL = [
    "No decisions about people: it has seen products, and people only as what wears them. It must not judge, identify or sort persons.",
    "No data of another kind: it reads features of one encoder and pieces of one vocabulary, and the figures hold for products like those "
    "of its training alone. Whatever is one-sided in that catalogue, its wording and its pictures, is one-sided in the answers.",
]


@dataclass(frozen=True)
class Weights:
    """file: the name of the checkpoint; kind, config: of its meta; parameters: their number; how_to_load: lines of Markdown; library: by
    the Hub's name, which loads it."""

    file: str
    kind: str = ""
    config: Mapping[str, Any] | None = None
    parameters: int | None = None
    how_to_load: Sequence[str] = ()
    library: str = "kaleidobert"


def model_card(result: Result, weights: Weights) -> str:
    """Returns the card. result: results.json, of which any entry may be missing; result.source: the data in words, "" where unknown."""
    known = figures(result)
    sections = {"The model": _model(result, weights), "Data": _data(result), "Training": _training(result),
                "Figures": _figures(known, result), "Controls": _controls(known, result), "What it must not be used for": _limits(result),
                "How to load it": weights.how_to_load}
    what = TASKS.get(str(result.find("task")), (str(result.find("task") or "vision-language model of products"), ""))[0]
    head = yaml.safe_dump(metadata(result, known, weights.library), sort_keys=False, allow_unicode=True, width=1000)
    lines = ["---", head.rstrip(), "---", "",
             f"# {plain(result.name)}: {what}", "",
             "A Kaleido-BERT (vision-language pre-training for fashion, CVPR 2021), trained by an independent implementation in TensorFlow "
             "and Keras. This card is written by the program, of what the run knows."]
    for title, content in sections.items():
        if made := list(content):
            lines += ["", f"## {title}", "", *made]
    return "\n".join(lines) + "\n"


def load_ours(file: str) -> list[str]:
    """Returns how a checkpoint of ours is loaded, as lines of Markdown."""
    return ["As the start of a command, beside a bank of the same encoder and vocabulary (others are refused, in one line that says what "
            f"differs): `init=PATH/{file}` of `kaleidobert classify`, `retrieve` and `caption`. In Python:", "", "```python",
            "from kaleidobert.model_zoo import checkpoints", "from kaleidobert.model_zoo.kaleidobert import rebuild", "",
            f'meta = checkpoints.load_meta("{file}")', 'model = rebuild(meta, "float32")',
            f'checkpoints.restore("{file}", model)  # exact, or refused', "```"]


def load_released(prefix: str) -> list[str]:
    """Returns how a checkpoint in the released format is loaded, as lines of Markdown."""
    return ["It is a TensorFlow 1 checkpoint, `config.json` and `vocab.txt` beside it, as the release of 2021 has them: name the "
            f"prefix `PATH/{prefix}` where the released scripts take a checkpoint; `init=PATH/{prefix}` of our commands takes it, "
            "too."]


def metadata(result: Result, known: Sequence[Figure], library: str = "kaleidobert") -> dict[str, Any]:
    """Returns the header of the card, ready for YAML. library: that loads the model."""
    task = str(result.find("task") or "")
    what, tag = TASKS.get(task, (task or NOT_KNOWN, "feature-extraction"))
    source = result.source or NOT_KNOWN
    drawn, language = source.startswith(DRAWN), "en" if source.startswith((DRAWN, FASHION_GEN)) else "und"
    licence = {"license": "mit"} if drawn else {"license": "other", "license_name": "not-chosen-yet"}
    made: dict[str, Any] = {"language": language, **licence, "library_name": library, "pipeline_tag": tag,
                            "tags": ["kaleido-bert", "vision-language", "fashion", *([task] if task else [])]}
    if result.source:
        made["datasets"] = [slug(source)]
    if known:
        made["metrics"] = list(dict.fromkeys(_hub_metric(one.key) for one in known))
        made["model-index"] = [{"name": result.name, "results": [{
            "task": {"type": tag, "name": what}, "dataset": {"type": slug(source), "name": source, "split": _split(result)},
            "metrics": [{"type": _hub_metric(one.key), "name": f"{one.metric}{_interval(one.value)}", "value": round(one.value.value, 6)}
                        for one in known]}]}]
    return made


def slug(text: str) -> str:
    """Returns a text as the Hub's names are: lower case letters, digits, - and . only.

    >>> slug("catalogue My Shop/tables & more.csv")
    'catalogue-my-shop-tables-more.csv'
    """
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.") or "unknown"


def _model(result: Result, weights: Weights) -> Iterator[str]:
    model, config = result.model(), dict(weights.config or {})
    backbone = config.get("backbone", config)
    rows = [("file", f"`{weights.file}`"), ("SHA-256", f"`{sha}`" if (sha := result.find("checkpoint_sha256")) else None),
            ("kind", weights.kind), ("head", head_name(model)), ("parameters", f"{weights.parameters:,}" if weights.parameters else None)]
    sizes = {"hidden_size": "hidden size", "num_layers": "layers", "num_heads": "attention heads", "intermediate_size": "intermediate size",
             "vocabulary_size": "word pieces", "text_length": "length of a text", "feature_size": "size of a patch's feature"}
    rows += [(title, f"{backbone[key]:,}") for key, title in sizes.items() if isinstance(backbone.get(key), int)]
    levels = backbone.get("levels")
    if isinstance(levels, list) and all(isinstance(level, Mapping) for level in levels):
        rows.append(("levels of patches", ", ".join(f"{level.get('name')} {level.get('grid')} × {level.get('grid')}" for level in levels)))
    yield from _table(("", ""), [(name, value) for name, value in rows if value])


def _data(result: Result) -> Iterator[str]:
    bank = result.group("bank")
    yield f"- {plain(result.source or 'Not known: the run names no catalogue.')}"
    if splits := result.group("bank", "splits"):
        yield f"- {', '.join(f'{count:,} {name}' for name, count in splits.items())} pictures"
    if encoder := bank.get("encoder"):
        yield f"- patches as features of `{encoder}`, which is not trained; text as pieces of a vocabulary of {bank.get('vocabulary', '?')}"
    if digest := bank.get("sha256"):
        yield f"- bank with index of SHA-256 `{digest}`"
    if not (result.source or "").startswith((DRAWN, FASHION_GEN)):
        yield ("- language and licence are not known to the run: set `language` and `license` above before you share this; the terms of "
               "the data decide what you may choose")


def _training(result: Result) -> Iterator[str]:
    model = result.model()
    yield f"- {model.get('trained') or NOT_KNOWN}"
    if masking := model.get("masking"):
        yield f"- masks of the pre-training: {masking}"
    if start := model.get("init"):
        yield f"- started from `{_tail(start)}`"
    keys = ("epochs", "batch_size", "learning_rate", "warmup_share", "weight_decay", "precision", "seed")
    train = result.group("config", "train")
    used = [key for key in keys if train.get(key) or key == "seed" and key in train]
    if settings := [f"{key.replace('_', ' ')} {train[key]}" for key in used]:
        yield f"- {', '.join(settings)}" + (f"; {result.find('steps'):,} steps" if isinstance(result.find("steps"), int) else "")
    if by := result.find("choice", "by"):
        yield f"- weights: {dict(held_out='chosen by groups held out of the training split', none='the last ones').get(by, by)}"
    if versions := result.group("versions"):
        yield f"- {', '.join(f'{name} {value}' for name, value in versions.items())}"


def _figures(known: Sequence[Figure], result: Result) -> Iterator[str]:
    if not known:
        return
    yield (f"On the split `{_split(result)}`. In brackets: 95% intervals over examples or queries. Beside them, on the same examples: what "
           "needs no such model, and parts of the head alone.")
    if result.find("metrics", "list_length", "max"):
        yield f"\nLists of {result.find('metrics', 'list_length', 'max')} candidates, {result.find('metrics', 'queries'):,} queries."
    yield ""
    controls = result.group("controls")
    yield from _table(("metric", "value", "beside it"),
                      [(one.metric + " (less is better)" * one.lower, number(one.value),
                        "; ".join(f"{name} {number(value)}" for name, value in one.beside.items() if name not in controls) or MISSING)
                       for one in known])
    if result.source and not result.source.startswith(FASHION_GEN):
        yield "\nOther data than the paper's, so these are not comparable with its figures."


def _controls(known: Sequence[Figure], result: Result) -> Iterator[str]:
    meanings = beside(result)
    rows = [(one.metric, name, number(one.beside[name]), number(one.value)) for one in known for name in meanings if name in one.beside]
    if rows:
        yield "A model that has found something else than picture and text keeps its figure here; one that compares them falls to chance."
        yield ""
        yield from _table(("metric", "control", "value", "without it"), rows)


def _limits(result: Result) -> Iterator[str]:
    lines = [*LIMITS.get(str(result.find("task")), []), *OF_ALL]
    if result.model().get("head_of") == "ours":
        lines.append("It is no reproduction of the paper's model: its head, or its training, is this project's own.")
    if (result.source or "").startswith(DRAWN):
        lines.insert(0, "Nothing real: it has learnt from drawn pictures with generated texts, and knows no photograph.")
    yield from (f"- {line}" for line in lines)


def number(value: Value) -> str:
    """Formats '0.784 [0.732, 0.832]'.

    >>> number(Value(0.784, 0.732, 0.832)), number(Value(12.5))
    ('0.784 [0.732, 0.832]', '12.500')
    """
    return f"{value.value:.3f}" + ("" if value.low is None or value.high is None else f" [{value.low:.3f}, {value.high:.3f}]")


def _interval(value: Value) -> str:
    return "" if value.low is None or value.high is None else f" (95% interval {value.low:.3f} to {value.high:.3f})"


def _hub_metric(key: str) -> str:
    """Returns the Hub's name of a metric; its own where the Hub has none."""
    if key.endswith("_kl"):
        return "kl-divergence"
    return next((name for start, name in HUB_METRICS.items() if key.startswith(start) or key.endswith(f"_{start}")), slug(key))


def _split(result: Result) -> str:
    return str(result.find("config", "data", "val_split") or "validation")


def _tail(path: object) -> str:
    """Returns the last two parts of a path: where it lies on somebody's disk is nobody's business."""
    return "/".join(str(path).replace("\\", "/").split("/")[-2:])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    yield from (f"| {' | '.join(cell if cell.startswith('`') else plain(cell) for cell in row)} |" for row in rows)
