"""``kaleidobert train-foreground``: train the foreground network on drawn scenes, and nothing else.

    run/scenes/               drawn once: foregrounds and backgrounds, of which every step puts new scenes together, and the tests
        foreground_net.npz    the network's weights, float16; with install: true also copied into the package
        results.json          overlap on held-out products before backgrounds of families that the training does not have
"""

import dataclasses
from pathlib import Path

import keras
import numpy as np
from keras import ops
from tqdm import tqdm

from kaleidobert import io
from kaleidobert.app_zoo import models
from kaleidobert.configs import TrainForegroundConfig
from kaleidobert.configs.data import FOREGROUND_WEIGHTS
from kaleidobert.drawing import scenes
from kaleidobert.drawing.backgrounds import HELD_OUT
from kaleidobert.drawing.scenes import ROOM, Scenes, StoredPictures
from kaleidobert.engines import optimizers, run_folder
from kaleidobert.engines.trainer import Goal, Trainer
from kaleidobert.errors import UserError
from kaleidobert.losses.auxiliary import cross_entropy_and_dice
from kaleidobert.model_zoo import foreground_net
from kaleidobert.preprocessors import foreground

TEST, GOODS = 1, 2  # added to the seed for the held-out scenes: other products
AREAS = (0.0, 0.05, 0.1, 0.2, 0.4, 1.0)  # of the picture, covered by the product: results are given for each range


def dry_run(config: TrainForegroundConfig) -> None:
    """Checks the configuration and prints sizes."""
    _check_folders(config)
    total, warm = _pace(config)
    model = foreground_net.network(config.channels, config.size)
    whole, cutouts = config.held_out + config.goods, 4 * config.foregrounds + 3 * config.backgrounds
    stored = config.size**2 * 4 * whole + round(config.size * ROOM) ** 2 * cutouts
    io.check_room(config.run, stored, "the scenes", "free some space, or choose another folder with run=...")
    print(f"{model.count_params():,} parameters; {total:,} steps of {config.train.batch_size}; "
          f"{whole + config.foregrounds + config.backgrounds:,} pictures to draw, {stored / 1e6:.0f} MB in {config.run / 'scenes'}")
    print(models.rate_line(config.train.learning_rate, warm, total, config.train.learning_rate))


def run(config: TrainForegroundConfig) -> None:
    """Draws, trains, evaluates; an interrupted run continues where it stopped."""
    _check_folders(config)
    keras.utils.set_random_seed(config.train.seed)
    total, warm = _pace(config)
    model = foreground_net.network(config.channels, config.size, config.train.precision)
    folder = run_folder.Run(config.run, _work(config))
    for name, count, shift in (("foregrounds", config.foregrounds, 0), ("backgrounds", config.backgrounds, 0),
                               ("test", config.held_out, TEST), ("goods", config.goods, GOODS)):
        _draw(config, name, count, shift)
    products, behind = (StoredPictures(config.run / "scenes", name) for name in ("foregrounds", "backgrounds"))
    test, goods = (scenes.read_scenes(config.run / "scenes", name) for name in ("test", "goods"))
    trained = keras.Model({"image": model.input}, {"foreground": model.output})
    optimizer = _optimizer(config, total, warm)
    trainer = Trainer(folder, trained, optimizer, {"foregrounds": len(products), "backgrounds": len(behind)})

    def loss(outputs, targets, weights):
        return {"loss": ops.mean(cross_entropy_and_dice(targets["foreground"], outputs["foreground"]))}

    def evaluate():
        return {"overlap": float(np.mean(overlaps(foreground_net.Predictor(model), test)))}

    # what is reported is measured on the same scenes, so nothing is chosen by them: the last weights stay
    goal, schedule = Goal(evaluate, "overlap", None), models.trainer_schedule(config.train, total)
    trainer.fit(lambda step: batch(products, behind, config, step), loss, goal, schedule, config.train.clip_norm)
    optimizer.finalize_variable_values(trained.trainable_variables)
    path = config.run / "foreground_net.npz"
    foreground_net.save(path, model)
    values = results(path, test, goods)
    folder.results({**values, "parameters": model.count_params(), "bytes": path.stat().st_size}, config)
    if config.install:
        install(path)
    families = ", ".join(f"{name} {value:.3f}" for name, value in values["families"].items())
    print(f"overlap on {config.held_out} held-out scenes: {values['overlap']:.3f} ({families}); of small goods "
          f"{values['goods']['overlap']:.3f}\n"
          f"  weights: {path} ({path.stat().st_size / 1e6:.2f} MB)\n  figures: {config.run / 'results.json'}")
    if config.install:
        print(f"  installed as {FOREGROUND_WEIGHTS}")
    else:
        print("  to put them into the package: the same command with install=true")


