"""Shared by the tests of ``kaleidobert index`` and ``search``: a tiny catalogue, its bank, a matcher with vectors, and calls of both."""

import contextlib
import io
import json
import shutil
from pathlib import Path

import numpy as np

from kaleidobert import cli, configs
from kaleidobert.app_zoo import models
from kaleidobert.datasets.bank import builder
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.sampling.pretraining import clean_features
from kaleidobert.datasets.sources import reading
from kaleidobert.model_zoo import checkpoints
from kaleidobert.model_zoo.kaleidobert import CONTRASTIVE_MATCH, Matcher, matcher
from kaleidobert.preprocessors import encoders
from tests.support.apps_data import Done
from tests.support.tables import TWO
from tests.support.tiny import tiny_catalogue

GAIN = 3.0  # of the contrast: as large as the product of the towers


class World:
    """catalogue/, bank/ and best.npz, a matcher with random weights, in a folder."""

    def __init__(self, folder: Path, num_products: int = 24, head: str = "dual_encoder"):
        self.folder, self.source = folder, tiny_catalogue(folder / "catalogue", num_products)
        self.bank = self.make_bank("bank")
        self.checkpoint = folder / "best.npz"
        self.model = self.matcher(head)
        checkpoints.save(self.checkpoint, self.model, None, models.origin(self.model, self.bank))

    def make_bank(self, name: str, shard_size: int = 16) -> Bank:
        """A bank of the catalogue as it is now, with the vocabulary of the first one: a catalogue that grows keeps that of its model."""
        vocabulary = self.folder / "vocab.txt"
        text = configs.Text(length=16, vocabulary=vocabulary if vocabulary.exists() else None)
        config = configs.RecordsConfig(self.folder / name, self.source, configs.Foreground("border"), workers=1, levels=TWO, text=text,
                                       encoder=configs.Encoder("pixels", 8), shard_size=shard_size)
        products, skipped = reading.read(self.source)
        mark = builder.claim(config, products)
        for _ in builder.build_shards(config, products, encoders.build):
            pass
        builder.finish(config, products, skipped, mark)
        if not vocabulary.exists():
            shutil.copy(self.folder / name / "vocab.txt", vocabulary)
        return Bank(self.folder / name)

    def matcher(self, head: str) -> Matcher:
        bank = self.bank
        sizes = {"levels": TWO, "feature_size": bank.feature_size, "vocabulary_size": bank.vocabulary.size, "text_length": bank.text_length,
                 "hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 16, "max_positions": 16,
                 "initializer_range": 0.3}
        model = matcher(sizes, head, **({"width": 8} if head == "dual_encoder" else {}))
        model.adapt_features(clean_features(bank, np.arange(bank.size)))
        if head in ("dual_encoder", "contrastive"):
            model.get_layer(CONTRASTIVE_MATCH).gain.assign(GAIN)
        return model

    def index(self, name: str = "index", *words: str) -> Done:
        """``kaleidobert index``; words come last, and count."""
        return call("index", f"index={self.folder / name}", f"data.bank={self.folder / 'bank'}", f"init={self.checkpoint}",
                    "predict_batch_size=8", *words)

    def search(self, *words: str, index: str = "index") -> Done:
        """``kaleidobert search``."""
        return call("search", str(self.folder / index), *words)

    def picture(self, number: int) -> str:
        """The path of the picture of a row of the bank."""
        return self.bank.table[number]["image_path"]


def call(*words: str) -> Done:
    """A command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.main(list(words))
    return Done(status, out.getvalue(), err.getvalue())


def lines(done: Done) -> list[dict]:
    """The JSON lines that a search printed."""
    assert done.status == 0, done.err
    return [json.loads(line) for line in done.out.splitlines() if line.startswith("{")]
