"""A program for a test: every command that trains or predicts from a bank, where the libraries of other backends are not there.

    KERAS_BACKEND=jax python -m tests.support.without_tensorflow FOLDER

Writes a tiny catalogue and its bank into FOLDER, then runs the commands; prints JSON: {command: exit status}.
"""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

LIBRARIES = {"tensorflow": ("tensorflow", "tensorflow_datasets", "tf_keras"), "jax": ("jax", "jaxlib"), "torch": ("torch",)}
# a module that Python imports at its start: processes of a process have no other libraries either
AT_START = """import sys
sys.path.insert(0, {root!r})
from tests.support.without_tensorflow import forbid
forbid({backend!r})
sys.path.remove({root!r})
"""


class Without:
    """A finder of modules, for which nobody has these libraries here."""

    def __init__(self, finder: Any, names: tuple[str, ...]):
        self.finder, self.names = finder, names

    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] in self.names else self.finder.find_spec(name, path, target)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.finder, name)


def others(backend: str) -> tuple[str, ...]:
    """The libraries that only other backends need."""
    return tuple(name for library, names in LIBRARIES.items() if library != backend for name in names)


def forbid(backend: str) -> None:
    """From now on no library of another backend can be found."""
    sys.meta_path[:] = [Without(finder, others(backend)) for finder in sys.meta_path]


def at_start(folder: Path, backend: str) -> dict[str, str]:
    """Writes a module into ``folder``; returns the variables with which Python, and what it starts, is without other backends."""
    root = str(Path(__file__).resolve().parents[2])
    (folder / "sitecustomize.py").write_text(AT_START.format(root=root, backend=backend))
    return {"KERAS_BACKEND": backend, "PYTHONPATH": f"{folder}:{os.environ.get('PYTHONPATH', '')}"}


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
    gone = others(os.environ["KERAS_BACKEND"])
    forbid(os.environ["KERAS_BACKEND"])
    statuses = main(Path(sys.argv[1]))
    assert not [name for name in sys.modules if name.split(".")[0] in gone]
    print(json.dumps(statuses))
