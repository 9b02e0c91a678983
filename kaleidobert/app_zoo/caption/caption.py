"""``kaleidobert caption``: train the encoder to write captions and write those of the validation split (paper, section 4.2: FC)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from time import perf_counter
from typing import Any

import numpy as np
from keras import ops

from kaleidobert import io
from kaleidobert.app_zoo import lineage, models, tables, training
from kaleidobert.app_zoo.caption import writing
from kaleidobert.app_zoo.caption.writing import Reranker, Score, simple_captions
from kaleidobert.configs import CaptionConfig
from kaleidobert.datasets.bank.bank import Bank, describe
from kaleidobert.datasets.sampling.finetuning import CaptionTaskSampler
from kaleidobert.datasets.sampling.pretraining import clean_features, hold_out, maskable
from kaleidobert.engines.distributed import distribution
from kaleidobert.engines.run_folder import Run, check_folder
from kaleidobert.engines.trainer import HELD_OUT, VAL, Goal
from kaleidobert.errors import UserError
from kaleidobert.evaluators import captions as caption_metrics
from kaleidobert.evaluators.files import captions as caption_files
from kaleidobert.evaluators.report.results import head_name
from kaleidobert.evaluators.statistics import difference
from kaleidobert.io import sha256
from kaleidobert.losses.decomposable import DecomposableLoss
from kaleidobert.losses.pretraining import weighted_cross_entropy
from kaleidobert.model_zoo import checkpoints
from kaleidobert.model_zoo.kaleidobert import Captioner, captioner
from kaleidobert.preprocessors.examples import trim_captions
from kaleidobert.released.checkpoints import load_meta

SHOWN = 6  # captions that are printed
MEASURES = {"bleu4": "BLEU-4", "meteor": "METEOR", "rouge_l": "ROUGE-L", "cider_d": "CIDEr-D"}


@dataclass(frozen=True)
class Data:
    """The bank and its rows with text: to train on, of the validation split, and of these the first of every product."""

    bank: Bank
    train: np.ndarray
    val: np.ndarray
    shown: np.ndarray

    @cached_property
    def train_texts(self) -> list[str]:
        return self.bank.column("text")[self.train].tolist()

    @cached_property
    def references(self) -> list[list[str]]:
        """The reference texts of each shown picture: its own, then other texts of its product."""
        products, texts = self.bank.column("product_id"), self.bank.column("text")
        of: dict[str, list[str]] = {product: [] for product in products[self.shown]}
        for row in np.flatnonzero(np.isin(products, products[self.shown]) & maskable(self.bank, np.arange(self.bank.size)).any(1)):
            of[products[row]].append(texts[row])
        return [list(dict.fromkeys([texts[row], *of[products[row]]])) for row in self.shown]


def dry_run(config: CaptionConfig) -> None:
    """Checks bank, settings and checkpoint, prints sizes."""
    config = models.resolve(config)
    check_folder(config.run, config)
    data = open_data(config)
    models.check_start(config, data.bank)
    _check_trained(config)
    work = "no training"
    if config.train.epochs:
        kept, held = _hold_out(config, data)
        _, total = models.schedule(config.train, len(kept))
        work = f"{len(kept):,} pictures to train on, {len(held):,} held out, {total:,} steps of {config.train.batch_size}"
    print(f"{work}; captions of {len(data.shown):,} pictures, mode {config.mode}, "
          + ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in _length(config, data).items()))
    if config.train.epochs:
        print(models.peak_rate(config.train, len(kept)))


def run(config: CaptionConfig) -> None:
    """Trains for train.epochs, writes and judges the captions of one picture per validation product, writes the run folder."""
    config = models.resolve(config)
    check_folder(config.run, config)
    if not config.train.epochs:
        return _run(config)
    with distribution.scope(config.train):
        _run(config)


def _run(config: CaptionConfig) -> None:
    data = open_data(config)
    bank = data.bank
    _check_trained(config)
    chooser = Reranker(config.writing.matcher, bank, data.train_texts) if config.writing.matcher else None
    model = models.start(lambda arguments: captioner(arguments, config.mode), config, bank)
    score = writing.scorer(model)
    if config.train.epochs:
        folder = _train(config, model, data, score)
    else:
        folder = Run(config.run, config)
        checkpoints.save(folder.best, model, None, models.origin(model, bank, lineage.extend(config.init)))
    begin = perf_counter()
    written = writing.write(config, model, bank, data.train, data.shown)
    seconds = perf_counter() - begin
    captions = {"captions": writing.texts(bank, data.train_texts, written)}
    is_training_text = np.zeros(len(written), bool)
    if chooser is not None:
        own = captions.pop("captions")
        seen = chooser.bank
        better, is_training_text = chooser.choose(lambda chunk: clean_features(seen, data.shown[chunk]), own)
        captions = {"captions": better, "written": own}
    if config.baselines:
        captions |= simple_captions(bank, data.train, data.train_texts, data.shown, config.subcategory)
    reports = {name: caption_metrics.report(texts, data.references, _rng(config)) for name, texts in captions.items()}
    gaps = _differences(config, captions, data.references)
    metrics = {**reports.pop("captions"), **_perplexity(config, score, data)}
    ids = bank.column("image_id")[data.shown].tolist()
    lines = [{"image_id": image, "caption": text, "references": others, "length": len(caption.pieces),
              "log_probability": round(caption.log_probability, 5), **({"found": bool(one)} if chooser else {})}
             for image, text, others, caption, one in zip(ids, captions["captions"], data.references, written, is_training_text)]
    io.write_text(config.run / "captions.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    caption_files.write_results(config.run / "captions_coco.json", ids, captions["captions"])
    caption_files.write_annotations(config.run / "references_coco.json", ids, data.references)
    missing = writing.draw(config.run / "captions.png", bank, data.shown, captions, data.references)
    chosen: dict[str, Any] = {"share_found": float(is_training_text.mean()), "written": reports.pop("written")} if chooser else {}
    if config.train.epochs:
        chosen["choice"] = training.choice(bank, _hold_out(config, data)[1]).metadata()
    result = {"task": "caption", "model": _model(config, chooser), "mode": config.mode, **_length(config, data), "metrics": metrics,
              "baselines": reports, "differences": gaps, **chosen, "pictures": len(data.shown), "bank": describe(bank),
              "checkpoint_sha256": sha256(folder.best)}
    folder.results(result, config)
    tables.write(config.run, io.read_json(config.run / "results.json"))
    _print_summary(config, data, result, captions)
    print(f"{len(written) / seconds:.1f} captions a second\nrun folder: {config.run}\n  weights: {folder.best}\n"
          f"  captions: captions.jsonl, captions_coco.json, references_coco.json\n  table: table.md\n"
          f"  pictures: {missing or 'captions.png'}"
          + "; losses.png" * bool(config.train.epochs))


def _differences(config: CaptionConfig, captions: Mapping[str, Sequence[str]], references: Sequence[Sequence[str]]) -> dict[str, dict]:
    """Returns {other captions: {metric of a caption: the run's own less that of the others, paired, as statistics.difference}}."""
    each = {name: caption_metrics.per_caption(texts, references) for name, texts in captions.items()}
    own = each.pop("captions")
    return {name: {metric: difference(own[metric], values, _rng(config)) for metric, values in others.items()}
            for name, others in each.items()}


def _model(config: CaptionConfig, chooser: Reranker | None) -> dict[str, Any]:
    """Returns the entry "model" of results.json: mode mask-all by the head of pre-training is the paper's way; where a matcher chose, that
    one is named too."""
    model = lineage.model("plain" if config.mode == "mask-all" else config.mode, config.init, _trained(config))
    if chooser is None:
        return model
    chosen = {"head": f"{model['head']}, chosen by a matcher", "head_of": lineage.OURS, "chosen_by": chooser.model}
    return {**model, **chosen, "writer": {name: model[name] for name in ("head", "head_of")}}


def _trained(config: CaptionConfig) -> list[str]:
    """Returns what the run trains, in words."""
    return lineage.epochs(f"captioning ({config.mode}) fine-tuned", config.train.epochs)


def objective(smoothing: float) -> DecomposableLoss:
    """Returns the loss: cross-entropy of the masked or following pieces plus, where the model predicts it, that of the length."""

    def loss(outputs, targets, weights, over):
        smooth = {"pieces": smoothing}
        return _total({name: weighted_cross_entropy(logits, targets[name], weights[name], smooth.get(name, 0.0), over[name])
                       for name, logits in outputs.items()})

    return DecomposableLoss(loss, lambda weights: {name: ops.maximum(ops.sum(each), 1.0) for name, each in weights.items()})


def _total(terms: Mapping[str, Any]) -> dict[str, Any]:
    return {"loss": sum(terms.values()), **{f"{name}_loss": value for name, value in terms.items()}}


def _train(config: CaptionConfig, model: Captioner, data: Data, score: Score) -> Run:
    """Trains in the run folder; best.npz holds the epoch with the smallest loss on held-out groups, without such the last one."""
    train, (kept, held) = config.train, _hold_out(config, data)
    work = models.schedule(train, len(kept))
    sampler = CaptionTaskSampler(data.bank, kept, config.mode, config.noise, train.batch_size, train.seed)
    judged = held if len(held) else data.val
    validation = CaptionTaskSampler(data.bank, judged, config.mode, config.noise, config.predict_batch_size, train.seed)
    folder = Run(config.run, config)  # claimed when nothing is left to refuse
    meta = models.origin(model, data.bank, lineage.extend(config.init, _trained(config)))
    batch = training.trim_batches(sampler.batch, train, trim_captions)
    judge = training.trim_batches(validation.validation, train, trim_captions)
    goal = Goal(lambda: _total(score(judge)), "loss", False if len(held) else None, split=HELD_OUT if len(held) else VAL)
    training.fit(folder, model, meta, train, work, batch, objective(config.smoothing), goal)
    return folder


def open_data(config: CaptionConfig) -> Data:
    """Returns bank and rows. Raises UserError for released files, and for a mode and a length that do not go together."""
    if config.data.files is not None:
        raise UserError("data.files is set", "caption", "data.bank: captions are learnt from a bank", "set data.bank and empty data.files")
    if config.mode == "causal" and config.length != "predicted":
        raise UserError(f"mode is causal and length is {config.length}", "caption", "length=predicted: such captions end by an end piece "
                        "of their own", "leave length out, or set mode=mask-predict")
    bank, train, val = training.splits(config)
    writing.max_pieces(config, bank)
    train, val = (training.rows_with_text(bank, rows, split)
                  for rows, split in ((train, config.data.train_split), (val, config.data.val_split)))
    return Data(bank, train, val, training.first_of_products(bank, val))


def _check_trained(config: CaptionConfig) -> None:
    """Raises UserError where nothing is trained and the checkpoint is no captioner of the same mode."""
    if config.init is None or config.train.epochs:
        return
    meta = load_meta(config.init)
    mode = meta.get("config", {}).get("mode")
    if meta.get("kind") != Captioner.kind or mode != config.mode:
        raise UserError(f"holds a {meta.get('kind')!r}" + (f" of mode {mode}" if mode else ""), str(config.init),
                        f"a {Captioner.kind!r} of mode {config.mode}, as train.epochs is 0",
                        f"set train.epochs, or name the best.npz of a `kaleidobert caption mode={config.mode}` run")


def _hold_out(config: CaptionConfig, data: Data) -> tuple[np.ndarray, np.ndarray]:
    """Returns (rows to train on, rows that choose the epoch)."""
    return hold_out(data.bank, data.train, config.held_out, config.train.seed, "set held_out=0")


def _perplexity(config: CaptionConfig, score: Score, data: Data) -> dict[str, float]:
    """Returns {"perplexity"} of a causal model over all validation texts, ends included; other modes have none."""
    if config.mode != "causal":
        return {}
    sampler = CaptionTaskSampler(data.bank, data.val, config.mode, config.noise, config.predict_batch_size, config.train.seed)
    return {"perplexity": float(np.exp(score(training.trim_batches(sampler.validation, config.train, trim_captions))["pieces"]))}


def _length(config: CaptionConfig, data: Data) -> dict[str, Any]:
    """Returns what decides the length of captions, for results and tables; oracle: the reference's, which leaks."""
    if config.mode == "causal":
        return {"length": "end piece"}
    fixed = {"fixed_length": writing.fixed_length(config, data.bank, data.train)} if config.length == "fixed" else {}
    return {"length": config.length, **fixed}


def _rng(config: CaptionConfig) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(config.train.seed))


def _print_summary(config: CaptionConfig, data: Data, result: Mapping[str, Any], captions: Mapping[str, Sequence[str]]) -> None:
    """Prints the outcome in a few lines."""
    metrics, model = result["metrics"], result["model"]
    print(f"{head_name(model)}, {model['trained']}; masking: {model['masking']}")
    if by := model.get("chosen_by"):
        print(f"chosen by the matcher {by['checkpoint']}: {head_name(by)}, {by['trained']}")
    shown = ("perplexity", "different_captions", "mean_length", "reference_length")
    more = [f"{name.replace('_', ' ')} {metrics[name]:,.5g}" for name in shown if name in metrics]
    print(f"captions of {result['pictures']:,} {config.data.val_split!r} products; mode {config.mode}, length: {result['length']}"
          + " (leaks the reference's length)" * (config.length == "oracle") + f"; {', '.join(more)}")
    print(f"{'':44s}" + "".join(f"{name:>24s}" for name in MEASURES.values()))
    of = {head_name(model): metrics} | ({f"{head_name(model['writer'])}, its own words": result["written"]} if "written" in result else {})
    for name, report in {**of, **result["baselines"]}.items():
        print(f"{name.replace('_', ' '):44s}" + "".join(f"{_value(report.get(key)):>24s}" for key in MEASURES))
    if "share_found" in result:
        print(f"{result['share_found']:.1%} of the captions are texts of training products, chosen by the matcher")
    for name, gap in ((name, gaps["cider_d"]) for name, gaps in result["differences"].items()):
        print(f"CIDEr-D less that of {name.replace('_', ' ')}: {gap['difference']:+.4f} [{gap['low']:+.4f}, {gap['high']:+.4f}]")
    if metrics.get("meteor_note"):
        print(metrics["meteor_note"])
    for number in np.linspace(0, len(data.shown) - 1, min(SHOWN, len(data.shown))).astype(int):
        image = data.bank.table[data.shown[number]]["image_id"]
        print(f"  {image}: {captions['captions'][number]}\n    reference: {data.references[number][0]}")


def _value(measure: Mapping[str, float] | None) -> str:
    return "-" if measure is None else f"{measure['value']:.4f} [{measure['low']:.4f}, {measure['high']:.4f}]"
