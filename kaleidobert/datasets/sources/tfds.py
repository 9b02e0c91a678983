"""Any prepared TFDS data set with pictures, texts and labels.

Columns name features: nested ones as captions/text, of a sequence the first element is taken, class labels become their names.
Every row has ``split`` and ``row`` (its position, for data sets without an id) beside. TFDS files are read in order only, so the
pictures are written once, as they are encoded there, into the folder source.images.
"""

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from PIL import Image

from kaleidobert import io
from kaleidobert.configs import Source
from kaleidobert.configs.section import key
from kaleidobert.datasets.products import Product
from kaleidobert.errors import UserError

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

SPLITS = {"train": "train", "val": "validation"}
OWN = ("row", "split")  # columns that are no features
MARK = "tfds.json"  # in the folder of pictures: which data set they are of


@dataclass(frozen=True)
class TfdsSource(Source):
    """A prepared data set of TensorFlow Datasets."""

    kind: str = key("tfds", "a data set of TensorFlow Datasets")
    name: str = key("", "the data set, such as kaleido_synthetic or coco_captions")
    splits: dict[str, str] = key({}, "names of splits, and the TFDS split of each; empty = train and validation")

    writes_pictures: ClassVar[bool] = True

    def rows(self, wanted: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields (where, row) of every example, without its pictures, which are named as ``write_pictures`` names them.

        Raises UserError where there is no such data set, split or feature, where it is not prepared, and where ``images`` is empty.
        """
        self._image_folder()
        builder = self._builder()
        features = {column: _feature(builder, column) for column in wanted if column not in OWN}
        pictures = self._picture_columns()
        texts = {column: feature for column, feature in features.items() if column not in pictures}
        for split, expression in (self.splits or SPLITS).items():
            for number, example in enumerate(_read(builder, expression, list(texts), pictures[0])):
                row = {column: _text(_get(example, column), feature) for column, feature in texts.items()}
                row |= {column: _picture_name(split, number, column) for column in pictures}
                yield f"{builder.info.full_name}, {expression}, example {number}", row | {"row": f"{split}-{number:08d}", "split": split}

    def write_pictures(self, products: Sequence[Product]) -> Iterator[int]:
        """Writes the pictures, and masks where they are mapped, that are not there yet; yields how many are newly in place.

        Raises UserError where the folder holds the pictures of another data set, or nothing can be written.
        """
        folder = self._image_folder()
        builder = self._builder()
        splits = dict(self.splits or SPLITS)
        prepared = {name: [int(info.num_bytes), *map(int, info.shard_lengths)] for name, info in builder.info.splits.items()}
        mark = {"data_set": builder.info.full_name, "splits": splits, "prepared": prepared}
        before = io.read_json(folder / MARK) if (folder / MARK).is_file() else mark
        if mark != {"prepared": prepared} | before:  # an earlier version did not note how the data set was prepared
            raise UserError("the folder holds the pictures of another data set, of other splits, or of another preparation of this one",
                            str(folder), f"{mark['data_set']}, {splits}", "choose another folder with source.images=...")
        io.write_json(folder / MARK, mark)
        columns = self._picture_columns()
        for split, expression in splits.items():
            needed = {product.image_path for product in products if Path(product.image_path).name[: -len("-00000000.img")] == split}
            missing = needed if len(columns) > 1 else {path for path in needed if not Path(path).is_file()}
            yield len(needed) - len(missing)
            for number, example in enumerate(_read(builder, expression, columns) if missing else ()):
                paths = [folder / _picture_name(split, number, column) for column in columns]
                if str(paths[0]) in missing:
                    for path, column in zip(paths, columns):
                        if not path.is_file():
                            _write(path, _get(example, column))
                    missing.remove(str(paths[0]))
                    yield 1
                    if not missing:
                        break

    def _image_folder(self) -> Path:
        if self.images is None:
            raise UserError("source.images is empty", "source.kind: tfds", "a folder for the pictures of the data set")
        return self.images

    def _picture_columns(self) -> list[str]:
        return [column for column in (self.columns.image, self.columns.mask) if column]

    def _builder(self) -> "tfds.core.DatasetBuilder":
        import tensorflow_datasets as tfds  # here and below: it loads TensorFlow

        import kaleidobert.datasets.tfds  # noqa: F401  registers the builders of the package, which are found before they are prepared

        where = f"source.name {self.name!r}"
        try:
            with _quiet():
                builder = tfds.builder(self.name, data_dir=self.table, try_gcs=False)
        except (tfds.core.DatasetNotFoundError, ValueError) as error:
            name = self.name.partition("/")[0]
            near = difflib.get_close_matches(name, tfds.list_builders(with_community_datasets=False), 3)
            unknown = isinstance(error, tfds.core.DatasetNotFoundError)
            raise UserError("there is no such data set" if unknown else f"TFDS refuses it ({' '.join(str(error).split())[:300]})", where,
                            "NAME, NAME/CONFIG or NAME/CONFIG:VERSION of TFDS, or one prepared in the folder source.table",
                            f"did you mean {' or '.join(map(repr, near))}?" if near and name not in near else "correct source.name"
                            ) from None
        if not builder.info.splits:
            raise UserError("the data set is not prepared", f"{where} in {self.table}", fix=f"tfds build {self.name} --data_dir "
                            f"{self.table} (--imports kaleidobert.datasets.tfds for fashion_gen and kaleido_synthetic)")
        return builder


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences the warnings of TFDS about its own deprecated parts."""
    from absl import logging

    level = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(level)


def _feature(builder: "tfds.core.DatasetBuilder", column: str) -> Any:
    """Returns the feature of a column; raises UserError that names the existing ones."""
    feature: Any = builder.info.features
    for name in _path(feature, column):
        try:
            feature = feature[name]
        except (KeyError, TypeError):
            known = [*builder.info.features, *OWN]
            near = difflib.get_close_matches(column, known, 1, 0.5)
            raise UserError(f"there is no feature {column!r}", builder.info.full_name, f"one of {', '.join(known)}",
                            f"did you mean {near[0]!r}?" if near else "correct source.columns") from None
    return feature


def _path(top: Any, column: str) -> list[str]:
    """Returns the names on the way to a feature; one that exists as it is comes first, such as image/id of COCO."""
    return [column] if column in top else column.split("/")


def _read(builder: "tfds.core.DatasetBuilder", expression: str, columns: Sequence[str], other: str = "") -> Iterator[Mapping[str, Any]]:
    """Yields the examples of a split in order, these columns alone, pictures undecoded; other: the column to read where none is named."""
    import tensorflow_datasets as tfds

    wanted: dict[str, Any] = {}
    decoders: dict[str, Any] = {}
    for column in columns or [other]:
        *parents, last = _path(builder.info.features, column)
        chosen, skipped = wanted, decoders
        for name in parents:
            chosen, skipped = chosen.setdefault(name, {}), skipped.setdefault(name, {})
        chosen[last] = True
        if isinstance(_feature(builder, column), tfds.features.Image):
            skipped[last] = tfds.decode.SkipDecoding()
    config = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)  # in order, and once
    try:
        with _quiet():
            dataset = builder.as_dataset(split=expression, shuffle_files=False, read_config=config,
                                         decoders=tfds.decode.PartialDecoding(wanted, decoders=decoders))
    except (ValueError, KeyError) as error:
        raise UserError(f"there is no split {expression!r} ({' '.join(str(error).split())[:200]})", builder.info.full_name,
                        f"one of {', '.join(builder.info.splits)}, or a slice such as train[:90%]", "correct source.splits") from None
    yield from dataset.as_numpy_iterator()


