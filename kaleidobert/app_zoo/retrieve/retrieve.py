"""``kaleidobert retrieve``: rank fixed candidate lists by the matching head (paper, section 4.2: ITR = i2t, TIR = t2i)."""

import itertools
import json
from pathlib import Path

import keras
import numpy as np

from kaleidobert import io
from kaleidobert.app_zoo import lineage, models, plain_head, tables, trimming
from kaleidobert.app_zoo.plain_head import PlainHead
from kaleidobert.app_zoo.retrieve import dual_encoder, query_sheets, released_files
from kaleidobert.app_zoo.retrieve.baselines import METRICS, Baselines, mean
from kaleidobert.app_zoo.retrieve.ranking import Ranker, ScoreCache, is_large, save_gallery, writer
from kaleidobert.configs import RetrieveConfig
from kaleidobert.configs.addresses import written
from kaleidobert.datasets.bank.bank import Bank, describe, sha256
from kaleidobert.datasets.sampling.finetuning import MatchSampler
from kaleidobert.datasets.sampling.pretraining import hold_out, share_of_groups
from kaleidobert.engines import scoring
from kaleidobert.engines.distributed import distribution
from kaleidobert.engines.run_folder import Run, check_folder
from kaleidobert.engines.trainer import HELD_OUT, Goal, Trainer
from kaleidobert.errors import UserError
from kaleidobert.evaluators import paired, retrieval
from kaleidobert.evaluators.candidates import candidates
from kaleidobert.evaluators.candidates.lists import CandidateLists, Gallery
from kaleidobert.evaluators.candidates.protocols import PROTOCOLS
from kaleidobert.evaluators.report import plots
from kaleidobert.evaluators.report.tables_read import head_name
from kaleidobert.evaluators.retrieval import average
from kaleidobert.losses import additive, matching
from kaleidobert.model_zoo import checkpoints

HELD_SHARE = 0.1  # of the training groups, held out to choose the best epoch of fine-tuning
HELD_QUERIES, HELD_CANDIDATES = 100, 21  # of the small lists over them
PARTS = {
    "own": "encoder alone",
    "dual_encoder": "dual encoder alone",
}  # of the head "dual_encoder": {answer of Ranker.names: its name in results.json}
PLAIN = "plain head"


def dry_run(config: RetrieveConfig) -> None:
    """Check bank and checkpoint, build the candidate lists, print sizes."""
    config = models.with_levels(config)
    if _of_files(config):
        return released_files.dry_run(config)
    bank, rows, val_rows = _open(config)
    models.check_start(config, bank)
    draws, records = _test_lists(bank, val_rows, config)
    for lists in draws:
        print(f"{len(rows):,} pictures to train on; lists: {json.dumps(candidates.summary(lists, records))}; "
              f"{lists.num_pairs:,} pairs to score")
    if config.train.epochs:
        print(*_rates(config, len(_hold_out(config, bank, rows)[0])), sep="\n")
    _warn(config, draws)
    if plain := plain_head.find(config, draws, bank):
        print(plain.told(sum(lists.num_pairs for lists in draws)))


def run(config: RetrieveConfig) -> None:
    """Fine-tune the matching task where asked for, score the lists, write the run folder."""
    config = models.with_levels(config)
    if _of_files(config):
        return released_files.run(config)
    if not config.train.epochs:
        return _run(config)
    with distribution.over(config.train) as place:
        dual_encoder.check_place(config, place)
        _run(config)


def _run(config: RetrieveConfig) -> None:
    bank, rows, val_rows = _open(config)
    model = models.start(models.matcher(config.matching), config, bank)
    draws, records = _test_lists(bank, val_rows, config)
    _warn(config, draws)
    plain = plain_head.find(config, draws, bank)
    ranker = Ranker(model, bank, val_rows, config)
    if config.train.epochs:
        folder = _finetune(config, model, bank, rows)
        checkpoints.restore(folder.best, model)
    else:
        folder = Run(config.run, config)
        checkpoints.save(folder.best, model, None, models.origin(model, bank, lineage.extend(config.init)))
    reports, compared, tallies = [], [], []
    others = Baselines(bank, rows, val_rows, config.subcategory, config.baselines, config.train.seed)
    for number, lists in enumerate(draws):
        with _store(config, ".scores.part", number, lists, (folder.best, bank, ranker)) as store:
            counted = _count(config, number, lists, records, ranker.parts(lists, config.direction, store))
        tallies.append(counted)
        rng = _rng(config, number)
        reports.append(retrieval.summarise(counted["itm"], rng))
        compared.append(others.compare(lists, rng))
        if not number:
            plots.rank_histogram(counted["itm"].ranks(), config.run / "ranks.png", lists.length)
    report, baselines = average(reports), mean(compared)
    beside = _beside(config, tallies, plain, _plain_tallies(config, plain, draws, records, (bank, val_rows)))
    several = [{"seed": lists.seed, "sha256": lists.sha256, "metrics": one} for lists, one in zip(draws, reports)]
    folder.results({"task": "retrieve", "model": lineage.model(config.matching.head, config.init, _trained(config)),
                    "direction": config.direction, "protocol": draws[0].protocol, "metrics": report, **beside,
                    "candidates": candidates.summary(draws[0], records), "baselines": baselines, "bank": describe(bank),
                    "checkpoint_sha256": sha256(folder.best), **({"draws": several} if len(draws) > 1 else {})}, config)
    results = io.read_json(config.run / "results.json")
    tables.write(config.run, results)
    for name, number in itertools.product((".scores.part", ".scores-plain.part"), range(len(draws))):
        (config.run / _name(name, number)).unlink(missing_ok=True)
    _tell(config, draws, results, query_sheets.draw(config.run, bank, config.direction) if not is_large(draws[0]) else None)


