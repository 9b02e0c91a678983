"""``kaleidobert inspect``: a page per picture with its patches and tokens, how the sampler spoils them, and what a model predicts."""

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from tqdm import tqdm

from kaleidobert import io
from kaleidobert import levels as kaleido
from kaleidobert.app_zoo import models, training
from kaleidobert.app_zoo.inspect import content, pages
from kaleidobert.app_zoo.inspect.content import Example, Photo
from kaleidobert.app_zoo.inspect.pages import Page
from kaleidobert.configs import InspectConfig
from kaleidobert.datasets.bank import alignment as alignments
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.products import Product, read_image
from kaleidobert.datasets.sampling.pretraining import ORDER, VALIDATION, PretrainSampler, generator
from kaleidobert.datasets.sources import reading
from kaleidobert.engines import steps
from kaleidobert.engines.run_folder import Run, check_folder
from kaleidobert.errors import UserError
from kaleidobert.levels import KaleidoLevel
from kaleidobert.model_zoo import checkpoints
from kaleidobert.model_zoo.kaleidobert import Pretrainer, rebuild
from kaleidobert.preprocessors import features, patch_generator
from kaleidobert.released import tf_checkpoint
from kaleidobert.released.checkpoints import load_meta, transfer

REMAKE = "put the picture back, or make the bank again"


def dry_run(config: InspectConfig) -> None:
    """Checks bank, checkpoint and pictures, and names the pages that ``run`` writes."""
    check_folder(config.run, config)
    bank, levels, rows = _open(config)
    photos = _photos(config, bank)
    for row in rows:
        photos(row)
    _alignment(config, bank)
    print(f"{len(rows)} pages in {config.run}, {kaleido.num_patches(levels)} patches each: "
          f"{', '.join(bank.table[row]['image_id'] for row in rows[:8])}{', ...' if len(rows) > 8 else ''}")


def run(config: InspectConfig) -> None:
    """Writes a page per picture, index.html and results.json into the run folder."""
    check_folder(config.run, config)
    inspector = Inspector(config)
    for row in inspector.rows:  # refuses a missing picture before the first page is drawn
        inspector.photos(row)
    folder = Run(config.run, config)
    shown: list[Page] = []
    for number, row in enumerate(tqdm(inspector.rows, unit="page", desc="inspect", leave=False), 1):
        page = inspector.page(row)
        page = replace(page, name=f"{number:02d}-{file_name(page.image_id)}")
        io.write_text(config.run / f"{page.name}.html", pages.page(page, inspector.settings))
        shown.append(pages.thumbnail(page))
    aligned = inspector.aligned
    corpus = content.build_corpus(aligned, inspector.levels, config.run / "alignment.png") if aligned else None
    io.write_text(config.run / "index.html", pages.index(shown, inspector.settings, corpus))
    result = {"task": "inspect", "pages": [_result(page) for page in shown]}
    folder.results({**result, "alignment": corpus.statistics} if corpus else result, config)
    print(f"{len(shown)} pages in {config.run}\n  open this: {(config.run / 'index.html').absolute()}\n"
          f"  as numbers: {config.run.absolute()}/results.json")


