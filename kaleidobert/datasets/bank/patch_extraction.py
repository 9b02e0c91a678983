"""From a product's picture to what the encoder sees: its foreground found by the configured method, then cut into patches."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kaleidobert import configs
from kaleidobert.configs import RecordsConfig
from kaleidobert.datasets.products import Product
from kaleidobert.errors import UserError
from kaleidobert.io import sha256
from kaleidobert.levels import turned_levels
from kaleidobert.preprocessors import features, foreground

Segment = Callable[[np.ndarray], np.ndarray]  # uint8[h, w, 3] -> bool[h, w]
_NETWORKS: dict[str, foreground.Predictor] = {}  # one network per worker process, not one per shard


def identity(config: configs.Foreground) -> dict[str, Any]:
    """Returns what decides where the foreground is found: the settings, and of the network its weights' checksum instead of their path.

    Raises UserError where the weights are not there.
    """
    parts = {key: value for key, value in configs.to_dict(config).items() if key != "weights"}
    if config.method != "network":
        return parts
    if not config.weights.is_file():
        raise UserError("the weights of the foreground network are not there", str(config.weights),
                        fix="make them with `kaleidobert train-foreground configs/train_foreground.yaml install=true`, correct "
                        "foreground.weights, or use foreground.method=border")
    return {**parts, "weights": sha256(config.weights)}


def segmenter(config: configs.Foreground, build_network: Callable[[Path], foreground.Predictor]) -> Segment | None:
    """Returns what finds the foreground of a picture; None where nothing does, or where masks are given.

    build_network: path of weights -> what foreground.network_mask calls; called once in every process.
    """
    if config.method == "network":
        key = str(config.weights)
        if key not in _NETWORKS:
            network = _NETWORKS[key] = build_network(config.weights)
            network(np.zeros((1, network.size, network.size, 4), np.float32))  # compiled once, not by several threads at a time
        return partial(foreground.network_mask, predict=_NETWORKS[key])
    return partial(foreground.border_mask, tolerance=config.tolerance) if config.method == "border" else None


def cut(product: Product, config: RecordsConfig, segment: Segment | None) -> features.Cut:
    """Returns the patches of a product's picture. Raises UserError where the picture or its mask cannot be used."""
    image = product.load_image()
    if config.foreground.method == "masks":
        if product.load_mask is None:
            raise UserError("no mask is given", product.image_id, "a mask picture", "map source.columns.mask")
        mask = product.load_mask()
        if mask.shape != image.shape[:2]:
            raise UserError(f"the mask is {mask.shape[1]} x {mask.shape[0]}", product.image_id,
                            f"the picture's size, {image.shape[1]} x {image.shape[0]}")
        segment = lambda _: mask  # noqa: E731
    square = turned_levels(config.levels) if config.encoder.turned == "square" else ()
    return features.cut(image, foreground.find(image, segment, config.foreground.margin), config.levels, config.encoder.size,
                        config.encoder.small_size, square)


def ahead(products: Sequence[Product], config: RecordsConfig, segment: Segment | None) -> Iterator[features.Cut | UserError]:
    """Yields each product's patches in order, or the reason it was skipped; config.threads threads cut while others are encoded.

    At most config.encoder.batch_size pictures, or one per thread where those are more, are cut ahead. Raises
    other errors.
    """
    def attempt(product: Product) -> features.Cut | UserError:
        try:
            return cut(product, config, segment)
        except UserError as error:
            return error

    waiting: deque[Future] = deque()
    with ThreadPoolExecutor(max(1, config.threads), "cut") as pool:
        try:
            for product in products:
                waiting.append(pool.submit(attempt, product))
                if len(waiting) > max(config.encoder.batch_size, config.threads):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