def _trained(config: RetrieveConfig) -> list[str]:
    """What the run trains, in words."""
    with_towers = config.matching.head == "dual_encoder" and config.train.epochs
    return (lineage.epochs(lineage.TOWERS, config.dual_encoder.epochs if with_towers else 0)
            + lineage.epochs("matching fine-tuned", config.train.epochs))


def _plain_tallies(config: RetrieveConfig, plain: PlainHead | None, draws: list, records: candidates.Records,
                   place: tuple[Bank, np.ndarray]) -> list[retrieval.Tally] | None:
    """Of each draw, what the plain head answers; None where there is no such head, or another run has its figures alone."""
    if plain is None or plain.checkpoint is None:
        return plain_head.tallies(plain.run, draws, records.ids) if plain is not None and plain.run is not None else None
    bank, rows = place
    ranker, counted = Ranker(plain_head.build(config, plain.checkpoint, bank), bank, rows, config), []
    for number, lists in enumerate(draws):
        with _store(config, ".scores-plain.part", number, lists, (plain.checkpoint, bank, ranker)) as store:
            parts = ranker.parts(lists, f"{config.direction}, {PLAIN}", store)
            counted.append(retrieval.joined([retrieval.tally(found["itm"], part.relevant, part.valid) for part, found in parts]))
    return counted


def _beside(config: RetrieveConfig, tallies: list[dict[str, retrieval.Tally]], plain: PlainHead | None,
            plain_tallies: list[retrieval.Tally] | None) -> dict:
    """What stands beside the figures of a head of ours: {"parts", "plain", "differences"}, as far as the head has them.

    differences: the head less the other, on the same queries; {name of the other: {metric: {first, second, difference, low, high}}}.
    """
    def counted(each: list[retrieval.Tally]) -> dict:
        return average([retrieval.summarise(one, _rng(config, number)) for number, one in enumerate(each)])

    found = {name: [draw[answer] for draw in tallies] for answer, name in PARTS.items() if answer in tallies[0]}
    made = {"parts": {name: counted(each) for name, each in found.items()}} if found else {}
    if plain is not None:
        metrics = counted(plain_tallies) if plain_tallies else None
        if metrics is None and plain.run is not None:
            metrics = io.read_json(plain.run / "results.json")["metrics"]
        origin = {"checkpoint": plain.checkpoint, "run": plain.run}
        made["plain"] = {"model": plain.model, "metrics": metrics, **({"why": plain.why} if metrics is None else {}),
                         **{name: written(path) for name, path in origin.items() if path is not None}}
    found |= {PLAIN: plain_tallies} if plain_tallies else {}
    return made | ({"differences": {name: _differences(config, tallies, each) for name, each in found.items()}} if found else {})


def _differences(config: RetrieveConfig, tallies: list[dict[str, retrieval.Tally]], others: list[retrieval.Tally]) -> dict[str, dict]:
    """{metric: as paired.difference}, of several draws the means, without p."""
    made = {}
    for metric in METRICS:
        each = [paired.difference(one["itm"].tables["expectation"][metric], other.tables["expectation"][metric], _rng(config, number))
                for number, (one, other) in enumerate(zip(tallies, others))]
        made[metric] = each[0] if len(each) == 1 else {key: float(np.mean([one[key] for one in each])) for key in each[0] if key != "p"}
    return made


def _rng(config: RetrieveConfig, number: int) -> np.random.Generator:
    """Of a draw: the same resampled queries for all that is counted of its lists."""
    return np.random.Generator(np.random.Philox(config.candidates_seed + number))


