"""The content of a page: one spoiled example of the sampler, with targets and predictions, and what the bank's alignment says of it."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kaleidobert import levels as kaleido
from kaleidobert.app_zoo.inspect import pages, pictures
from kaleidobert.app_zoo.inspect.pages import Card, Corpus, Divergence, Figure, Page, Plan, Prediction, Token
from kaleidobert.app_zoo.inspect.pictures import WordLinks
from kaleidobert.configs import Sampling
from kaleidobert.datasets.bank import alignment as alignments
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.sampling.pretraining import BatchPlan, generator, maskable, quota
from kaleidobert.errors import UserError
from kaleidobert.evaluators import alignment as evaluation
from kaleidobert.evaluators import pretraining
from kaleidobert.evaluators.report import plots
from kaleidobert.levels import KaleidoLevel
from kaleidobert.preprocessors import alignment_generator, alignment_guided_masking, patch_generator, pretexts
from kaleidobert.preprocessors.tokenization import Word, words_of_text

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


def build_page(bank: Bank, levels: tuple[KaleidoLevel, ...], example: Example, photo: Photo, donor: Photo | None) -> Page:
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
    """Returns the level as it is, as the model sees it, and the donor with the patch that it gives, where there is one."""
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
    """Returns the pixels of all views, uint8[V * n, s, s, 3], in the order of the bank's vectors."""
    cut = patch_generator.cut(photo.image, photo.box, (level,), size, square=photo.square)[level.name]
    return pretexts.views(level, cut).reshape(-1, size, size, 3)


def _divergences(level: KaleidoLevel, example: Example, outputs: np.ndarray) -> Iterator[Divergence]:
    one = np.ones(1)
    for slot, patch in enumerate(example.plan.masks.patches[level.name][0]):
        target, logits = example.targets[level.name][:, slot : slot + 1], outputs[0, slot]
        predicted = pretraining.constant_kl(pretraining.mean_distribution(logits[None]), target, one)[0]  # the mean of one: its softmax
        yield Divergence(f"patch {patch + 1}", predicted, pretraining.constant_kl(example.constant_answers[level.name], target, one)[0])


def _predictions(logits: np.ndarray, truth: int, name: Callable[[int], str]) -> tuple[Prediction, ...]:
    """Returns the TOP classes by probability, and the true one."""
    probabilities = np.exp(logits.astype(np.float64) - logits.max())
    probabilities /= probabilities.sum()
    order = np.argsort(-probabilities, kind="stable").tolist()
    ranks = sorted({*range(min(TOP, len(order))), order.index(truth)})
    return tuple(Prediction(rank + 1, name(order[rank]), float(probabilities[order[rank]]), order[rank] == truth) for rank in ranks)


def _listed(slots: np.ndarray) -> str:
    return f"{'patches' if len(slots) > 1 else 'patch'} {', '.join(str(slot + 1) for slot in slots)}"


# --- The bank's alignment: captions, heat maps, links, and what guided masking hides beside what random masking hides


STREAM = 20  # of the seed: masks that only these pages show
MAX_MAPS = 12  # heat maps on a page
MAX_COUNTED = 5000  # pictures in the statistics
TITLES = {"alignment_guided": "Alignment Guided Masking", "random": "random masking"}
OTHER_MAPS = "set maps to the folder of the `kaleidobert align` run that aligned this bank, or leave it out"


class BankAlignment:
    """A bank's alignment with its captions, and with the words' maps where ``maps`` names a folder of maps.npy and words.jsonl.

    Raises UserError where the alignment does not fit the bank, or the maps do not fit the alignment.
    """

    def __init__(self, bank: Bank, maps: Path | None):
        self.bank, self.captions, self.tokenizer = bank, alignments.captions(bank), bank.tokenizer()
        self.maps: np.ndarray | None = None
        self.has_map: list[list[bool]] = []
        if maps is not None:
            self.maps, self.has_map = self._open(maps)

    def _open(self, folder: Path) -> tuple[np.ndarray, list[list[bool]]]:
        try:
            maps = np.load(folder / "maps.npy", mmap_mode="r", allow_pickle=False)
            lines = [json.loads(line) for line in (folder / "words.jsonl").read_text(encoding="utf-8").splitlines()]
        except FileNotFoundError as error:
            raise UserError("there are no maps", str(error.filename), "maps.npy and words.jsonl", OTHER_MAPS) from None
        except ValueError as error:
            raise UserError(f"the maps cannot be read ({error})", str(folder), fix=OTHER_MAPS) from None
        ids = self.bank.column("image_id").tolist()
        if maps.ndim != 4 or len(maps) != len(ids) or [line["image_id"] for line in lines] != ids:
            raise UserError(f"the maps belong to {len(lines)} other pictures", str(folder), f"those of the bank: {len(ids)}", OTHER_MAPS)
        return maps, [line["has_map"] for line in lines]

    def words(self, row: int) -> list[Word]:
        """Returns the words of a row's text with the positions of their pieces; word w is number w of token_words."""
        return words_of_text(self.tokenizer.pieces(self.bank.token_ids[row].tolist()), self.bank.token_words[row])

    @property
    def threshold(self) -> float:
        """The fraction of a map's maximum that its region reaches."""
        return float(self._info["settings"].get("regions", {}).get("threshold", 0.5))

    @property
    def mode(self) -> str:
        """How the words were linked, as ``mode`` of `kaleidobert align`."""
        return str(self._info["mode"])

    @property
    def _info(self) -> Mapping[str, Any]:
        info = alignments.info(self.bank)
        assert info is not None  # the constructor refuses a bank without
        return info


