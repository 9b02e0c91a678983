"""A contestant (turns.serve) on the Keras backend at hand: our pre-training model, or plain_bert.py's, through the package's own steps."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import keras
import numpy as np

from benchmarks import floors, plain_bert, random_bank, report, turns
from kaleidobert import configs
from kaleidobert.app_zoo import models
from kaleidobert.engines import feeding, steps
from kaleidobert.levels import KaleidoLevel
from kaleidobert.losses import pretraining as losses
from kaleidobert.losses.decomposable import DecomposableLoss
from kaleidobert.model_zoo.kaleidobert import Matcher, pretrainer

TOTAL = 100_000  # steps of the learning rate's schedule
HELD = ExitStack()  # for as long as the process lives: prediction is timed as one of many batches


def prepare(settings: dict[str, Any]) -> tuple[dict[str, Any], turns.Cases]:
    """Prepares a contestant. settings: model ("ours" or "plain"), size, precision, batch file, micro; see peers.py."""
    config = random_bank.config(settings["size"], 1, settings["precision"])
    sizes = random_bank.sizes(settings["size"], settings["precision"])
    if settings["model"] == "ours":
        model = pretrainer(sizes)
        matching = Matcher(model.backbone)
    else:
        model, matching = plain_bert.plain_bert(sizes, config.levels)
    batch, loss = read(settings["batch"]), loss_function(config, config.levels)
    inputs_of_matching = {name: batch[0][name] for name in matching.input}
    optimizer, _ = models.schedule(config.train, TOTAL)
    optimizer.build(model.trainable_variables)
    micro, rows = settings["micro"], len(inputs_of_matching["token_ids"])
    step = steps.train_step(model, loss, optimizer, config.train.clip_norm, rows // micro)

    predict = steps.forward(matching)
    HELD.enter_context(steps.held(predict))

    def train() -> dict[str, float]:
        return step(*feeding.to_device()(batch))

    floor = floors.products_like(sizes, config.levels, rows) if settings["model"] == "ours" else []
    metadata = {"versions": report.machine()["versions"], "accelerators": report.machine()["accelerators"],
             "backend": keras.backend.backend(), "parameters": model.count_params(), "floors": {case.name: case.work for case in floor}}
    return metadata, {"forward and backward": repeated(gradients(model, loss, micro), batch),
                   "step": lambda times: steps.read(repeated(train, ())(times)),
                   "prediction": repeated(predict, (inputs_of_matching,)), **{case.name: case.run for case in floor}}


def repeated(run: Callable[..., Any], arguments: Sequence[Any]) -> Callable[[int], Any]:
    """Returns a function n -> what the last of n runs gave."""

    def run_times(times: int) -> Any:
        for _ in range(times):
            last = run(*arguments)
        return last

    return run_times


def read(path: str) -> tuple[dict[str, np.ndarray], ...]:
    """Returns (inputs, targets, weights) of a file that peers.py wrote."""
    with np.load(path) as arrays:
        return tuple({name.split("/")[1]: arrays[name] for name in arrays.files if name.startswith(part)}
                     for part in ("inputs", "targets", "weights"))


def loss_function(config: configs.PretrainConfig, levels: Sequence[KaleidoLevel]) -> DecomposableLoss:
    """Returns the losses of all tasks as ``kaleidobert pretrain`` adds them up."""
    by_task = losses.for_tasks(levels, config.losses.feature_target, config.losses.mlm_weight, config.losses.itm_weight)

    def loss(outputs, targets, weights, over):
        values = losses.total(by_task, outputs, targets, weights, over)
        return {"loss": values.pop("total"), **values}

    return DecomposableLoss(loss, lambda weights: losses.denominators(by_task, weights))


def gradients(model: keras.Model, loss: DecomposableLoss, micro: int = 0) -> Callable[..., None]:
    """Returns a function (inputs, targets, weights) that computes all gradients from numpy arrays, in parts of ``micro`` examples (0 =
    whole), and throws their sum away."""
    backward, add, wait = {"tensorflow": _tensorflow_gradients, "jax": _jax_gradients}[keras.backend.backend()](model, loss)

    def run(*batch: dict[str, np.ndarray]) -> None:
        over, total = loss.denominators(batch[2]), None
        for part in parts(batch, micro):
            result = backward(*part, over)
            total = result if total is None else add(total, result)
        wait(total)

    return run


def parts(batch: Sequence[dict[str, np.ndarray]], micro: int) -> Iterator[tuple[dict[str, np.ndarray], ...]]:
    """Returns the batch in parts of ``micro`` rows, 0 = whole."""
    rows = len(batch[0]["token_ids"])
    for start in range(0, rows, micro or rows):
        yield tuple({name: array[start : start + (micro or rows)] for name, array in part.items()} for part in batch)


def _tensorflow_gradients(model, loss):
    import tensorflow as tf

    xla = bool(tf.config.list_physical_devices("GPU"))

    @tf.function(jit_compile=xla, reduce_retracing=True, autograph=False)
    def compiled(inputs, targets, weights, over):
        with tf.GradientTape() as tape:
            value = loss.micro_batch(model(inputs, training=True), targets, weights, over)["loss"]
        result = tape.gradient(value, [variable.value for variable in model.trainable_variables])
        return [tf.convert_to_tensor(gradient) for gradient in result if gradient is not None]

    def backward(inputs, targets, weights, over):
        return compiled(*({name: tf.convert_to_tensor(array) for name, array in part.items()} for part in (inputs, targets, weights)), over)

    add = tf.function(lambda one, other: [x + y for x, y in zip(one, other)], jit_compile=xla, autograph=False)
    return backward, add, lambda result: result[-1][..., 0].numpy()


def _jax_gradients(model, loss):
    import jax

    def objective(trained, other, inputs, targets, weights, over):
        outputs, other = model.stateless_call(trained, other, inputs, training=True)
        return loss.micro_batch(outputs, targets, weights, over)["loss"], other

    compiled = jax.jit(jax.grad(objective, has_aux=True))

    def backward(*batch):
        groups = (model.trainable_variables, model.non_trainable_variables)
        result, other = compiled(*[[variable.value for variable in group] for group in groups], *batch)
        for variable, value in zip(model.non_trainable_variables, other):
            variable.assign(value)  # the dropout of the next time is another
        return result

    return backward, jax.jit(lambda one, other: jax.tree.map(jax.numpy.add, one, other), donate_argnums=0), jax.block_until_ready


if __name__ == "__main__":
    sys.exit(turns.serve(prepare))