def _get(example: Mapping[str, Any], column: str) -> Any:
    for name in _path(example, column):
        example = example[name]
    return example


def _text(value: Any, feature: Any) -> str:
    import tensorflow_datasets as tfds

    while np.ndim(value):  # of several captions the first
        if not len(value):
            return ""
        value = value[0]
    while isinstance(feature, tfds.features.Sequence):
        feature = feature.feature
    if isinstance(feature, tfds.features.ClassLabel) and feature.names:
        return feature.int2str(int(value)) if value >= 0 else ""  # -1: no label
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _picture_name(split: str, number: int, column: str) -> str:
    """Returns a name without PNG or JPEG: the declared encoding of a feature need not be true, and Pillow looks at the content."""
    return f"{column.replace('/', '-')}/{split}-{number:08d}.img"


def _write(path: Path, value: Any) -> None:
    """Writes a picture under a temporary name, then renames it; it is not flushed to disk, for it can be written again."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(value, bytes):
            temporary.write_bytes(value)
        else:
            pixels = np.asarray(value)
            try:
                picture = Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels)
            except (TypeError, ValueError):
                raise UserError(f"the feature {path.parent.name!r} is {pixels.dtype}{list(pixels.shape)}", str(path),
                                "one picture: uint8[height, width, 1 or 3]", "correct source.columns") from None
            picture.save(temporary, "PNG")
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(f"cannot write here ({error.strerror or error})", str(path),
                        fix="free some space or choose another folder; finished pictures are kept") from error