def build_alignment(aligned: BankAlignment, levels: Sequence[KaleidoLevel], row: int, photo: Photo, sampling: Sampling,
          seed: int) -> pages.Alignment:
    """Returns what the alignment says of a row, and one draw of each masking policy."""
    words, strengths = aligned.words(row), np.asarray(alignments.of(aligned.bank)[row])
    linked = [number for number, word in enumerate(words) if word.positions and strengths[word.positions[0]].any()]
    colours = {number: rank for rank, number in enumerate(linked)}
    links = []
    for level, patches in zip(levels, kaleido.patch_slices(levels).values()):
        if level.num_masked:
            of_level = [WordLinks(words[number].text, colours[number], strengths[words[number].positions[0], patches].astype(np.float64))
                        for number in linked]
            caption = f"{level.name}: {level.grid} × {level.grid}"
            links.append(Figure(caption, pictures.link_lines(photo.image, photo.box, level.grid, of_level)))
    content = sum(bool(word.positions) for word in words)
    note = f"{len(linked)} of {content} words are linked to patches, in mode {aligned.mode}." if content else "The picture has no text."
    caption = aligned.captions[row].get("caption", "") if aligned.captions else ""
    plans = tuple(_plan(policy, aligned, levels, row, photo, sampling, seed) for policy in TITLES)
    return pages.Alignment(caption, note, _maps(aligned, row, photo, words), tuple(links), plans)


def build_corpus(aligned: BankAlignment, levels: Sequence[KaleidoLevel], path: Path) -> Corpus:
    """Computes the statistics of the bank's alignment, of evenly spaced rows where there are many, and draws them into ``path``."""
    bank = aligned.bank
    rows = np.arange(bank.size)[:: -(-bank.size // MAX_COUNTED)]
    words = [[word.text for word in aligned.words(row)] for row in rows.tolist()]
    counts = evaluation.statistics(alignments.of(bank)[rows], bank.token_words[rows], words, levels, alignment_generator.content)
    plots.alignment_statistics(counts, path)
    with Image.open(path) as image:
        caption = f"of {len(rows):,} pictures" if len(rows) == bank.size else f"of {len(rows):,} of {bank.size:,} pictures"
        return Corpus(counts, Figure(caption, image.convert("RGB")))


def _maps(aligned: BankAlignment, row: int, photo: Photo, words: Sequence[Word]) -> tuple[Figure, ...]:
    """Returns the heat maps of a row's first words that have a map."""
    if aligned.maps is None:
        return ()
    numbers = [number for number in range(len(words)) if number < len(aligned.has_map[row]) and aligned.has_map[row][number]]
    return tuple(Figure(words[number].text, pictures.heat_map(photo.image, photo.box, np.asarray(aligned.maps[row, number], np.float32),
                                                              aligned.threshold)) for number in numbers[:MAX_MAPS])


def _plan(policy: str, aligned: BankAlignment, levels: Sequence[KaleidoLevel], row: int, photo: Photo, sampling: Sampling,
          seed: int) -> Plan:
    """Draws a policy's masks for the picture and its own text."""
    bank, one = aligned.bank, slice(row, row + 1)
    token_ids, vocabulary, can_be = bank.token_ids[one], bank.vocabulary, maskable(bank, one)
    texts = alignment_guided_masking.Texts(can_be, bank.token_words[one], np.asarray(alignments.of(bank)[one]))
    masks = alignment_guided_masking.plan(policy, texts, levels, quota(sampling), generator(seed, STREAM, row))
    hidden = set(masks.tokens[0, masks.token_weights[0] > 0].tolist())
    names = aligned.tokenizer.pieces(token_ids[0].tolist())
    tokens = [Token(names[position], "masked" if position in hidden else "plain" if can_be[0, position] else "special", position + 1)
              for position in np.flatnonzero(token_ids[0] != vocabulary.pad).tolist()]
    figures = [Figure(name, _masked_patches(next(level for level in levels if level.name == name), photo, chosen[0].tolist()))
               for name, chosen in masks.patches.items()]
    strengths = np.asarray(alignments.of(bank)[row]) > 0
    slices = kaleido.patch_slices(levels)
    patches_hidden = [slices[name].start + patch for name, chosen in masks.patches.items() for patch in chosen[0].tolist()]
    aligned_tokens = sum(bool(strengths[position].any()) for position in hidden)
    aligned_patches = sum(bool(strengths[:, patch].any()) for patch in patches_hidden)
    both = sum(bool(strengths[sorted(hidden)][:, patch].any()) for patch in patches_hidden)
    note = (f"{aligned_tokens} of {len(hidden)} hidden pieces and {aligned_patches} of {len(patches_hidden)} hidden patches are "
            f"aligned; hidden on both sides: {both}.")
    return Plan(TITLES[policy], note, tuple(tokens), tuple(figures))


def _masked_patches(level: KaleidoLevel, photo: Photo, chosen: Sequence[int]) -> Image.Image:
    x1, y1, x2, y2 = photo.box
    cell = pictures.cell_size(level.grid, (x2 - x1) / (y2 - y1))
    small = max(4, round(0.7 * cell[0])), max(4, round(0.7 * cell[1]))
    own = patch_generator.cut(photo.image, photo.box, (level,), max(small))[level.name]
    return pictures.patch_grid(own, level.grid, small, chosen, chosen)