class Inspector:
    """Pages of a bank's pictures. rows: those that the configuration chooses; settings: what stands below every page.

    Raises UserError where bank, checkpoint, maps or catalogue do not fit one another.
    """

    def __init__(self, config: InspectConfig):
        self._config = config
        self.bank, self.levels, self.rows = _open(config)
        self.photos = _photos(config, self.bank)
        self.aligned, self._forward = _alignment(config, self.bank), _forward(config.checkpoint, self.bank)
        train = self.bank.rows(config.data.train_split) if self._forward else None
        self._constants = training.constant_answers(self.bank, train, self.levels) if train is not None else {}
        self._samplers: dict[str, PretrainSampler] = {}
        self.settings = (("bank", str(self.bank.folder)), ("encoder", self.bank.encoder), ("masking", config.sampling.masking),
                         ("seed", str(config.seed)), ("checkpoint", str(config.checkpoint or "none, so no answers are shown")))

    def page(self, row: int) -> Page:
        """Returns the page of a row of the bank, its ``name`` empty. Raises UserError where its picture is missing."""
        config, split = self._config, self.bank.table[row]["split"]
        if split not in self._samplers:
            self._samplers[split] = PretrainSampler(self.bank, self.bank.rows(split), self.levels, config.sampling, 1, config.seed)
        page = _page(self.bank, self.levels, row, (self._samplers[split], self.photos), (self._forward, self._constants), config.seed)
        if self.aligned is None:
            return page
        alignment = content.build_alignment(self.aligned, self.levels, row, self.photos(row), config.sampling, config.seed)
        return replace(page, alignment=alignment)


def file_name(image_id: str) -> str:
    """Returns an image id as part of a file's name: letters, digits, - and _ only, at most 60.

    >>> file_name("k_7/main-Red")
    'k_7_main-Red'
    """
    return re.sub(r"[^A-Za-z0-9_-]+", "_", image_id)[:60].strip("_")


def choose(bank: Bank, config: InspectConfig) -> list[int]:
    """Returns the rows of the named pictures, or ``count`` of the validation split, drawn from the seed.

    Raises UserError for an image id that the bank does not have, and names the nearest.
    """
    if not config.products:
        if config.count < 1:
            raise UserError(f"count is {config.count}", "inspect", "at least 1")
        return generator(config.seed, ORDER, 0).permutation(bank.rows(config.data.val_split))[: config.count].tolist()
    rows = {row["image_id"]: number for number, row in enumerate(bank.table)}
    for image_id in config.products:
        if image_id not in rows:
            own = [row["image_id"] for row in bank.table if row["product_id"] == image_id]
            near = own[:5] or difflib.get_close_matches(image_id, rows, 1, 0.3)
            raise UserError(f"the bank has no picture {image_id!r}", str(bank.folder), "image ids as in its table.jsonl",
                            f"did you mean {' or '.join(map(repr, near))}?" if near else "correct products=...")
    return [rows[image_id] for image_id in dict.fromkeys(config.products)]


def _open(config: InspectConfig) -> tuple[Bank, tuple[KaleidoLevel, ...], list[int]]:
    """Opens the bank; returns it with the level table and the rows to show.

    The table is the checkpoint's, which may have fewer levels than the bank, other numbers of masked patches, or a level without a target.
    """
    bank = Bank(config.data.bank)
    levels = bank.levels
    if config.checkpoint is not None:
        meta = load_meta(config.checkpoint)
        if meta.get("kind") != Pretrainer.kind:
            raise UserError(f"the checkpoint holds a {meta.get('kind')!r}", str(config.checkpoint), f"a {Pretrainer.kind!r}",
                            "name the best.npz of a `kaleidobert pretrain` run")
        levels = models.levels_of(meta)
    bank = bank.require(levels, config.data.encoder)
    if config.checkpoint is not None:
        arguments = {"levels": [asdict(level) for level in levels], "feature_size": bank.feature_size,
                     "vocabulary_size": bank.vocabulary.size, "text_length": bank.text_length}
        models.require(config.checkpoint, arguments, bank)
    return bank, levels, choose(bank, config)


