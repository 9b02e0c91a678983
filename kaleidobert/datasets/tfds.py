"""Two builders of TensorFlow Datasets, registered when this module is imported: the raw release of Fashion-Gen, and the drawn catalogue.

    tfds build fashion_gen/h5 --imports kaleidobert.datasets.tfds --manual_dir dataset/raw
    tfds.load("kaleido_synthetic/n24", split="train")      # after import kaleidobert.datasets.tfds

An example of either: image uint8[h, w, 3]; text, built as `kaleidobert records` builds it; product_id, group, view and labels as
texts. Examples keep the order of their source: the views of a product stand together.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds
from absl import logging

from kaleidobert.configs import Columns, Source
from kaleidobert.datasets import addresses
from kaleidobert.datasets.products import Product
from kaleidobert.datasets.sources.fashion_gen import ExtractedFashionGenSource, FashionGenSource
from kaleidobert.datasets.sources.reading import read
from kaleidobert.datasets.sources.table import TableSource
from kaleidobert.drawing import catalogue as synthetic

Example = tuple[str, dict[str, Any]]
IDS = ("product_id", "group", "view", "text")
CITATION = """@inproceedings{rostamzadeh2018fashiongen, title={Fashion-Gen: The Generative Fashion Dataset and Challenge},
author={Rostamzadeh, Negar and others}, booktitle={ICML Workshop}, year={2018}}"""


class FashionGen(tfds.core.GeneratorBasedBuilder):
    """Fashion-Gen from the files in manual_dir: config h5 (all texts) or extracted (pictures and info texts of Kaleido-BERT)."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = ("Put fashiongen_256_256_train.h5 and fashiongen_256_256_validation.h5 (fashion-gen.com) there, or for "
                                    "config extracted what dataset/get_raw_dataset.sh fetches.")
    BUILDER_CONFIGS: ClassVar = [tfds.core.BuilderConfig(name="h5", description="the HDF5 files"),
                                 tfds.core.BuilderConfig(name="extracted", description="extracted pictures and info texts")]
    LABELS: ClassVar = {
        "h5": {"category": "input_category", "subcategory": "input_subcategory", "gender": "input_gender", "name": "input_name",
               "description": "input_description"},
        "extracted": {"category": "category", "subcategory": "subcategory", "description": "description"}}

    def _info(self) -> tfds.core.DatasetInfo:
        return _info(self, self.LABELS[self.builder_config.name], "png", CITATION)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator[Example]]:
        labels = self.LABELS[self.builder_config.name]
        source: type[Source] = FashionGenSource
        if self.builder_config.name == "h5":
            columns = Columns("input_productID", "input_image", ("input_name", "input_description"), view=("input_pose",), split="split",
                              labels=labels)
        else:
            columns = Columns("product_id", "image", ("description",), view=("view",), split="split", labels=labels)
            source = ExtractedFashionGenSource
        products, skipped = read(source(Path(dl_manager.manual_dir), columns))
        if skipped:
            logging.warning("%s: %d rows are left out, the first one, %s, because %s", self.name, len(skipped), skipped[0]["where"],
                            skipped[0]["reason"])
        return {"train": self._generate_examples(products, "train"), "validation": self._generate_examples(products, "val")}

    def _generate_examples(self, products: Sequence[Product], split: str) -> Iterator[Example]:
        return _examples(products, split)


@dataclass(eq=False, kw_only=True)
class SyntheticConfig(tfds.core.BuilderConfig):
    """What is drawn; see synthetic.write_catalogue."""

    num_products: int
    size: int = 192  # pixels of each side
    views: int = 2
    seed: int = 0


class KaleidoSynthetic(tfds.core.GeneratorBasedBuilder):
    """The drawn catalogue; config n600 unless another is named, or made: SyntheticConfig(name=..., num_products=...)."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar = [SyntheticConfig(name=f"n{number}", num_products=number, description=f"{number} products")
                                 for number in (600, 24, 6000)]

    def _info(self) -> tfds.core.DatasetInfo:
        return _info(self, ("category", "subcategory"), "jpeg")

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator[Example]]:
        config = self.builder_config
        name = f"n{config.num_products}-s{config.size}-v{config.views}-r{config.seed}"
        folder = Path(dl_manager.download_dir) / "kaleido_synthetic" / name
        synthetic.write_catalogue(folder, config.num_products, config.seed, config.size, config.views)
        columns = Columns("product_id", "image", ("text",), group="group_id", view=("view",), split="split",
                          labels={"category": "category", "subcategory": "subcategory"})
        products, _ = read(TableSource(folder / synthetic.TABLE, columns))
        return {"train": self._generate_examples(products, "train"), "validation": self._generate_examples(products, "val")}

    def _generate_examples(self, products: Sequence[Product], split: str) -> Iterator[Example]:
        return _examples(products, split, encoded=True)


def _info(builder: tfds.core.DatasetBuilder, labels: Sequence[str] | Mapping[str, str], encoding: str, citation: str = ""
          ) -> tfds.core.DatasetInfo:
    texts = {name: tfds.features.Text() for name in (*IDS, *labels)}
    features = tfds.features.FeaturesDict({"image": tfds.features.Image(shape=(None, None, 3), encoding_format=encoding), **texts})
    return tfds.core.DatasetInfo(builder=builder, description=builder.__doc__, features=features, citation=citation,
                                 supervised_keys=("image", "text"), disable_shuffling=True)


def _examples(products: Sequence[Product], split: str, encoded: bool = False) -> Iterator[Example]:
    """Yields the examples of a split; encoded: with the picture file as it is, otherwise with its pixels."""
    for product in products:
        if product.split == split:
            image = str(addresses.local(product.image_path)) if encoded else product.load_image()
            yield product.image_id, {"image": image, **{name: getattr(product, name) for name in IDS}, **product.labels}
