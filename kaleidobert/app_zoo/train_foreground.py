"""``kaleidobert train-foreground``: train the foreground network on drawn scenes, and nothing else.

    run/scenes/               the drawn scenes, made once
        foreground_net.npz    the network's weights, float16; with install: true also copied into the package
        results.json          overlap on held-out products before backgrounds of families that the training does not have
"""

import dataclasses
from pathlib import Path

import keras
import numpy as np
from keras import ops
from tqdm import tqdm

from kaleidobert import files
from kaleidobert.configs import TrainForegroundConfig
from kaleidobert.configs_data import FOREGROUND_WEIGHTS
from kaleidobert.datasets import scene_files
from kaleidobert.datasets.drawn.surroundings import HELD_OUT
from kaleidobert.datasets.scene_files import Scenes
from kaleidobert.engines import runs
from kaleidobert.engines.trainer import Goal, Schedule, Trainer
from kaleidobert.losses.segmentation import cross_entropy_and_dice
from kaleidobert.model_zoo import foreground_net
from kaleidobert.preprocessors import foreground

TEST = 1  # added to the seed for the held-out scenes: other products


def dry_run(config: TrainForegroundConfig) -> None:
    """Check the configuration and print sizes."""
    runs.check_folder(config.run, _work(config))
    model = foreground_net.network(config.channels, config.size)
    total = config.scenes + config.held_out
    print(f"{model.count_params():,} parameters; {_steps(config):,} steps of {config.train.batch_size}; {total:,} pictures to draw, "
          f"{total * config.size**2 * 4 / 1e6:.0f} MB in {config.run / 'scenes'}")


def run(config: TrainForegroundConfig) -> None:
    """Draw, train, evaluate; an interrupted run continues where it stopped."""
    keras.utils.set_random_seed(config.train.seed)
    model = foreground_net.network(config.channels, config.size)
    folder = runs.Run(config.run, _work(config))
    train = _draw(config, "train", config.scenes, 0)
    test = _draw(config, "test", config.held_out, TEST, tuple(HELD_OUT))
    trained = keras.Model({"image": model.input}, {"foreground": model.output})
    total = _steps(config)
    optimizer = _optimizer(config, total)
    trainer = Trainer(folder, trained, optimizer, {"scenes": config.scenes})

    def loss(outputs, targets, weights):
        return {"loss": ops.mean(cross_entropy_and_dice(targets["foreground"], outputs["foreground"]))}

    def evaluate():
        return {"overlap": float(np.mean(overlaps(foreground_net.predictor(model), test)))}

    # what is reported is measured on the same scenes, so nothing is chosen by them: the last weights stay
    goal, schedule = Goal(evaluate, "overlap", None), Schedule(total, config.train.epochs, config.train.save_every)
    trainer.fit(lambda step: batch(train, config, step), loss, goal, schedule, config.train.clip_norm)
    optimizer.finalize_variable_values(trained.trainable_variables)
    path = config.run / "foreground_net.npz"
    foreground_net.save(path, model)
    values = results(path, test)
    folder.results({**values, "parameters": model.count_params(), "bytes": path.stat().st_size}, config)
    if config.install:
        install(path)
    families = ", ".join(f"{name} {value:.3f}" for name, value in values["families"].items())
    print(f"overlap on {config.held_out} held-out scenes: {values['overlap']:.3f} ({families})\n"
          f"  weights: {path} ({path.stat().st_size / 1e6:.2f} MB)\n  figures: {config.run / 'results.json'}")
    if config.install:
        print(f"  installed as {FOREGROUND_WEIGHTS}")
    else:
        print("  to put them into the package: the same command with install=true")


def install(weights: Path) -> None:
    """Make a file of weights the package's own. Raises UserError where the package cannot be written."""
    with files.atomic(FOREGROUND_WEIGHTS) as file:
        file.write(weights.read_bytes())


def batch(train: Scenes, config: TrainForegroundConfig, step: int) -> tuple[dict, dict, dict]:
    """Inputs, targets and weights of one step: a pure function of it. Mirrored, and in other colours, at random."""
    size, count = config.train.batch_size, len(train.images)
    places = np.arange(step * size, (step + 1) * size)
    orders = {epoch: _generator(config, epoch, 0).permutation(count) for epoch in set((places // count).tolist())}
    rows = np.array([orders[place // count][place % count] for place in places.tolist()])
    rng = _generator(config, step, 1)
    images, masks = train.images[rows].astype(np.float32), train.masks[rows]
    for k in range(size):
        if rng.random() < 0.5:
            images[k], masks[k] = images[k, :, ::-1], masks[k, :, ::-1]
        if rng.random() < 0.3:
            images[k] = images[k][:, :, rng.permutation(3)]
        if rng.random() < 0.3:
            images[k] = 255 * (images[k] / 255) ** rng.uniform(0.75, 1.35)
    return {"image": foreground.channels(images)}, {"foreground": masks[..., None]}, {}


def overlaps(predict, test: Scenes) -> np.ndarray:
    """Intersection over union of every scene, f64[N], at the network's own resolution."""
    found = np.concatenate([predict(foreground.channels(test.images[k : k + 32])) >= 0.5 for k in range(0, len(test.images), 32)])
    return foreground.overlap(found, test.masks)


def results(weights: Path, test: Scenes) -> dict:
    """Mean overlap of the written weights on the held-out scenes, in all and by family of backgrounds, the raw network's and
    that of the whole segmenter."""
    predict = foreground_net.build(weights)
    raw = overlaps(predict, test)
    whole = np.array([foreground.overlap(foreground.network_mask(image, predict), mask) for image, mask in zip(test.images, test.masks)])
    names = list(HELD_OUT)
    return {"overlap": float(whole.mean()), "families": {name: float(whole[k :: len(names)].mean()) for k, name in enumerate(names)},
            "at_least_0.9": float((whole >= 0.9).mean()), "overlap_of_the_raw_network": float(raw.mean())}


def _draw(config: TrainForegroundConfig, part: str, count: int, shift: int, held_out: tuple[str, ...] = ()) -> Scenes:
    with tqdm(total=count, unit="scene", desc=f"{part} scenes") as bar:
        seed = config.train.seed + shift
        for number in scene_files.draw(config.run / "scenes", part, seed, count, config.size, held_out, config.workers):
            bar.update(number)
    return scene_files.read(config.run / "scenes", part)


def _optimizer(config: TrainForegroundConfig, total: int) -> keras.optimizers.Optimizer:
    """Adam on a half cosine; it keeps the running average of the weights that become the network."""
    train = config.train
    warm = train.warmup_steps or int(train.warmup_share * total)
    rate = keras.optimizers.schedules.CosineDecay(0.0, max(1, total - warm), warmup_target=train.learning_rate, warmup_steps=warm)
    return keras.optimizers.AdamW(rate, train.weight_decay, train.beta_1, train.beta_2, train.epsilon, use_ema=True,
                                  ema_momentum=config.average, name="adam")


def _work(config: TrainForegroundConfig) -> TrainForegroundConfig:
    """What decides the weights: a finished run is installed by the same command with install=true."""
    return dataclasses.replace(config, install=False, workers=0)


def _steps(config: TrainForegroundConfig) -> int:
    return max(1, int(config.scenes * config.train.epochs / config.train.batch_size))


def _generator(config: TrainForegroundConfig, number: int, purpose: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=np.array([config.train.seed, number], np.uint64), counter=[0, 0, 0, purpose]))