def _photos(config: InspectConfig, bank: Bank) -> Callable[[int], Photo]:
    """Returns a function row -> picture, which raises UserError where the picture is missing or not the one in the bank."""
    products: dict[str, Product] = {}
    if config.source is not None:
        products = {product.image_id: product for product in reading.read(config.source)[0]}

    @lru_cache(8)
    def load(row: int) -> Photo:
        entry = bank.table[row]
        if config.source is not None and entry["image_id"] not in products:
            raise UserError(f"there is no picture {entry['image_id']!r}", str(config.source.table), "the catalogue that the bank "
                            "was made of", "correct source, or leave it out")
        product = products.get(entry["image_id"])
        path = product.image_path if product else entry["image_path"]
        try:
            image = read_image(path)
        except UserError as error:
            fix = "put it back; where the pictures lie elsewhere now, set source to their catalogue (as in the YAML file of "
            raise UserError(f"{error.what}: the picture of {entry['image_id']}", path, error.expected,
                            fix + "`kaleidobert records`)") from None
        height, width = image.shape[:2]
        boxes = patch_generator.boxes(entry["box"], width, height, bank.levels)
        if not np.allclose(boxes, bank.boxes[row], atol=1e-4):
            raise UserError(f"the picture ({width} x {height}) is not the one of which the bank was made", path,
                            "boxes as the bank has them", REMAKE)
        mask = product.load_mask() if product and product.load_mask else None
        if mask is not None and mask.shape != image.shape[:2]:
            raise UserError(f"the mask is {mask.shape[1]} x {mask.shape[0]}", entry["image_id"], f"{width} x {height}")
        return Photo(entry["image_id"], image, tuple(entry["box"]), mask, bank.square)

    return load


def _alignment(config: InspectConfig, bank: Bank) -> content.BankAlignment | None:
    """Returns the bank's alignment; None where it has none, or where no level has patches to mask.

    Raises UserError for an alignment that does not fit, and for maps without an alignment.
    """
    if not any(level.num_masked for level in bank.levels):
        if config.maps is not None:
            raise UserError("no level has masked patches, to which words could be linked", str(config.maps), fix="leave maps out")
        return None
    if alignments.strengths(bank) is not None:
        return content.BankAlignment(bank, config.maps)
    if config.maps is not None:
        raise UserError("the bank holds no alignment", str(bank.folder), fix="run `kaleidobert align` for it, or leave maps out")
    return None


def _forward(checkpoint: Path | None, bank: Bank) -> Callable | None:
    """Returns a function inputs -> the model's outputs; None without a checkpoint. Raises UserError where the weights do not fit."""
    if checkpoint is None:
        return None
    model = rebuild(load_meta(checkpoint), precision="float32")
    if not tf_checkpoint.exists(checkpoint):
        checkpoints.restore(checkpoint, model)
    elif missing := transfer(checkpoint, model):
        raise UserError(f"has no {', '.join(missing)}", str(checkpoint), "a checkpoint of pre-training, whole")
    else:
        models.print_start(checkpoint, [], bank)
    return steps.forward(model)


def _page(bank: Bank, levels: tuple[KaleidoLevel, ...], row: int, sources: tuple, model: tuple, seed: int) -> Page:
    """Returns the page of a row; the draw depends on seed and row only, not on what else is inspected."""
    (sampler, photos), (forward, constants) = sources, model
    plan = sampler.draw(np.array([row]), generator(seed, VALIDATION, row))
    inputs, targets, _ = sampler.assemble(plan)
    targets = features.to_floats(targets)
    foreign = any(spoiled.from_donor.any() for spoiled in plan.spoiled.values())
    outputs = forward(inputs) if forward else None
    if outputs and not all(np.isfinite(values).all() for values in outputs.values()):
        raise UserError("the model's outputs are not finite", bank.table[row]["image_id"],
                        fix="use a checkpoint from before the training diverged")
    example = Example(plan, targets, outputs, constants)
    return content.build_page(bank, levels, example, photos(row), photos(int(plan.donors[0])) if foreign else None)


def _result(page: Page) -> Mapping:
    """Returns a page's entry in results.json: its file, and for each target whether the prediction is right (null without a model)."""
    words = [{"truth": token.truth, "read": token.text, "right": token.correct} for token in page.target_tokens]
    return {"image_id": page.image_id, "html": f"{page.name}.html", "own_text": not page.negative,
            "right": {card.name: card.correct for card in page.target_cards}, "words": words}
