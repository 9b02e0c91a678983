"""The devices that Keras computes on, by name, whatever its backend: Keras itself lists none of PyTorch's."""


def names() -> list[str]:
    """Returns the names of this process's devices of the kind that is used, such as ["gpu:0", "gpu:1"]; CPUs where there is nothing else.

    The backend takes hold of them.
    """
    import keras  # here: describing a machine needs no network library

    if keras.backend.backend() != "torch":
        return list(keras.distribution.list_devices())
    import torch

    kind = keras.ops.convert_to_tensor(0).device.type  # as Keras chose it, or KERAS_TORCH_DEVICE
    return [f"gpu:{number}" for number in range(torch.cuda.device_count())] if kind == "cuda" else [f"{kind}:0"]


def accelerated() -> bool:
    """Whether there is anything else than CPUs."""
    return any("cpu" not in name.lower() for name in names())
