"""What ``kaleidobert inspect`` shows of a bank's alignment: caption, heat maps, links, and what guided masking hides beside
what random masking would."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from kaleidobert import levels as kaleido
from kaleidobert.app_zoo.align import words as align_words
from kaleidobert.app_zoo.inspect import links, pictures
from kaleidobert.app_zoo.inspect.content import Aligned, Corpus, Plan, Shown, Token
from kaleidobert.app_zoo.inspect.examples import Photo
from kaleidobert.app_zoo.inspect.links import Linked
from kaleidobert.configs import Sampling
from kaleidobert.datasets.bank import alignment as alignments
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.sampling.pretraining import generator, maskable, quota
from kaleidobert.errors import UserError
from kaleidobert.evaluators import alignment as evaluation
from kaleidobert.evaluators.report import plots_alignment
from kaleidobert.levels import KaleidoLevel
from kaleidobert.preprocessors import alignment_generator, alignment_guided_masking, patch_generator

STREAM = 20  # of the seed: masks that only these pages show
MOST_MAPS = 12  # heat maps on a page
MOST_COUNTED = 5000  # pictures in the statistics
TITLES = {"alignment": "Alignment Guided Masking", "random": "random masking"}
AGAIN = "set maps to the folder of the `kaleidobert align` run that aligned this bank, or leave it out"


class Alignment:
    """A bank's alignment with its captions, and with the words' maps where ``maps`` names a folder of maps.npy and words.jsonl.

    Raises UserError where the alignment does not fit the bank, or the maps do not fit the alignment.
    """

    def __init__(self, bank: Bank, maps: Path | None):
        self.bank, self.captions, self.tokenizer = bank, alignments.captions(bank), bank.tokenizer()
        self.maps, self.has_map = (None, []) if maps is None else self._open(maps)

    def _open(self, folder: Path) -> tuple[np.ndarray, list[list[bool]]]:
        try:
            found = np.load(folder / "maps.npy", mmap_mode="r", allow_pickle=False)
            lines = [json.loads(line) for line in (folder / "words.jsonl").read_text(encoding="utf-8").splitlines()]
        except FileNotFoundError as error:
            raise UserError("there are no maps", str(error.filename), "maps.npy and words.jsonl", AGAIN) from None
        except ValueError as error:
            raise UserError(f"the maps cannot be read ({error})", str(folder), fix=AGAIN) from None
        ids = self.bank.column("image_id").tolist()
        if found.ndim != 4 or len(found) != len(ids) or [line["image_id"] for line in lines] != ids:
            raise UserError(f"the maps belong to {len(lines)} other pictures", str(folder), f"those of the bank: {len(ids)}", AGAIN)
        return found, [line["has_map"] for line in lines]

    def words(self, row: int) -> list[align_words.Word]:
        """The words of a row's text with the places of their pieces, number w as token_words has it."""
        return align_words.text_words(self.bank, self.tokenizer.pieces(self.bank.token_ids[row].tolist()), row)

    @property
    def threshold(self) -> float:
        """The share of a map's maximum that its region reaches."""
        return float(alignments.info(self.bank)["settings"].get("regions", {}).get("threshold", 0.5))


def build(found: Alignment, levels: Sequence[KaleidoLevel], row: int, photo: Photo, sampling: Sampling, seed: int) -> Aligned:
    """What the alignment says of a row."""
    words, strengths = found.words(row), np.asarray(alignments.strengths(found.bank)[row])
    linked = [number for number, word in enumerate(words) if word.places and strengths[word.places[0]].any()]
    colours = {number: place for place, number in enumerate(linked)}
    shown = []
    for level, part in zip(levels, kaleido.patch_slices(levels).values()):
        if level.num_masked:
            of_level = [Linked(words[number].text, colours[number], strengths[words[number].places[0], part].astype(np.float64))
                        for number in linked]
            caption = f"{level.name}: {level.grid} × {level.grid}"
            shown.append(Shown(caption, links.lines(photo.image, photo.box, level.grid, of_level)))
    maps = []
    if found.maps is not None:
        numbers = [number for number in range(len(words)) if number < len(found.has_map[row]) and found.has_map[row][number]]
        for number in numbers[:MOST_MAPS]:
            picture = links.heat(photo.image, photo.box, np.asarray(found.maps[row, number], np.float32), found.threshold)
            maps.append(Shown(words[number].text, picture))
    content = sum(bool(word.places) for word in words)
    note = f"{len(linked)} of {content} words are linked to patches." if content else "The picture has no text."
    caption = found.captions[row].get("caption", "") if found.captions else ""
    plans = tuple(_plan(policy, found, levels, row, photo, sampling, seed) for policy in TITLES)
    return Aligned(caption, note, tuple(maps), tuple(shown), plans)


