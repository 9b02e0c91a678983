"""``kaleidobert inspect``: a page per picture: its patches and tokens, how the sampler spoils them, and what a model answers."""

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from kaleidobert import io
from kaleidobert import levels as kaleido
from kaleidobert.app_zoo import models
from kaleidobert.app_zoo.inspect import alignment, examples, pages, pages_alignment, pages_png
from kaleidobert.app_zoo.inspect.content import Page
from kaleidobert.app_zoo.inspect.examples import Example, Photo
from kaleidobert.configs import InspectConfig
from kaleidobert.datasets.bank import alignment as alignments
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.products import Product, read_image
from kaleidobert.datasets.sampling.pretraining import ORDER, VALIDATION, PretrainSampler, generator
from kaleidobert.datasets.sources import reading
from kaleidobert.engines import steps
from kaleidobert.engines.run_folder import Run, check_folder
from kaleidobert.errors import UserError
from kaleidobert.evaluators import pretraining
from kaleidobert.levels import KaleidoLevel
from kaleidobert.model_zoo import checkpoints
from kaleidobert.model_zoo.kaleidobert import Pretrainer, rebuild
from kaleidobert.preprocessors import features, patch_generator
from kaleidobert.released import any_checkpoint, tf_checkpoint

MOST_FOR_MEAN = 500  # training pictures from which the best answer without looking is computed
REMAKE = "put the picture back, or make the bank again"


def dry_run(config: InspectConfig) -> None:
    """Check bank, checkpoint and pictures; name the pages that would be written."""
    check_folder(config.run, config)
    bank, levels, rows = _open(config)
    photos = _photos(config, bank)
    for row in rows:
        photos(row)
    _alignment(config, bank)
    print(f"{len(rows)} pages in {config.run}, {kaleido.num_patches(levels)} patches each: "
          f"{', '.join(bank.table[row]['image_id'] for row in rows[:8])}{', ...' if len(rows) > 8 else ''}")


def run(config: InspectConfig) -> None:
    """Write a page per picture as HTML and PNG, index.html and results.json into the run folder."""
    check_folder(config.run, config)
    bank, levels, rows = _open(config)
    photos = _photos(config, bank)
    for row in rows:  # a picture that is missing is said before the first page is drawn
        photos(row)
    aligned, forward = _alignment(config, bank), _forward(config.checkpoint, bank)
    constants = _without_looking(config, bank, levels) if forward else {}
    folder = Run(config.run, config)
    settings = (("bank", str(bank.folder)), ("encoder", bank.encoder), ("masking", config.sampling.masking),
                ("seed", str(config.seed)), ("checkpoint", str(config.checkpoint or "none, so no answers are shown")))
    samplers: dict[str, PretrainSampler] = {}
    content = []
    for number, row in enumerate(tqdm(rows, unit="page", desc="inspect", leave=False), 1):
        split = bank.table[row]["split"]
        if split not in samplers:
            samplers[split] = PretrainSampler(bank, bank.rows(split), levels, config.sampling, 1, config.seed)
        page = _page(bank, levels, row, (samplers[split], photos), (forward, constants), config.seed)
        shown = alignment.build(aligned, levels, row, photos(row), config.sampling, config.seed) if aligned else None
        page = replace(page, name=f"{number:02d}-{file_name(page.image_id)}", aligned=shown)
        _write(config.run, page, settings)
        content.append(pages.thumbnail(page))
    corpus = alignment.corpus(aligned, levels, config.run / "alignment.png") if aligned else None
    io.write_text(config.run / "index.html", pages.index(content, settings, pages_alignment.corpus(corpus) if corpus else ""))
    result = {"task": "inspect", "pages": [_result(page) for page in content]}
    folder.results({**result, "alignment": corpus.statistics} if corpus else result, config)
    print(f"{len(content)} pages in {config.run}\n  open this: {(config.run / 'index.html').absolute()}\n"
          f"  as pictures: {config.run.absolute()}/{content[0].name}.png{', ...' if len(content) > 1 else ''}\n"
          f"  as numbers: {config.run.absolute()}/results.json")


def _write(folder: Path, page: Page, settings: Sequence[tuple[str, str]]) -> None:
    """Write a page as HTML and PNG."""
    aligned = page.aligned
    io.write_text(folder / f"{page.name}.html", pages.page(page, settings, pages_alignment.html(aligned) if aligned else ""))
    with io.atomic(folder / f"{page.name}.png") as file:
        draw = partial(pages_alignment.draw, aligned=aligned) if aligned else None
        pages_png.page(page, settings, draw).save(file, "PNG")


def file_name(image_id: str) -> str:
    """An image id as part of a file's name: letters, digits, - and _ only, at most 60.

    >>> file_name("k_7/main-Red")
    'k_7_main-Red'
    """
    return re.sub(r"[^A-Za-z0-9_-]+", "_", image_id)[:60].strip("_")


