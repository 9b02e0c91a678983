"""Every private name of Keras that this package uses; no other module has one (tests/test_house.py).

Private names may change with any release. tests/test_keras_private.py runs each function against the installed Keras; pyproject.toml pins
the minor version. When Keras moves: run that test, mend the function that fails here, and nothing else changes.
"""

from typing import Any


def adam_moments(optimizer: Any, variable: Any) -> tuple[Any, Any]:
    """Returns the first and second moment that a built keras.optimizers.Adam keeps of a variable; Keras has no public way to them."""
    index = optimizer._get_variable_index(variable)
    return optimizer._momentums[index], optimizer._velocities[index]


def decays(optimizer: Any, variable: Any) -> bool:
    """Whether weight decay applies to a variable, after exclude_from_weight_decay, which Keras lets be set but not read."""
    return bool(optimizer.weight_decay and optimizer._use_weight_decay(variable))


def skip_weight_decay(optimizer: Any) -> None:
    """Turns off the pass over all variables in which Keras decays them before their updates: the optimizer's update_step does it."""
    optimizer._apply_weight_decay = lambda variables: None


def skip_gradient_sum(optimizer: Any) -> None:
    """Turns off Keras's sum of gradients over TensorFlow replicas in ``apply``: they are summed before, as clipping needs the sum."""
    optimizer._all_reduce_sum_gradients = list


def weights_cast_in_calls(model: Any) -> list[tuple[Any, str]]:
    """Returns (variable, dtype) of the matrices that layers of half precision cast to their compute dtype in every call.

    Keras does not say publicly which layer owns a variable, nor whether it is cast (add_weight(autocast=...)).
    """
    return [(variable, layer.compute_dtype) for layer in model._flatten_layers() for variable in layer._trainable_variables
            if layer.autocast and layer.compute_dtype != layer.variable_dtype and variable._autocast and len(variable.shape) > 1]


def autocast(layer: Any) -> Any:
    """Opens the scope of a layer's call, in which its variables are read in the compute dtype: for a second computation of its parts in the
    backward pass, which is behind that call."""
    from keras.src.backend import AutocastScope

    return AutocastScope(layer.compute_dtype if layer.autocast and layer.compute_dtype != layer.variable_dtype else None)


def producer(tensor: Any) -> Any:
    """Returns the layer that made a symbolic tensor. A functional model has no public way from a layer to the one before it."""
    return tensor._keras_history.operation