def corpus(found: Alignment, levels: Sequence[KaleidoLevel], path: Path) -> Corpus:
    """The statistics of the bank's alignment, of evenly spaced rows where there are many; draws them into ``path``."""
    bank = found.bank
    rows = np.arange(bank.size)[:: -(-bank.size // MOST_COUNTED)]
    words = [[word.text for word in found.words(row)] for row in rows.tolist()]
    counts = evaluation.statistics(alignments.strengths(bank)[rows], bank.token_words[rows], words, levels, alignment_generator.content)
    plots_alignment.corpus(counts, path)
    with Image.open(path) as image:
        shown = Shown(f"of {len(rows):,} pictures" if len(rows) == bank.size else f"of {len(rows):,} of {bank.size:,} pictures",
                      image.convert("RGB"))
    return Corpus(counts, shown)


def _plan(policy: str, found: Alignment, levels: Sequence[KaleidoLevel], row: int, photo: Photo, sampling: Sampling, seed: int) -> Plan:
    """One draw of a policy for the picture and its own text."""
    bank, one = found.bank, slice(row, row + 1)
    token_ids, vocabulary, can_be = bank.token_ids[one], bank.vocabulary, maskable(bank, one)
    texts = alignment_guided_masking.Texts(can_be, bank.token_words[one], np.asarray(alignments.strengths(bank)[one]))
    masks = alignment_guided_masking.plan(policy, texts, levels, quota(sampling), generator(seed, STREAM, row))
    hidden = set(masks.tokens[0, masks.token_weights[0] > 0].tolist())
    names = found.tokenizer.pieces(token_ids[0].tolist())
    tokens = [Token(names[place], "masked" if place in hidden else "plain" if can_be[0, place] else "special", place + 1)
              for place in np.flatnonzero(token_ids[0] != vocabulary.pad).tolist()]
    shown = [Shown(name, _masked_patches(next(level for level in levels if level.name == name), photo, chosen[0].tolist()))
             for name, chosen in masks.patches.items()]
    strengths = np.asarray(alignments.strengths(bank)[row]) > 0
    slices = kaleido.patch_slices(levels)
    patches_hidden = [slices[name].start + patch for name, chosen in masks.patches.items() for patch in chosen[0].tolist()]
    aligned_tokens = sum(bool(strengths[place].any()) for place in hidden)
    aligned_patches = sum(bool(strengths[:, patch].any()) for patch in patches_hidden)
    both = sum(bool(strengths[sorted(hidden)][:, patch].any()) for patch in patches_hidden)
    note = (f"{aligned_tokens} of {len(hidden)} hidden pieces and {aligned_patches} of {len(patches_hidden)} hidden patches are "
            f"aligned; hidden on both sides: {both}.")
    return Plan(TITLES[policy], note, tuple(tokens), tuple(shown))


def _masked_patches(level: KaleidoLevel, photo: Photo, chosen: Sequence[int]):
    x1, y1, x2, y2 = photo.box
    cell = pictures.cell_size(level.grid, (x2 - x1) / (y2 - y1))
    small = tuple(max(4, round(0.7 * length)) for length in cell)
    own = patch_generator.cut(photo.image, photo.box, (level,), max(small))[level.name]
    return pictures.patch_grid(own, level.grid, small, chosen, chosen)
