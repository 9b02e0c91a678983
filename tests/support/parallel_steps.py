"""A program for tests of several devices: trains a small model for a few steps in each of several ways, in one process.

    python -m tests.support.parallel_steps '[{"devices": 2, "gradient_accumulation_steps": 2}, ...]'

Prints JSON: for every case the losses of all steps and a list of sums of the variables behind each step; "error" where it is refused.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
from keras import ops

from kaleidobert import configs
from kaleidobert.engines import optimizers, steps
from kaleidobert.engines.distributed import distribution
from kaleidobert.errors import UserError
from kaleidobert.layers.core import Dropout
from kaleidobert.losses.decomposable import DecomposableLoss
from kaleidobert.losses.pretraining import cross_entropy
from kaleidobert.model_zoo import checkpoints
from tests.support.quick import turn_graph_optimiser_off

DEVICES, ROWS, LENGTH, CLASSES = 4, 8, 5, 7


def split_the_cpu() -> None:
    """Make DEVICES devices of it."""
    if keras.backend.backend() == "jax":
        import jax

        jax.config.update("jax_num_cpu_devices", DEVICES)
        return
    if keras.backend.backend() == "torch":  # a process has one
        return
    import tensorflow as tf

    cpu, = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * DEVICES)
    turn_graph_optimiser_off()


def network(dropout: float, precision: str) -> keras.Model:
    """Words and a picture's features to two answers; a head that nothing asks, as in fine-tuning; a table with repeated rows."""
    inputs = {"words": keras.Input((LENGTH,), dtype="int32", name="words"), "features": keras.Input((6,), name="features")}

    def dense(size, name):
        return keras.layers.Dense(size, kernel_initializer=keras.initializers.RandomNormal(0.5, seed=3), dtype=precision, name=name)

    words = keras.layers.Embedding(9, 6, keras.initializers.RandomNormal(0.5, seed=1), dtype=precision, name="table")(inputs["words"])
    picture = keras.layers.Reshape((1, 6), name="one")(dense(6, "picture")(inputs["features"]))
    hidden = Dropout(dropout, 5, dtype=precision, name="dropout")(keras.layers.Add(dtype=precision, name="sum")([words, picture]))
    pooled = keras.layers.GlobalAveragePooling1D(dtype=precision, name="pool")(hidden)
    return keras.Model(inputs, {"words": dense(CLASSES, "head_words")(hidden), "match": dense(2, "head_match")(pooled),
                                "other": dense(3, "head_other")(pooled)})


def loss(outputs, targets, weights, over) -> dict:
    values = {f"{task}_loss": ops.sum(cross_entropy(outputs[task], targets[task]) * weights[task]) / over[task] for task in over}
    return {"loss": sum(values.values()), **values}


def data(step: int) -> tuple:
    """Weights differ much between the parts of the batch."""
    rng = np.random.Generator(np.random.Philox(step))
    asked = rng.random((ROWS, LENGTH)) < np.linspace(0, 1, ROWS)[:, None]
    weights = {"words": asked.astype(np.float32), "match": np.ones(ROWS, np.float32)}
    return ({"words": rng.integers(0, 9, (ROWS, LENGTH)).astype(np.int32), "features": rng.random((ROWS, 6)).astype(np.float16)},
            {"words": rng.integers(0, CLASSES, (ROWS, LENGTH)).astype(np.int32), "match": rng.integers(0, 2, ROWS).astype(np.int32)},
            weights)


def train(
    devices: int = 1,
    gradient_accumulation_steps: int = 1,
    dropout: float = 0.0,
    precision: str = "float32",
    clip: float = 0.05,
    count: int = 3,
    blow_up: int = -1,
    halt: int = -1,
    whole: bool = False,
) -> dict:
    """The steps of a case. blow_up: the step whose loss scale is set so that gradients overflow. halt: before this step everything is
    saved and loaded into a new model. whole: the loss is one that has no parts."""
    found, states = [], []
    with distribution.scope(configs.Train(devices=of_a_process(devices))) as process, tempfile.TemporaryDirectory() as folder:
        def begin():
            model, optimizer = network(dropout, precision), optimizers.adam(1e-2, weight_decay=0.01)
            optimizer = optimizers.with_loss_scale(optimizer) if precision == "mixed_float16" else optimizer
            optimizer.build(model.trainable_variables)
            return model, optimizer

        def step_of(model, optimizer):
            additive = DecomposableLoss(loss, lambda weights: {task: ops.sum(each) for task, each in weights.items()})
            return steps.train_step(
                model, (lambda *batch: additive(*batch)) if whole else additive, optimizer, clip, gradient_accumulation_steps
            )

        model, optimizer = begin()
        update, feed = step_of(model, optimizer), distribution.feed(data, gradient_accumulation_steps)
        for step in range(count):
            if step == halt:
                path = Path(process.agree(folder)) / "last.npz"
                if process.first:
                    checkpoints.save(path, model, optimizer, {})
                process.agree()
                model, optimizer = begin()
                checkpoints.restore(path, model, optimizer)
                update = step_of(model, optimizer)
            if step == blow_up:
                optimizer.dynamic_scale.assign(2.0**40)
            found.append(steps.read(update(*feed(step)[1])))
            if step == blow_up:
                found[-1]["scale_behind"] = float(np.asarray(optimizer.dynamic_scale))
                optimizer.dynamic_scale.assign(2.0**10)
            states.append([float(np.abs(np.asarray(v, np.float64)).sum()) for v in (*model.variables, *optimizer.variables)])
    return {"losses": found, "states": states, "names": [v.path for v in (*model.variables, *optimizer.variables)]}


def of_a_process(devices: int) -> int:
    """What train.devices says: on PyTorch several devices are as many processes, where the program is started in these."""
    return 1 if keras.backend.backend() == "torch" and "KALEIDO_SIZE" in os.environ else devices


def masks(devices: int) -> list:
    """What dropout leaves of ones on every device, rows of a batch in order."""
    with distribution.scope(configs.Train(devices=of_a_process(devices))) as place:
        layer = Dropout(0.5, 1, name="dropout")
        inputs = keras.Input((64,), name="x")
        model = keras.Model({"x": inputs}, {"y": layer(inputs)})
        if place.group is not None:
            from kaleidobert.engines import backend_torch

            backend_torch.seed_process(model, place.cluster.rank)
            own = model({"x": np.ones((1, 64), np.float32)}, training=True)["y"]
            return sum(place.channel.gather(np.asarray(own).tolist()), [])
        if place.strategy is None:
            return np.asarray(model({"x": np.ones((devices, 64), np.float32)}, training=True)["y"]).tolist()
        from kaleidobert.engines import backend_tensorflow

        backend_tensorflow.seed_replicas(model, place.strategy)
        found = place.strategy.run(lambda: model({"x": np.ones((1, 64), np.float32)}, training=True)["y"])
        return np.concatenate([part.numpy() for part in place.strategy.experimental_local_results(found)]).tolist()


def run(case: dict):
    try:
        return masks(**case["masks"]) if "masks" in case else train(**case)
    except UserError as error:
        return {"error": str(error)}


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    split_the_cpu()
    print(json.dumps([run(case) for case in json.loads(sys.argv[1])]))