def _count(config: RetrieveConfig, number: int, lists: CandidateLists | Gallery, records: candidates.Records,
           parts) -> dict[str, retrieval.Tally]:
    """Write the lists and their scores, part by part, and tally them: {answer: tally}, as Ranker.names."""
    scores = config.run / _name("scores.jsonl", number)
    if is_large(lists):
        scores = scores.with_suffix(".npy")
        save_gallery(lists, records.ids, config.run / "gallery.json")
    else:
        candidates.save(lists, records.ids, config.run / _name("candidates.jsonl", number))
    with writer(scores, lists, records.ids) as write:
        tallies: dict[str, list[retrieval.Tally]] = {}
        for part, found in parts:
            for name, table in found.items():
                tallies.setdefault(name, []).append(retrieval.tally(table, part.relevant, part.valid))
            write(part, found["itm"])
    return {name: retrieval.joined(each) for name, each in tallies.items()}


def _store(config: RetrieveConfig, name: str, number: int, lists: CandidateLists | Gallery, of: tuple[Path, Bank, Ranker]) -> ScoreCache:
    """What an earlier start of this run has scored of these lists, with the same weights. of: (checkpoint, bank, ranker)."""
    checkpoint, bank, ranker = of
    identity = {"lists": lists.sha256, "checkpoint": lineage.digest(checkpoint), "bank": sha256(bank.folder / "index.json"),
                "batch": config.predict_batch_size, "trimmed": config.train.dynamic_padding, "backend": keras.backend.backend(),
                "order": scoring.ORDER} | ({"answers": ranker.names} if len(ranker.names) > 1 else {})
    store = ScoreCache(config.run / _name(name, number), identity)
    if store.resumed:
        print(f"resuming {config.run}: pairs that were scored before are not scored again")
    return store


def _tell(config: RetrieveConfig, draws: list, results: dict, sheet: Path | None) -> None:
    """Print which model it is, the metrics of it, of its parts and of the plain head, and what was written."""
    model, plain, share = results["model"], results.get("plain"), results["candidates"]["share_same_subcategory"]
    print(f"{config.direction}: {head_name(model)}, {model['trained']}; masking: {model['masking']}")
    others = dict(results.get("parts", {})) | ({PLAIN: plain["metrics"]} if plain and plain["metrics"] else {})
    if plain:
        print(f"{PLAIN}: " + (f"{head_name(plain['model'])}, {plain['model']['trained']}" if plain["metrics"]
                              else f"not measured: {plain['why']}"))
    if share is not None:
        print(f"of the other candidates {share:.1%} are of the query's own subcategory (mean over queries)")
    for name in ("rank@1", "rank@5", "rank@10"):
        value = results["metrics"][name]
        beside = "".join(f"; {other} {numbers[name]['value']:.4f}" for other, numbers in others.items())
        beside += "".join(f"; {other} {numbers[name]:.4f}" for other, numbers in results["baselines"].items())
        print(f"{config.direction} {name}: {value['value']:.4f} [{value['low']:.4f}, {value['high']:.4f}]{beside}; "
              f"chance {value['chance']:.4f}")
    for other, numbers in results.get("differences", {}).items():
        gap = numbers["rank@1"]
        print(f"rank@1 less that of the {other}: {gap['difference']:+.4f} [{gap['low']:+.4f}, {gap['high']:+.4f}]")
    digest = f"(sha256 {draws[0].sha256[:12]})"
    written = ["scores.npy", f"gallery.json {digest}"] if is_large(draws[0]) else ["scores.jsonl", f"candidates.jsonl {digest}"]
    written += ["ranks.png", "results.json", "table.md"] + ["queries.png"] * bool(sheet)
    written += [f"scores-2.jsonl to scores-{len(draws)}.jsonl: the other draws"] if len(draws) > 1 else []
    print(f"run folder: {config.run}\n  {', '.join(written)}")


def _of_files(config: RetrieveConfig) -> bool:
    """Whether released files are to be scored; UserError where the run folder is taken or the files' lists are to be drawn."""
    check_folder(config.run, config)
    if config.data.files is not None and config.protocol != "kaleido":
        raise UserError(f"protocol is {config.protocol!r}, of files", "retrieve", "kaleido: released files hold the pairs to score",
                        "leave protocol out, or draw lists from a bank")
    return config.data.files is not None


def records_of(bank: Bank, rows: np.ndarray, subcategory: str) -> candidates.Records:
    """What candidate lists are drawn from, over the given rows of the bank."""
    names = ("image_id", "product_id", "group", subcategory, "text")
    return candidates.Records(*[bank.column(name)[rows].tolist() for name in names])


