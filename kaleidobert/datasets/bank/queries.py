"""Raw pictures and texts, which ``kaleidobert records`` has not seen, read as a bank holds its own: the input of a trained model."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import PIL
from PIL import Image

from kaleidobert import configs
from kaleidobert import levels as kaleido
from kaleidobert.configs import Columns, RecordsConfig, Source
from kaleidobert.configs.data import FOREGROUND_WEIGHTS
from kaleidobert.datasets import addresses
from kaleidobert.datasets.bank import builder
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.products import Product, decode, read_image
from kaleidobert.datasets.sources import markup
from kaleidobert.errors import UserError
from kaleidobert.preprocessors import encoders, examples, features, foreground
from kaleidobert.preprocessors.examples import Arrays
from kaleidobert.preprocessors.features import Cut

Picture = str | Path | Image.Image | np.ndarray  # an array: uint8[h, w, 3], or [h, w, 4] with transparency, or grey [h, w], [h, w, 1]
BY_NETWORK = ("the bank's foregrounds are masks of its catalogue, and a picture from elsewhere has none: the foreground network finds its "
              "foreground instead")


class QueryReader:
    """Reads raw pictures and texts as ``kaleidobert records`` reads those of a catalogue: with the bank's foreground, levels, encoder,
    storage and tokenizer. config: how a picture is read, as far as it decides about it.

    build_encoder: encoder configuration -> PictureEncoder; build_network: path of weights -> foreground.Predictor, which a bank with
    foreground.method network or masks needs. Both are called when the first picture is read, once in every process. note: "", or how
    pictures are read otherwise than those of the bank were: ``BY_NETWORK``, or by another Pillow. Raises UserError where the encoder that
    made the bank cannot be had, or has other weights now.
    """

    def __init__(self, bank: Bank, build_encoder: Callable[[configs.Encoder], encoders.PictureEncoder],
                 build_network: Callable[[Path], foreground.Predictor] | None = None):
        self.bank = bank
        self._build_encoder, self._build_network = build_encoder, build_network
        self.config, self.note = _config(bank)
        self._strips_markup = bool(bank.index["config"]["source"].get("strip_html"))
        self._tokenizer = bank.tokenizer()
        positions = kaleido.subset(bank.made_with, bank.levels)
        assert positions is not None  # Bank.require refuses other levels
        starts = kaleido.vector_slices(bank.made_with)
        # view 0 of every patch, among the views that pre-training needs
        self._clean = np.concatenate([starts[bank.made_with[position].name].start + np.arange(bank.made_with[position].num_patches)
                                      for position in positions])
        self._patches = slice(None) if bank.patches is None else bank.patches

    def pictures(self, items: Sequence[Picture]) -> Arrays:
        """Returns patch_features f16[N, P, F] and patch_boxes f32[N, P, 5] of N unspoiled pictures: what sampling.finetuning.picture_inputs
        gives of the bank's own, but for the last bit of a few features, which depends on what shares a batch of the encoder.

        Files are read as products.read_image reads them, pictures and arrays likewise; of an animated file counts the first frame, of a
        picture that was opened the one at which it stands. Raises one UserError that names the first picture that cannot be used, by its
        path or by its number.
        """
        arrays, faults = self.readable(items)
        if faults:
            raise faults[min(faults)]
        return arrays

    def readable(self, items: Sequence[Picture]) -> tuple[Arrays, dict[int, UserError]]:
        """Returns the arrays of ``pictures``, of those that can be used, in their order, and of all others {number: why not}."""
        names = [_name(item, number, len(items)) for number, item in enumerate(items)]
        products = [_product(name, partial(_load, item, name)) for name, item in zip(names, items)]
        faults: dict[int, UserError] = {}
        boxes: dict[int, np.ndarray] = {}
        segment = builder.segmenter(self.config.foreground, self._build_network)
        encoder = builder.make_encoder(self.config.encoder, self._build_encoder)

        def cuts() -> Iterator[Cut]:
            for number, cut in enumerate(builder.cut_ahead(products, self.config, segment)):
                if isinstance(cut, UserError):
                    faults[number] = UserError(cut.what, names[number], cut.expected, cut.fix)
                    continue
                boxes[number] = cut.boxes[self._patches]
                yield replace(cut, views=[cut.views[view] for view in self._clean], keys=[cut.keys[view] for view in self._clean])

        threads = max(1, self.config.threads) if encoder.parallel else 1
        vectors, reasons = features.encode(cuts(), encoder.encode, encoder.batch, threads)
        faults |= {number: UserError(reason, names[number]) for number, reason in zip(boxes, reasons) if reason}
        vectors = vectors[[not reason for reason in reasons]] if any(reasons) else vectors
        kept = [own for number, own in boxes.items() if number not in faults]
        if not kept:
            shape = len(self._clean), self.bank.feature_size
            return {"patch_features": np.empty((0, *shape), np.float16), "patch_boxes": np.empty((0, shape[0], 5), np.float32)}, faults
        if self.bank.storage == "uint8":
            vectors = features.dequantise(*features.quantise(vectors))
        return {"patch_features": vectors, "patch_boxes": np.stack(kept)}, faults

    def texts(self, items: Sequence[str]) -> Arrays:
        """Returns token_ids, segment_ids i32[N, T] and token_mask bool[N, T], cut to the bank's length: what
        sampling.finetuning.text_inputs gives of the bank's own. Markup is taken out where the bank's source takes it out.

        Raises UserError as ``check_texts``.
        """
        check_texts(items)
        plain = [" ".join((markup.plain(item) if self._strips_markup else item).split()) for item in items]
        token_ids, _ = self._tokenizer.encode(plain, self.bank.text_length)
        return examples.text(token_ids, self.bank.vocabulary.pad)


def check_texts(items: Sequence[str]) -> None:
    """Raises UserError that names the first item that is no text, or cannot be written as one, by its number."""
    for number, item in enumerate(items):
        where = f"text {number + 1} of {len(items)}"
        if not isinstance(item, str):
            raise UserError(f"a text is a {type(item).__name__}", where, "a str")
        try:
            item.encode()
        except UnicodeEncodeError as error:  # of a command line: each byte that is not UTF-8 is half a surrogate pair
            raise UserError(f"character {error.start + 1} of the text is none (a byte that is not UTF-8, or a surrogate without its other "
                            "half)", where, "UTF-8 text") from error


def _config(bank: Bank) -> tuple[RecordsConfig, str]:
    """Returns how the bank was made, as far as it decides about a picture, and what is done otherwise."""
    index, where = bank.index, str(bank.folder / "index.json")
    encoder = configs.from_dict(configs.Encoder, index["config"]["encoder"], where)
    found = configs.from_dict(configs.Foreground, index["config"]["foreground"], where)
    encoders.feature_size(encoder)  # refuses an encoder whose weights are not there
    if (weights := encoders.weights_identity(encoder)) != index["encoder"]["weights"]:
        raise UserError(f"the encoder's weights are {weights or 'none'}", str(encoder.weights or encoder.name),
                        f"those that the bank was made with: {index['encoder']['weights'] or 'none'}", "put that file back")
    note = ""
    if found.method == "masks":
        found, note = replace(found, method="network", weights=FOREGROUND_WEIGHTS), BY_NETWORK
    elif not found.weights.is_file() and found.weights.name == FOREGROUND_WEIGHTS.name:  # made where the package lies elsewhere
        found = replace(found, weights=FOREGROUND_WEIGHTS)
    builder.foreground_identity(found)  # refuses a network whose weights are not there
    made_by = index["encoder"].get("pillow", PIL.__version__)
    if builder.pillow(made_by) != builder.pillow(PIL.__version__):
        other = (f"the bank was made with Pillow {made_by}, and this is Pillow {PIL.__version__}, which resizes some patches otherwise: "
                 "answers about new pictures may differ from those about the bank's own")
        note = f"{note}; {other}" if note else other
    source = Source(Path(index["source"]), Columns("", "", ()))
    return RecordsConfig(bank.folder, source, found, encoder, levels=bank.made_with, threads=os.cpu_count() or 1), note


def _name(item: Picture, number: int, count: int) -> str:
    """Returns how messages name a picture."""
    if isinstance(item, (str, Path)):
        return addresses.shown(str(item))
    file = getattr(item, "filename", "")
    return f"picture {number + 1} of {count}" + (f" ({file})" if file else "")


def _product(name: str, load: Callable[[], np.ndarray]) -> Product:
    return Product(name, name, "", "", name, name, "", {}, load)


def _load(item: Picture, name: str) -> np.ndarray:
    """Returns uint8[h, w, 3]."""
    if isinstance(item, (str, Path)):
        if addresses.is_one(item):
            raise UserError("the picture is at an address", name, "a file of this machine, a PIL picture or an array", "download it first")
        return read_image(item)
    image = _of_array(item, name) if isinstance(item, np.ndarray) else item
    if not isinstance(image, Image.Image):
        raise UserError(f"a picture is a {type(item).__name__}", name, "a path, a PIL picture or an array uint8[height, width, 3]")
    if 0 in image.size:
        raise UserError(f"the picture is {image.width} x {image.height} pixels", name, "a picture")
    return decode(image, name)


def _of_array(array: np.ndarray, name: str) -> Image.Image:
    """Returns an array as a picture. Raises UserError where it is none."""
    whole = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    is_grey = whole.ndim == 2 and array.dtype in (np.uint8, np.uint16)
    if whole.size and (is_grey or array.dtype == np.uint8 and whole.ndim == 3 and whole.shape[2] in (3, 4)):
        return Image.fromarray(np.ascontiguousarray(whole))
    raise UserError(f"the array is {array.dtype}{list(array.shape)}", name, "uint8[height, width, 3], or [height, width, 4] with "
                    "transparency, or grey [height, width]", "scale floats of 0 to 1 by 255 and round them")
