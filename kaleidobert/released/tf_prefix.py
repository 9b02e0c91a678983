"""Which TensorFlow 1 checkpoint a path means: people name its folder, or one of its files."""

from pathlib import Path

from kaleidobert.configs.addresses import written
from kaleidobert.errors import UserError

PARTS = (".index", ".meta", ".data-00000-of-00001")  # how the files of a checkpoint end


def prefix_of(path: Path, key: str) -> Path:
    """The path without the endings of a checkpoint's files; of a folder, the path of the one that it holds; others as they are.

    key: of the configuration, for the message. UserError where a folder holds none, or several.
    """
    if path.is_dir():
        found = sorted(path.glob("*.index"))
        if len(found) != 1:
            names = ", ".join(file.name.removesuffix(".index") for file in found) or "none"
            raise UserError(f"the folder holds {len(found)} checkpoints: {names}", written(path), "one",
                            f"name the checkpoint: {key}=FOLDER/NAME")
        return Path(path / found[0].name.removesuffix(".index"))
    ending = next((part for part in PARTS if path.name.endswith(part)), "")
    return path.with_name(path.name.removesuffix(ending)) if ending else path
