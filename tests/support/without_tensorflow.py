"""A program for a test: every command that trains or predicts from a bank, where importing TensorFlow fails.

    KERAS_BACKEND=jax python -m tests.support.without_tensorflow FOLDER

Writes a tiny catalogue and its bank into FOLDER, then runs the commands; prints JSON: {command: exit status}.
"""

import importlib.abc
import json
import sys
from dataclasses import replace
from pathlib import Path

GONE = ("tensorflow", "tensorflow_datasets", "tf_keras")


class Missing(importlib.abc.MetaPathFinder):
    """Nobody has TensorFlow here."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in GONE:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


def main(folder: Path) -> dict[str, int]:
    from tests.support.apps_data import TRAIN, World, call
    from tests.support.tables import TWO
    from tests.support.tiny import tiny_bank

    world, found = World(folder, TWO, tiny_bank(folder, TWO)), {}
    short = replace(TRAIN, epochs=0.5)

    def run(name: str, config) -> None:
        done = call(name, config)
        found[f"{name} {config.run.name}"] = done.status
        if done.status:
            print(done.err, file=sys.stderr)

    run("pretrain", world.pretrain(train=replace(short, gradient_accumulation_steps=2, gradient_checkpointing=True)))
    short = replace(short, dynamic_padding=False)  # every length of the texts is compiled anew
    run("classify", world.classify(train=short, baselines=True))
    run("retrieve", world.retrieve(train=replace(short, epochs=0)))
    run("caption", world.caption(train=short))
    return found


if __name__ == "__main__":
    sys.meta_path.insert(0, Missing())
    statuses = main(Path(sys.argv[1]))
    assert not [name for name in sys.modules if name.split(".")[0] in GONE]
    print(json.dumps(statuses))