def choose(bank: Bank, config: InspectConfig) -> list[int]:
    """The rows of the named pictures, or ``count`` of the validation split, drawn from the seed.

    Raises UserError for an image id that the bank does not have, and names the nearest.
    """
    if not config.products:
        if config.count < 1:
            raise UserError(f"count is {config.count}", "inspect", "at least 1")
        return generator(config.seed, ORDER, 0).permutation(bank.rows(config.data.val_split))[: config.count].tolist()
    places = {row["image_id"]: place for place, row in enumerate(bank.table)}
    for image_id in config.products:
        if image_id not in places:
            own = [row["image_id"] for row in bank.table if row["product_id"] == image_id]
            near = own[:5] or difflib.get_close_matches(image_id, places, 1, 0.3)
            raise UserError(f"the bank has no picture {image_id!r}", str(bank.folder), "image ids as in its table.jsonl",
                            f"did you mean {' or '.join(map(repr, near))}?" if near else "correct products=...")
    return [places[image_id] for image_id in dict.fromkeys(config.products)]


def _open(config: InspectConfig) -> tuple[Bank, tuple[KaleidoLevel, ...], list[int]]:
    """Bank, level table and rows. The table is the checkpoint's, which may have fewer levels than the bank, other numbers of masked
    patches, or nothing to ask of a level."""
    bank = Bank(config.data.bank)
    levels = bank.levels
    if config.checkpoint is not None:
        meta = any_checkpoint.load_meta(config.checkpoint)
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
    """A function row -> its picture, checked against the bank; raises UserError where it is missing or another one."""
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


def _alignment(config: InspectConfig, bank: Bank) -> alignment.Alignment | None:
    """The bank's alignment, None where it has none or no level has patches to mask, for which it is there. Raises UserError for one
    that does not fit, and for maps without one."""
    if not any(level.num_masked for level in bank.levels):
        if config.maps is not None:
            raise UserError("no level has masked patches, to which words could be linked", str(config.maps), fix="leave maps out")
        return None
    if alignments.strengths(bank) is not None:
        return alignment.Alignment(bank, config.maps)
    if config.maps is not None:
        raise UserError("the bank holds no alignment", str(bank.folder), fix="run `kaleidobert align` for it, or leave maps out")
    return None


def _forward(checkpoint: Path | None, bank: Bank) -> Callable | None:
    """The model's answers, inputs -> outputs; None without a checkpoint. Raises UserError where the weights do not fit."""
    if checkpoint is None:
        return None
    model = rebuild(any_checkpoint.load_meta(checkpoint), precision="float32")
    if not tf_checkpoint.exists(checkpoint):
        checkpoints.restore(checkpoint, model)
    elif fresh := any_checkpoint.transfer(checkpoint, model):
        raise UserError(f"has no {', '.join(fresh)}", str(checkpoint), "a checkpoint of pre-training, whole")
    else:
        models.print_start(checkpoint, [], bank)
    return steps.forward(model)


def _without_looking(config: InspectConfig, bank: Bank, levels: tuple[KaleidoLevel, ...]) -> dict[str, np.ndarray]:
    """{feature level: f64[F]}: the best constant answer, from training pictures."""
    rows, starts, constants = bank.rows(config.data.train_split), kaleido.vector_slices(levels), {}
    rows = rows[:: max(1, len(rows) // MOST_FOR_MEAN)]
    for level in kaleido.feature_levels(levels):
        place = np.broadcast_to(starts[level.name].start + np.arange(level.num_patches), (len(rows), level.num_patches))
        constants[level.name] = pretraining.mean_distribution(bank.features(rows, place))
    return constants


def _page(bank: Bank, levels: tuple[KaleidoLevel, ...], row: int, sources: tuple, model: tuple, seed: int) -> Page:
    """The page of a row; the draw depends on seed and row only, not on what else is inspected."""
    (sampler, photos), (forward, constants) = sources, model
    draw = sampler.draw(np.array([row]), generator(seed, VALIDATION, row))
    inputs, targets, _ = sampler.assemble(draw)
    targets = features.to_floats(targets)
    lends = any(spoiled.from_donor.any() for spoiled in draw.spoiled.values())
    outputs = forward(inputs) if forward else None
    if outputs and not all(np.isfinite(values).all() for values in outputs.values()):
        raise UserError("the model answers with numbers that are not finite", bank.table[row]["image_id"],
                        fix="use a checkpoint from before the training diverged")
    example = Example(draw, targets, outputs, constants)
    return examples.build(bank, levels, example, photos(row), photos(int(draw.donors[0])) if lends else None)


def _result(page: Page) -> Mapping:
    """What results.json says of a page: the files, what was asked and whether it was answered rightly (null: no model)."""
    right = {card.name: card.right for card in (page.match, *page.asked_levels)}
    words = [{"truth": token.truth, "read": token.text, "right": token.guesses[0].true if token.guesses else None}
             for token in page.asked]
    return {"image_id": page.image_id, "html": f"{page.name}.html", "png": f"{page.name}.png", "own_text": not page.negative,
            "right": right, "words": words}
