"""From one spoiled example of the sampler to the content of its page: how it is spoiled, the targets, the model's predictions."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kaleidobert.app_zoo.inspect import pictures
from kaleidobert.app_zoo.inspect.pages import Card, Divergence, Figure, Page, Prediction, Token
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.sampling.pretraining import BatchPlan
from kaleidobert.evaluators import pretraining
from kaleidobert.levels import KaleidoLevel
from kaleidobert.preprocessors import patch_generator, pretexts

TOP = 3  # predictions on a page; the truth follows where it is not among them


@dataclass(frozen=True)
class Example:
    """One example, as a batch of 1.

    outputs: logits of the model, None without one; constant_answers: {feature level: f64[F]}, the best answer that ignores the picture.
    """

    plan: BatchPlan
    targets: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray] | None
    constant_answers: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Photo:
    """A picture of the bank: image uint8[h, w, 3], foreground box x1, y1, x2, y2 in pixels, mask bool[h, w] or None; square: names of the
    levels whose patches are cut square."""

    image_id: str
    image: np.ndarray
    box: tuple[int, int, int, int]
    mask: np.ndarray | None = None
    square: Collection[str] = ()


def build(bank: Bank, levels: tuple[KaleidoLevel, ...], example: Example, photo: Photo, donor: Photo | None) -> Page:
    """Returns the page of an example, its ``name`` empty. donor: the picture of which a level shows a patch, None where none does."""
    plan = example.plan
    row, text_row = bank.table[plan.rows[0]], bank.table[plan.text_rows[0]]
    figures = [Figure("foreground and its box" if photo.mask is not None else "the foreground's box",
                      pictures.foreground(photo.image, photo.box, photo.mask))]
    if row.get("parts"):
        figures.append(Figure("described parts", pictures.described_parts(photo.image, row["parts"])))
    return Page(
        image_id=row["image_id"], name="", text=row["text"], metadata=_metadata(row, photo), figures=tuple(figures),
        note=f"The whole picture was taken: {row['fallback']}." if row["fallback"] else "",
        tokens=tuple(_tokens(bank, example)), negative=text_row["text"] if plan.text_rows[0] != plan.rows[0] else "",
        match=_match(row, text_row, example),
        levels=tuple(_level(number, level, example, photo, donor) for number, level in enumerate(levels, 1)))


def _metadata(row: Mapping[str, Any], photo: Photo) -> tuple[tuple[str, str], ...]:
    height, width = photo.image.shape[:2]
    x1, y1, x2, y2 = photo.box
    fraction = (x2 - x1) * (y2 - y1) / (width * height)
    metadata = [("product", row["product_id"]), ("view", row["view"]), ("group", row["group"]), ("split", row["split"])]
    metadata += [*row["labels"].items(), ("picture", f"{width} × {height} pixels"),
                 ("foreground", f"{x2 - x1} × {y2 - y1} pixels at ({x1}, {y1}), {fraction:.0%} of the picture")]
    return tuple((name, str(value)) for name, value in metadata if value and not (name == "group" and value == row["product_id"]))


def _tokens(bank: Bank, example: Example) -> Iterator[Token]:
    plan, vocabulary, tokenizer = example.plan, bank.vocabulary, bank.tokenizer()
    truth, read, masks = bank.token_ids[plan.text_rows[0]], plan.token_ids[0], plan.masks
    slots = {int(position): slot for slot, position in enumerate(masks.tokens[0]) if masks.token_weights[0, slot]}
    names, true_names = tokenizer.pieces(read.tolist()), tokenizer.pieces(truth.tolist())
    for position in np.flatnonzero(truth != vocabulary.pad).tolist():
        if position not in slots:
            special = truth[position] in (vocabulary.start, vocabulary.end)
            yield Token(names[position], "special" if special else "plain", position + 1)
            continue
        state = "masked" if read[position] == vocabulary.mask else "kept" if read[position] == truth[position] else "replaced"
        predictions: tuple[Prediction, ...] = ()
        if example.outputs is not None:
            logits = example.outputs["mlm"][0, slots[position]]
            predictions = _predictions(logits, int(truth[position]), lambda i: tokenizer.pieces([i])[0])
        yield Token(names[position], state, position + 1, true_names[position], predictions)


def _match(row: Mapping[str, Any], text_row: Mapping[str, Any], example: Example) -> Card:
    itm = int(example.targets["itm"][0])
    answer = "yes, it is the picture's own" if itm else f"no, it is that of {text_row['image_id']}"
    if not itm:
        same = [name for name, value in row["labels"].items() if value and text_row["labels"].get(name) == value]
        answer += f", which has the same {' and '.join(same)}" if same else ""
    predictions = () if example.outputs is None else _predictions(example.outputs["itm"][0], itm, lambda i: ("no", "yes")[i])
    return Card("itm", "text and picture", "Does the text belong to the picture?", answer, predictions=predictions)


def _level(number: int, level: KaleidoLevel, example: Example, photo: Photo, donor: Photo | None) -> Card:
    spoiled, name, answer = example.plan.spoiled[level.name], level.name, ""
    class_name = pretexts.SPOILING[level.pretext].class_name
    title = f"{number}  {name}: {level.grid} × {level.grid} {'patches' if level.grid > 1 else 'patch'}"
    label = None if spoiled.answer is None else int(spoiled.answer[0])
    if label is not None:
        answer = f"{class_name(level, label)} (label {label} of 0 to {level.num_classes - 1})"
    elif level.answer == "feature":
        answer = f"the features of {_listed(example.plan.masks.patches[name][0])} as they were"
    predictions: tuple[Prediction, ...] = ()
    divergences: tuple[Divergence, ...] = ()
    if example.outputs is not None and label is not None:
        predictions = _predictions(example.outputs[name][0], label, lambda i: class_name(level, i))
    elif example.outputs is not None and level.answer == "feature":
        divergences = tuple(_divergences(level, example, example.outputs[name]))
    return Card(name, title, level.question, answer, _figures(level, spoiled, photo, donor), predictions, divergences)


def _figures(level: KaleidoLevel, spoiled: pretexts.Spoiled, photo: Photo, donor: Photo | None) -> tuple[Figure, ...]:
    """The level as it is, as the model sees it, and the donor with the patch that it gives, where there is one."""
    vectors, foreign, blank = spoiled.vectors[0], spoiled.from_donor[0], np.flatnonzero(spoiled.zeroed[0]).tolist()
    x1, y1, x2, y2 = photo.box
    cell = pictures.cell_size(level.grid, 1.0 if level.name in photo.square else (x2 - x1) / (y2 - y1))
    own = _views(level, photo, max(cell))[: level.num_patches]
    changed = [] if level.pretext in ("rotate", "shuffle") else np.flatnonzero(
        foreign | spoiled.zeroed[0] | (vectors >= level.num_patches)).tolist()
    numbered = range(level.num_patches) if level.pretext == "shuffle" else changed
    turned = level.pretext == "rotate" and vectors[0] // level.num_patches % 2  # a quarter turn swaps width and height
    seen = cell[::-1] if turned else cell
    numbers = {slot: str(slot + 1) for slot in numbered}
    sources = {slot: str(int(vectors[slot]) + 1) for slot in numbered} if level.pretext == "shuffle" else numbers
    spoilt = cells(level, spoiled, photo, donor, max(cell))
    if not level.answer:
        return (Figure("as the model sees it", pictures.patch_grid(own, level.grid, cell)),)
    figures = [Figure("as it is", pictures.patch_grid(own, level.grid, cell, names=numbers)),
               Figure("as the model sees it", pictures.patch_grid(spoilt, level.grid, seen, changed, blank, sources))]
    if not foreign.any():
        return tuple(figures)
    assert donor is not None  # foreign vectors come from it
    patch = int(vectors[foreign][0])
    tile = patch_generator.tiles(donor.box, level.grid)[patch].tolist()
    same = donor.image_id == photo.image_id
    caption = "its own: no other product fits" if same else f"patch {patch + 1} of {donor.image_id}"
    return (*figures, Figure(caption, pictures.donor_patch(donor.image, donor.box, tile)))


def cells(level: KaleidoLevel, spoiled: pretexts.Spoiled, photo: Photo, donor: Photo | None, size: int) -> np.ndarray:
    """Returns uint8[n, s, s, 3], the pixels whose features stand in the level's slots, cut by the same indices as the features; slots set
    to zero show their own patch. ``spoiled`` is a batch of 1; donor: needed where a vector is foreign."""
    own, foreign = _views(level, photo, size), spoiled.from_donor[0]
    given = own
    if foreign.any():
        assert donor is not None  # foreign vectors come from it
        given = _views(level, donor, size)
    return np.where(foreign[:, None, None, None], given[spoiled.vectors[0]], own[spoiled.vectors[0]])


def _views(level: KaleidoLevel, photo: Photo, size: int) -> np.ndarray:
    """The pixels of all views, uint8[V * n, s, s, 3], in the order of the bank's vectors."""
    cut = patch_generator.cut(photo.image, photo.box, (level,), size, square=photo.square)[level.name]
    return pretexts.views(level, cut).reshape(-1, size, size, 3)


