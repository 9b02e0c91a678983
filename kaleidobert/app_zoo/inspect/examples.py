"""From one spoiled example of the sampler to the content of its page: what was done, what is asked, what the model says."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kaleidobert.app_zoo.inspect import pictures
from kaleidobert.app_zoo.inspect.content import Card, Guess, Measure, Page, Shown, Token
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.sampling.pretraining import BatchPlan
from kaleidobert.evaluators import pretraining
from kaleidobert.levels import KaleidoLevel
from kaleidobert.preprocessors import patch_generator, pretexts

TOP = 3  # guesses shown, and the truth behind them where it is not among them


@dataclass(frozen=True)
class Example:
    """One example (a batch of 1): what was drawn, what was asked; what the model said (None: no model); without_looking:
    {feature level: the best constant answer f64[F]}."""

    draw: BatchPlan
    targets: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray] | None
    without_looking: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Photo:
    """A picture file and what is known of it: image uint8[h, w, 3], box x1, y1, x2, y2, mask bool[h, w] or None; square: names
    of the levels whose patches are cut square."""

    image_id: str
    image: np.ndarray
    box: tuple[int, int, int, int]
    mask: np.ndarray | None = None
    square: Collection[str] = ()


def build(bank: Bank, levels: tuple[KaleidoLevel, ...], example: Example, photo: Photo, donor: Photo | None) -> Page:
    """The page of an example; its ``name`` is left empty. donor: where a level shows a patch of another picture."""
    draw = example.draw
    row, text_row = bank.table[draw.rows[0]], bank.table[draw.text_rows[0]]
    shown = [Shown("foreground and its box" if photo.mask is not None else "the foreground's box",
                   pictures.foreground(photo.image, photo.box, photo.mask))]
    if row.get("parts"):
        shown.append(Shown("described parts", pictures.described_parts(photo.image, row["parts"])))
    return Page(
        image_id=row["image_id"], name="", text=row["text"], facts=_facts(row, photo), shown=tuple(shown),
        note=f"The whole picture was taken: {row['fallback']}." if row["fallback"] else "",
        tokens=tuple(_tokens(bank, example)), negative=text_row["text"] if draw.text_rows[0] != draw.rows[0] else "",
        match=_match(row, text_row, example),
        levels=tuple(_level(number, level, example, photo, donor) for number, level in enumerate(levels, 1)))


def _facts(row: Mapping[str, Any], photo: Photo) -> tuple[tuple[str, str], ...]:
    height, width = photo.image.shape[:2]
    x1, y1, x2, y2 = photo.box
    share = (x2 - x1) * (y2 - y1) / (width * height)
    facts = [("product", row["product_id"]), ("view", row["view"]), ("group", row["group"]), ("split", row["split"])]
    facts += [*row["labels"].items(), ("picture", f"{width} × {height} pixels"),
              ("foreground", f"{x2 - x1} × {y2 - y1} pixels at ({x1}, {y1}), {share:.0%} of the picture")]
    return tuple((name, str(value)) for name, value in facts if value and not (name == "group" and value == row["product_id"]))


def _tokens(bank: Bank, example: Example) -> Iterator[Token]:
    draw, vocabulary, tokenizer = example.draw, bank.vocabulary, bank.tokenizer()
    truth, read, masks = bank.token_ids[draw.text_rows[0]], draw.token_ids[0], draw.masks
    slots = {int(place): slot for slot, place in enumerate(masks.tokens[0]) if masks.token_weights[0, slot]}
    names, true_names = tokenizer.pieces(read.tolist()), tokenizer.pieces(truth.tolist())
    for place in np.flatnonzero(truth != vocabulary.pad).tolist():
        if place not in slots:
            special = truth[place] in (vocabulary.start, vocabulary.end)
            yield Token(names[place], "special" if special else "plain", place + 1)
            continue
        kind = "masked" if read[place] == vocabulary.mask else "kept" if read[place] == truth[place] else "replaced"
        guesses: tuple[Guess, ...] = ()
        if example.outputs is not None:
            guesses = _guesses(example.outputs["mlm"][0, slots[place]], int(truth[place]), lambda i: tokenizer.pieces([i])[0])
        yield Token(names[place], kind, place + 1, true_names[place], guesses)


def _match(row: Mapping[str, Any], text_row: Mapping[str, Any], example: Example) -> Card:
    itm = int(example.targets["itm"][0])
    answer = "yes, it is the picture's own" if itm else f"no, it is that of {text_row['image_id']}"
    if not itm:
        same = [name for name, value in row["labels"].items() if value and text_row["labels"].get(name) == value]
        answer += f", which has the same {' and '.join(same)}" if same else ""
    guesses = () if example.outputs is None else _guesses(example.outputs["itm"][0], itm, lambda i: ("no", "yes")[i])
    return Card("itm", "text and picture", "Does the text belong to the picture?", answer, guesses=guesses)


def _level(number: int, level: KaleidoLevel, example: Example, photo: Photo, donor: Photo | None) -> Card:
    spoiled, name, answer = example.draw.spoiled[level.name], level.name, ""
    title = f"{number}  {name}: {level.grid} × {level.grid} {'patches' if level.grid > 1 else 'patch'}"
    label = None if spoiled.answer is None else int(spoiled.answer[0])
    if label is not None:
        answer = f"{CLASS_NAMES[level.pretext](level, label)} (label {label} of 0 to {level.num_classes - 1})"
    elif level.answer == "feature":
        answer = f"the features of {_listed(example.draw.masks.patches[name][0])} as they were"
    guesses: tuple[Guess, ...] = ()
    measures: tuple[Measure, ...] = ()
    if example.outputs is not None and label is not None:
        guesses = _guesses(example.outputs[name][0], label, lambda i: CLASS_NAMES[level.pretext](level, i))
    elif example.outputs is not None and level.answer == "feature":
        measures = tuple(_measures(level, example, example.outputs[name]))
    return Card(name, title, QUESTIONS[level.pretext], answer, _shown(level, spoiled, photo, donor), guesses, measures)


def _shown(level: KaleidoLevel, spoiled: pretexts.Spoiled, photo: Photo, donor: Photo | None) -> tuple[Shown, ...]:
    """The level as it is, as the model sees it, and the donor with the patch that it lends, where there is one."""
    vectors, foreign, blank = spoiled.vectors[0], spoiled.from_donor[0], np.flatnonzero(spoiled.zeroed[0]).tolist()
    x1, y1, x2, y2 = photo.box
    cell = pictures.cell_size(level.grid, 1.0 if level.name in photo.square else (x2 - x1) / (y2 - y1))
    own = _views(level, photo, max(cell))[: level.num_patches]
    changed = [] if level.pretext in ("rotate", "shuffle") else np.flatnonzero(
        foreign | spoiled.zeroed[0] | (vectors >= level.num_patches)).tolist()
    numbered = range(level.num_patches) if level.pretext == "shuffle" else changed
    turned = level.pretext == "rotate" and vectors[0] // level.num_patches % 2  # a quarter turn swaps width and height
    seen = cell[::-1] if turned else cell
    places = {slot: str(slot + 1) for slot in numbered}
    sources = {slot: str(int(vectors[slot]) + 1) for slot in numbered} if level.pretext == "shuffle" else places
    spoilt = cells(level, spoiled, photo, donor, max(cell))
    if not level.answer:
        return (Shown("as the model sees it", pictures.patch_grid(own, level.grid, cell)),)
    shown = [Shown("as it is", pictures.patch_grid(own, level.grid, cell, names=places)),
             Shown("as the model sees it", pictures.patch_grid(spoilt, level.grid, seen, changed, blank, sources))]
    if not foreign.any():
        return tuple(shown)
    assert donor is not None  # what is foreign comes from it
    place = int(vectors[foreign][0])
    tile = patch_generator.tiles(donor.box, level.grid)[place].tolist()
    same = donor.image_id == photo.image_id
    caption = "its own: no other product fits" if same else f"{_place(level, place)} of {donor.image_id}"
    return (*shown, Shown(caption, pictures.lent_patch(donor.image, donor.box, tile)))


def cells(level: KaleidoLevel, spoiled: pretexts.Spoiled, photo: Photo, donor: Photo | None, size: int) -> np.ndarray:
    """uint8[n, s, s, 3]: the pixels whose features stand in the level's slots, cut by the same indices as the features; slots
    set to zero show their own patch. ``spoiled`` is a batch of 1; donor: needed where it lends a patch."""
    own, foreign = _views(level, photo, size), spoiled.from_donor[0]
    lent = own
    if foreign.any():
        assert donor is not None  # what is foreign comes from it
        lent = _views(level, donor, size)
    return np.where(foreign[:, None, None, None], lent[spoiled.vectors[0]], own[spoiled.vectors[0]])


def _views(level: KaleidoLevel, photo: Photo, size: int) -> np.ndarray:
    """uint8[V * n, s, s, 3], in the order of the bank's vectors."""
    cut = patch_generator.cut(photo.image, photo.box, (level,), size, square=photo.square)[level.name]
    return pretexts.views(level, cut).reshape(-1, size, size, 3)