def _test_lists(bank: Bank, rows: np.ndarray, config: RetrieveConfig) -> tuple[list[CandidateLists | Gallery], candidates.Records]:
    """The lists to report on, one per draw: drawn from the seed, or those of an earlier run, whose hash must fit."""
    records, protocol = records_of(bank, rows, config.subcategory), PROTOCOLS[config.protocol]
    if config.candidates is None:
        return [candidates.build(records, config.direction, config.candidates_seed + number, config.max_queries, config.num_candidates,
                                 protocol) for number in range(protocol.draws)], records
    lists = candidates.load(config.candidates, records.ids)
    for what, found, asked in (("", lists.direction, config.direction), ("the protocol ", lists.protocol, config.protocol)):
        if found != asked:
            raise UserError(f"the lists are for {what}{found}", str(config.candidates), asked)
    return [lists], records


def _warn(config: RetrieveConfig, draws: list[CandidateLists | Gallery]) -> None:
    """The full gallery through a network that sees pairs is dear: say so before it begins."""
    if config.protocol == "full" or len(draws) > 1:
        total = sum(lists.num_pairs for lists in draws)
        print(f"note: protocol {config.protocol!r} has {total:,} pairs, and each goes through the whole network: "
              f"{-(-total // config.predict_batch_size):,} batches of {config.predict_batch_size}")


def _name(name: str, number: int) -> str:
    """scores.jsonl, scores-2.jsonl, ... of the draws 0, 1, ..."""
    stem, _, suffix = name.partition(".")
    return name if not number else f"{stem}-{number + 1}.{suffix}"


def _finetune(config: RetrieveConfig, model, bank: Bank, rows: np.ndarray) -> Run:
    """Train the matching task in the run folder; the best epoch is chosen on lists over held-out training groups."""
    train, (kept, held) = config.train, _hold_out(config, bank, rows)
    _rates(config, len(kept))  # refuses what cannot be trained before the towers are
    sampler = MatchSampler(bank, kept, config.subcategory, config.matching, train.batch_size, train.seed)
    lists = candidates.build(records_of(bank, held, config.subcategory), config.direction, config.candidates_seed, HELD_QUERIES,
                             HELD_CANDIDATES)
    objective, ranker = matching.OBJECTIVES[config.matching.objective], Ranker(model, bank, held, config)
    folder = Run(config.run, config)  # claimed when nothing is left to refuse

    def loss(outputs, targets, weights):
        # with towers the encoder learns the task by itself, as they did: together they know more than one that corrects the other
        return {"loss": objective(outputs.get("own", outputs["itm"]), targets["itm"], 1 + config.matching.negatives)}

    def ranks() -> dict[str, float]:
        return retrieval.brief(ranker.table(lists), lists.relevant, lists.valid)

    if config.matching.head == "dual_encoder":
        dual_encoder.train(config, model, bank, kept, (held, lists))
    optimizer, total = models.schedule(train, len(kept))  # of the variables that dual_encoder.train left to be trained
    trainer = Trainer(folder, model, optimizer, models.origin(model, bank, lineage.extend(config.init, _trained(config))))
    batch = trimming.batches(sampler.batch, train)
    trainer.fit(batch, additive.mean(loss, "itm"), Goal(ranks, "mrr", True, split=HELD_OUT), models.plan(train, total), train.clip_norm)
    plots.loss_curves(folder.metrics(), config.run / "losses.png")
    return folder


def _hold_out(config: RetrieveConfig, bank: Bank, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(rows to train on, rows that choose the epoch)."""
    return hold_out(bank, rows, HELD_SHARE, config.train.seed, "set train.epochs=0")


def _rates(config: RetrieveConfig, num_rows: int) -> list[str]:
    """The highest rates of learning, of the towers where they are trained; UserError as models.pace."""
    first = (
        [models.rate(dual_encoder.sized(config.dual_encoder, num_rows), num_rows, "dual_encoder")]
        if config.matching.head == "dual_encoder"
        else []
    )
    return [*first, models.rate(config.train, num_rows)]


def _open(config: RetrieveConfig):
    for name, least in (("num_candidates", 2), ("max_queries", 1), ("predict_batch_size", 1)):
        if getattr(config, name) < least:
            raise UserError(f"{name} is {getattr(config, name)}", "retrieve", f"at least {least}")
    dual_encoder.check(config)
    bank = Bank(config.data.bank).require(config.levels, config.data.encoder)
    rows = share_of_groups(bank, bank.rows(config.data.train_split), config.data.train_share, config.train.seed)
    return bank, rows, bank.rows(config.data.val_split)