def _divergences(level: KaleidoLevel, example: Example, outputs: np.ndarray) -> Iterator[Divergence]:
    one = np.ones(1)
    for slot, patch in enumerate(example.plan.masks.patches[level.name][0]):
        target, logits = example.targets[level.name][:, slot : slot + 1], outputs[0, slot]
        predicted = pretraining.constant_kl(pretraining.mean_distribution(logits[None]), target, one)[0]  # the mean of one: its softmax
        yield Divergence(f"patch {patch + 1}", predicted, pretraining.constant_kl(example.constant_answers[level.name], target, one)[0])


def _predictions(logits: np.ndarray, truth: int, name: Callable[[int], str]) -> tuple[Prediction, ...]:
    """The TOP classes by probability, and the true one."""
    probabilities = np.exp(logits.astype(np.float64) - logits.max())
    probabilities /= probabilities.sum()
    order = np.argsort(-probabilities, kind="stable").tolist()
    ranks = sorted({*range(min(TOP, len(order))), order.index(truth)})
    return tuple(Prediction(rank + 1, name(order[rank]), float(probabilities[order[rank]]), order[rank] == truth) for rank in ranks)


def _listed(slots: np.ndarray) -> str:
    return f"{'patches' if len(slots) > 1 else 'patch'} {', '.join(str(slot + 1) for slot in slots)}"