def _measures(level: KaleidoLevel, example: Example, outputs: np.ndarray) -> Iterator[Measure]:
    one = np.ones(1)
    for slot, patch in enumerate(example.draw.masks.patches[level.name][0]):
        target, logits = example.targets[level.name][:, slot : slot + 1], outputs[0, slot]
        predicted = pretraining.constant_kl(pretraining.mean_distribution(logits[None]), target, one)[0]  # the mean of one: its softmax
        yield Measure(f"patch {patch + 1}", predicted, pretraining.constant_kl(example.without_looking[level.name], target, one)[0])


def _guesses(logits: np.ndarray, truth: int, name: Callable[[int], str]) -> tuple[Guess, ...]:
    shares = np.exp(logits.astype(np.float64) - logits.max())
    shares /= shares.sum()
    order = np.argsort(-shares, kind="stable").tolist()
    ranks = sorted({*range(min(TOP, len(order))), order.index(truth)})
    return tuple(Guess(rank + 1, name(order[rank]), float(shares[order[rank]]), order[rank] == truth) for rank in ranks)


def _turn(quarters: int) -> str:
    return f"by {90 * quarters}° to the left" if quarters else "not at all"


def _order(level: KaleidoLevel, label: int) -> str:
    return " ".join(str(patch + 1) for patch in pretexts.orders(level.num_patches)[label])


def _place(level: KaleidoLevel, slot: int) -> str:
    return f"patch {slot + 1}"


def _listed(slots: np.ndarray) -> str:
    return f"{'patches' if len(slots) > 1 else 'patch'} {', '.join(str(slot + 1) for slot in slots)}"


QUESTIONS = {"rotate": "How far is the patch turned?", "shuffle": "In which order do the patches stand?",
             "camouflage": "Which patch is another product's?", "grey": "What are the grey patches in colour?",
             "blank": "What is behind the blank patches?", "none": "Nothing is asked."}
CLASS_NAMES: dict[str, Callable[[KaleidoLevel, int], str]] = {"rotate": lambda level, label: _turn(label),
                                                             "shuffle": _order, "camouflage": _place}