def _check_folders(config: TrainForegroundConfig) -> None:
    """Raises UserError where the run's folder is taken, or where the weights could not be installed once they are trained."""
    run_folder.check_folder(config.run, _work(config))
    if config.install:
        io.check_folder(FOREGROUND_WEIGHTS.parent, "leave install out: the weights stay in the run's folder")


def install(weights: Path) -> None:
    """Makes a file of weights the package's own. Raises UserError where the package cannot be written."""
    with io.atomic(FOREGROUND_WEIGHTS) as file:
        file.write(weights.read_bytes())


def batch(products: StoredPictures, behind: StoredPictures, config: TrainForegroundConfig, step: int) -> tuple[dict, dict, dict]:
    """Returns inputs, targets and weights of one step: new scenes, a pure function of the step."""
    rng = np.random.Generator(np.random.Philox(key=np.array([config.train.seed, step], np.uint64), counter=[0, 0, 0, 1]))
    made = [scenes.recompose(products, behind, config.size, rng) for _ in range(config.train.batch_size)]
    images, masks = (np.stack(arrays) for arrays in zip(*made))
    return {"image": foreground.channels(images)}, {"foreground": masks[..., None]}, {}


def overlaps(predict: foreground.Predictor, test: Scenes) -> np.ndarray:
    """Returns the intersection over union of every scene, f64[N], at the network's own resolution."""
    result = np.concatenate([predict(foreground.channels(test.images[k : k + 32])) >= 0.5 for k in range(0, len(test.images), 32)])
    return foreground.overlap(result, test.masks)


def results(weights: Path, test: Scenes, goods: Scenes) -> dict:
    """Returns the mean overlap of the written weights on the held-out scenes: the whole segmenter's, in all, by family of backgrounds and
    by the area of the product, and the raw network's; and that on small goods."""
    predict, names = foreground_net.build(weights), list(HELD_OUT)

    def measure(scenes: Scenes) -> np.ndarray:
        result = [foreground.network_mask(image, predict) for image in scenes.images]
        return foreground.overlap(np.stack(result), scenes.masks)

    whole, small, area = measure(test), measure(goods), test.masks.mean((1, 2))
    inside = {f"{low:.0%} to {high:.0%}": (area >= low) & (area < high) for low, high in zip(AREAS, AREAS[1:])}
    return {"overlap": float(whole.mean()), "at_least_0.9": float((whole >= 0.9).mean()),
            "families": {name: float(whole[k :: len(names)].mean()) for k, name in enumerate(names) if k < len(whole)},
            "areas": {name: {"scenes": int(rows.sum()), "overlap": float(whole[rows].mean())}
                      for name, rows in inside.items() if rows.any()},
            "overlap_of_the_raw_network": float(overlaps(predict, test).mean()),
            "goods": {"scenes": len(small), "overlap": float(small.mean())}}


def _draw(config: TrainForegroundConfig, name: str, count: int, shift: int) -> None:
    with tqdm(total=count, unit="picture", desc=name) as bar:
        for number in scenes.draw_files(config.run / "scenes", name, config.train.seed + shift, count, config.size, config.workers):
            bar.update(number)


def _optimizer(config: TrainForegroundConfig, total: int, warm: int) -> keras.optimizers.Optimizer:
    """Returns Adam on a half cosine; it keeps the running average of the weights that become the network."""
    train = config.train
    rate = keras.optimizers.schedules.CosineDecay(0.0, max(1, total - warm), warmup_target=train.learning_rate, warmup_steps=warm)
    return keras.optimizers.AdamW(rate, train.weight_decay, train.beta_1, train.beta_2, train.epsilon, use_ema=True,
                                  ema_momentum=config.average, name="adam")


def _work(config: TrainForegroundConfig) -> TrainForegroundConfig:
    """Returns what decides the weights: a finished run is installed by the same command with install=true."""
    return dataclasses.replace(config, install=False, workers=0)


def _pace(config: TrainForegroundConfig) -> tuple[int, int]:
    """Returns (all steps, those of the warm-up); raises UserError where the warm-up takes more than half of them, or the decay is not
    behind it."""
    train = config.train
    total = max(1, int(config.scenes * train.epochs / train.batch_size))
    warm = train.warmup_steps or int(train.warmup_share * total)
    optimizers.check_warmup(total, warm, train.learning_rate * min(1.0, total / max(warm, 1)), train.learning_rate, "train")
    if train.decay != optimizers.AFTER_WARMUP:
        raise UserError(f"train.decay is {train.decay}", "train-foreground", f"{optimizers.AFTER_WARMUP}: the rate goes down on a half "
                        "cosine from there")
    return total, warm

