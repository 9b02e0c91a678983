"""Shared by the tests of the commands: tiny configurations, and a command line called in this process."""

import contextlib
import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from kaleidobert import cli, configs
from kaleidobert.app_zoo import commands
from kaleidobert.configs.catalogue import CatalogueCheckConfig
from kaleidobert.configs.export import ExportConfig
from kaleidobert.configs.search import IndexConfig, IndexData
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.sources.table import TableSource
from tests.support import checkpoint_data
from tests.support.tiny import COLUMNS, tiny_catalogue

SIZES = replace(configs.BERT_BASE, hidden_size=16, num_layers=1, num_heads=2, intermediate_size=16, max_positions=16)
TRAIN = configs.Train(epochs=2, batch_size=10, learning_rate=1e-2, save_every=2)
RANDOM = configs.Sampling(masking="random")  # for banks without alignment

CAPTIONER = configs.Captioner(hidden_size=8, embedding_size=6, attention_size=4, context_size=6, min_count=1)


@dataclass(frozen=True)
class Done:
    """What a command left: its exit status and what it printed."""

    status: int
    out: str
    err: str


def call(name: str, config, *words: str) -> Done:
    """A command line in this process, its configuration as a YAML file beside the folder that it writes."""
    names = ("out", "run", "bank", "into", "target", "catalogue", "index")
    target = next(Path(getattr(config, name)) for name in names if getattr(config, name, None))
    path = target.with_name(f"{name}-{target.name}.yaml")
    path.write_text(configs.dump(config), encoding="utf-8")
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.main([name, str(path), *words])
    return Done(status, out.getvalue(), err.getvalue())


def world_with_bank(folder: Path, levels) -> "World":
    """A catalogue of 22 pictures, and a bank of four shards in "made"."""
    tiny_catalogue(folder / "catalogue", 16)
    world = World(folder, levels)
    assert call("records", world.records(shard_size=6)).status == 0
    return world


def results(run: Path) -> dict:
    """results.json, which must be JSON in the strict sense: no NaN, no Infinity."""
    return json.loads((run / "results.json").read_text(), parse_constant=pytest.fail)


