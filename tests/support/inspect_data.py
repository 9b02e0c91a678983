"""Shared by the tests of ``kaleidobert inspect``: a tiny world of catalogue, bank and checkpoint."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from kaleidobert import configs
from kaleidobert import levels as kaleido
from kaleidobert.app_zoo.inspect import content
from kaleidobert.app_zoo.inspect.content import Example, Photo
from kaleidobert.datasets.products import read_image
from kaleidobert.datasets.sampling.pretraining import PretrainSampler, generator
from kaleidobert.model_zoo import checkpoints
from kaleidobert.model_zoo.kaleidobert import pretrainer
from tests.support.tiny import make_bank, tiny_catalogue

TITLE = '<c>"A" & B</c> red cap'  # what HTML would take for its own, and no tag that is taken out of texts


def change(source: configs.Source, number: int, **values) -> None:
    """Change columns of one row of a catalogue."""
    rows = [json.loads(line) for line in source.table.read_text(encoding="utf-8").splitlines()]
    rows[number].update(values)
    source.table.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


class World:
    """A catalogue, its bank and a checkpoint of a random model."""

    def __init__(self, folder: Path, levels, turned: str = "squash"):
        self.source, self.levels = tiny_catalogue(folder / "catalogue", 16), levels
        change(self.source, 0, text=TITLE)
        Image.new("RGB", (40, 52), (200, 200, 200)).save(folder / "catalogue/p01-front.png")  # nothing in the foreground
        self.bank, self.checkpoint = make_bank(folder / "bank", self.source, levels, turned=turned), folder / "best.npz"
        checkpoints.save(self.checkpoint, pretrainer(self.sizes()))

    def sizes(self, **changes) -> dict:
        return {"levels": self.levels, "feature_size": self.bank.feature_size, "vocabulary_size": self.bank.vocabulary.size,
                "text_length": self.bank.text_length, "hidden_size": 16, "num_layers": 1, "num_heads": 2,
                "intermediate_size": 16, "max_positions": 32, **changes}

    def config(self, run: Path, **changes) -> configs.InspectConfig:
        return configs.InspectConfig(run, configs.Data(self.bank.folder), **changes)

    def photo(self, row: int) -> Photo:
        entry = self.bank.table[row]
        return Photo(entry["image_id"], read_image(entry["image_path"]), tuple(entry["box"]), square=self.bank.square)

    def sampler(self, **sampling) -> PretrainSampler:
        options = configs.Sampling(**{"masking": "random"} | sampling)
        return PretrainSampler(self.bank, np.arange(self.bank.size), self.levels, options, 1, 0)

    def page(self, row: int, outputs=None, **sampling):
        """(content of a page, draw, targets); outputs: a function of draw and targets that stands for the model."""
        sampler = self.sampler(**sampling)
        draw = sampler.draw(np.array([row]), generator(0, 2, row))
        _, targets, _ = sampler.assemble(draw)
        constants = {level.name: np.full(self.bank.feature_size, 1 / self.bank.feature_size)
                     for level in kaleido.feature_levels(self.levels)}
        example = Example(draw, targets, outputs(draw, targets) if outputs else None, constants)
        page = content.build_page(self.bank, self.levels, example, self.photo(row), self.photo(int(draw.donors[0])))
        return page, draw, targets
