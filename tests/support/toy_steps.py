"""A program for a test: some steps of pre-training at toy size from a checkpoint, dropout included.

    KERAS_BACKEND=torch python -m tests.support.toy_steps START.npz STEPS

Prints JSON: the losses of every step, {"loss": total, ..., "gradient_norm"}.
"""

import json
import sys

from kaleidobert.engines import optimizers, steps
from kaleidobert.losses import pretraining
from kaleidobert.model_zoo import checkpoints
from kaleidobert.model_zoo.kaleidobert import Pretrainer
from tests.support.network_data import TABLES, backbone, batch

TABLE, ROWS = "kaleido", 8


def network() -> Pretrainer:
    return Pretrainer(backbone(TABLE, hidden_size=32, dropout=0.1, attention_dropout=0.1))


def train(start: str, count: int) -> list[dict[str, float]]:
    model, optimizer = network(), optimizers.adam(optimizers.WarmupLinearDecay(2e-3, count, count // 10), weight_decay=0.01)
    checkpoints.restore(start, model)
    optimizer.build(model.trainable_variables)
    tasks = pretraining.for_tasks(TABLES[TABLE])

    def loss(outputs, targets, weights):
        values = pretraining.total(tasks, outputs, targets, weights)
        return {"loss": values.pop("total"), **values}

    update = steps.train_step(model, loss, optimizer, 1.0)
    return [steps.read(update(*batch(TABLE, ROWS, seed=number % 10).values())) for number in range(count)]


if __name__ == "__main__":
    print(json.dumps(train(sys.argv[1], int(sys.argv[2]))))