class World:
    """A folder with a catalogue, its bank where ``bank`` is given, and configurations of the commands over them."""

    def __init__(self, folder: Path, levels, bank: Bank | None = None):
        self.folder, self.levels, self.bank, self.data = folder, levels, bank, configs.Data(folder / "bank")
        self.training = configs.TrainingData(folder / "bank")
        self.source = TableSource(folder / "catalogue/table.jsonl", COLUMNS)
        self.best = folder / "pretrain/best.npz"

    def pretrain(self, run: str = "pretrain", **changes) -> configs.PretrainConfig:
        options = {"data": self.training, "levels": self.levels, "model": SIZES, "train": TRAIN, "sampling": RANDOM} | changes
        return configs.PretrainConfig(self.folder / run, **options)

    def classify(self, run: str = "classify", **changes) -> configs.ClassifyConfig:
        options = {"data": self.training, "levels": self.levels, "model": SIZES, "train": TRAIN, "init": self.best,
                   "label": "category", "baselines": False} | changes
        return configs.ClassifyConfig(self.folder / run, **options)

    def retrieve(self, run: str = "retrieve", epochs: float = 0, **changes) -> configs.RetrieveConfig:
        options = {"data": self.training, "levels": self.levels, "model": SIZES, "init": self.best, "direction": "i2t",
                   "train": replace(TRAIN, epochs=epochs, batch_size=6), "baselines": False, "num_candidates": 5,
                   "predict_batch_size": 40} | changes
        return configs.RetrieveConfig(self.folder / run, **options)

    def caption(self, run: str = "caption", **changes) -> configs.CaptionConfig:
        options = {"data": self.training, "levels": self.levels, "model": SIZES, "init": self.best, "train": TRAIN, "baselines": False,
                   "predict_batch_size": 20} | changes
        return configs.CaptionConfig(self.folder / run, **options)

    def records(self, bank: str = "made", **changes) -> configs.RecordsConfig:
        options = {"source": self.source, "encoder": configs.Encoder("pixels", 4), "text": configs.Text(length=12), "workers": 1,
                   "levels": self.levels, "foreground": configs.Foreground("border")} | changes
        return configs.RecordsConfig(self.folder / bank, **options)

    def align(self, run: str = "align", **changes) -> configs.AlignConfig:
        options = {"grid": configs.Grid("small", 16, channels=4), "word_grounding": TRAIN, "train": TRAIN, "captioner": CAPTIONER,
                   "decoding": configs.Decoding(2, max_length=4)} | changes
        return configs.AlignConfig(self.folder / run, self.data, **options)

    def evaluate(self, run: str = "evaluated", **changes) -> configs.EvaluateConfig:
        scores = self.folder.with_name(f"{self.folder.name}-scores.csv")  # beside, as convert's source
        if not scores.exists():
            scores.write_text("query,candidate,label,score\nq,a,1,0.5\nq,b,0,0.25\nr,a,0,0.5\nr,b,1,0.25\n", encoding="utf-8")
        return configs.EvaluateConfig(self.folder / run, **{"scores": scores} | changes)

    def inspect(self, run: str = "pages", **changes) -> configs.InspectConfig:
        return configs.InspectConfig(self.folder / run, self.data, self.best, **{"count": 1} | changes)

    def catalogue_check(self, run: str = "checked", **changes) -> CatalogueCheckConfig:
        return CatalogueCheckConfig(self.source, self.folder / run, **{"sheet": 1} | changes)

    def index(self, index: str = "index", **changes) -> IndexConfig:
        return IndexConfig(index=self.folder / index, data=IndexData(self.folder / "bank"), init=self.best, **changes)

    def synthesize(self, catalogue: str = "drawn") -> configs.SynthesizeConfig:
        return configs.SynthesizeConfig(self.folder / catalogue, num_products=10, views=1, size=48, workers=1)

    def fetch(self, into: str = "fetched", **changes) -> configs.FetchConfig:
        manifest = Path(__file__).resolve().parents[2] / "dataset/manifest.json"
        return configs.FetchConfig(manifest, self.folder / into, **changes)

    def export(self, out: str = "exported") -> ExportConfig:
        return ExportConfig(run=self.best.parent, out=self.folder / out)

    def convert(self, target: str = "converted") -> configs.ConvertConfig:
        source = self.folder.with_name(f"{self.folder.name}-released") / "model.ckpt-0"  # beside: some tests look at all of the folder
        if not source.parent.exists():
            checkpoint_data.write(source)
        return configs.ConvertConfig(source, self.folder / f"{target}.npz")

    def train_foreground(self, run: str = "foreground", **changes) -> configs.TrainForegroundConfig:
        options = {"foregrounds": 5, "backgrounds": 4, "scenes": 6, "held_out": 4, "goods": 2, "size": 16, "channels": (4, 6),
                   "workers": 1, "train": replace(TRAIN, batch_size=3, decay="after-warmup")} | changes
        return configs.TrainForegroundConfig(self.folder / run, **options)

    def all(self) -> dict:
        """A configuration of every command, into folders that no test fills; of those that call others or read their results, none."""
        others = {"tables", "report", "ablate", "catalogue run", "search", "demo", "predict", "push", "pull"}
        made = {name: getattr(self, re.sub("[- ]", "_", name))(f"dry-{name}") for name in commands.every() if name not in others}
        assert made.keys() | others == commands.every().keys()
        return made


def refused(done: Done, *words: str) -> str:
    """The one message of a command that refused, without a traceback; asserts that it holds the words (patterns)."""
    messages = [line for line in done.err.splitlines() if line.startswith("kaleidobert ")]
    assert done.status == 2 and len(messages) == 1 and "Traceback" not in done.err + done.out, done.err
    text = done.err[done.err.index("kaleidobert ") :]
    for word in words:
        assert re.search(word, text), text
    return text


def edit(source: configs.Source, change: Callable[[list[dict]], object]) -> None:
    """Change the rows of a catalogue."""
    rows = [json.loads(line) for line in source.table.read_text().splitlines()]
    change(rows)
    source.table.write_text("".join(json.dumps(row) + "\n" for row in rows))
