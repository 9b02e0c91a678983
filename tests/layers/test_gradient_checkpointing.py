"""Gradient checkpointing: the same losses and gradients, dropout included, by a second computation of each block."""

import numpy as np
import pytest
from keras import ops

from kaleidobert.losses import pretraining
from kaleidobert.model_zoo.kaleidobert import Pretrainer, rebuild
from tests.support.golden_data import close, gradients
from tests.support.network_data import TABLES, backbone, batch

pytestmark = pytest.mark.slow

SIZES = {"hidden_size": 64, "num_heads": 4, "intermediate_size": 128, "initializer_range": 0.2}


def objective(table: str, **changes):
    model, data = Pretrainer(backbone(table, **changes)), batch(table)
    losses = pretraining.for_tasks(TABLES[table])
    return model, gradients(model, lambda: pretraining.total(losses, model(data["inputs"], training=True), data["targets"],
                                                       data["weights"])["total"], often=True)


@pytest.mark.parametrize("changes", [{"dropout": 0.3, "attention_dropout": 0.3}, {"dropout": 0.0, "attention_dropout": 0.0},
                                     {"dropout": 0.3, "attention_dropout": 0.0, **SIZES}])
def test_gradients_are_equal(changes):
    (plain, run), (saving, again) = (objective("two", gradient_checkpointing=on, **changes) for on in (False, True))
    for _ in range(2):  # the second time with other masks
        (value, expected), (other, found) = run(), again()
        close(other, float(value), 0, 1e-6)
        for variable, one, two in zip(plain.trainable_variables, expected, found):
            close(dense(two), dense(one), 1e-6, 1e-5, variable.path)
    drawn = [[np.asarray(v) for v in model.non_trainable_variables if v.path.endswith("seed_generator_state")] for model in (plain, saving)]
    assert all(np.array_equal(one, two) for one, two in zip(*drawn))  # each generator went one step on for each call


def dense(gradient) -> np.ndarray:
    return np.asarray(gradient if not hasattr(gradient, "indices") else ops.convert_to_numpy(ops.convert_to_tensor(gradient)))


def test_it_is_of_the_run_and_not_of_the_weights():
    model = Pretrainer(backbone(gradient_checkpointing=True))
    assert all(model.backbone.get_layer(f"encoder_{number}").checkpointed for number in range(2))
    assert "gradient_checkpointing" not in model.describe()["config"]["backbone"]
    assert model.describe() == Pretrainer(backbone()).describe()
    assert not rebuild(model.describe()).backbone.get_layer("encoder_0").checkpointed
