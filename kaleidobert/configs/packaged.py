"""The YAML files that come with the package, found by their names: ``quickstart/pretrain`` is configs/quickstart/pretrain.yaml.

They have one home, the folder configs/ of the repository: kaleidobert/configs/yaml is a link to it, and in a wheel a copy of it.
"""

import difflib
from functools import cache
from pathlib import Path

from kaleidobert.errors import UserError

FOLDER = (Path(__file__).parent / "yaml").resolve()


def start() -> Path:
    """Returns the folder at which relative paths of the packaged files start: the repository; of a wheel, which lies in none, the current
    one."""
    return Path.cwd() if FOLDER.name == "yaml" else FOLDER.parent


def holds(path: Path) -> bool:
    """Whether ``path`` is one of the files of a wheel."""
    return FOLDER.name == "yaml" and path.resolve().is_relative_to(FOLDER)


def names() -> list[str]:
    """Returns the names of all packaged files, those of no folder first."""
    result = [path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.yaml")]
    return sorted(result, key=lambda name: ("/" in name, name))


def of_command(command: str) -> list[str]:
    """Returns the names of the packaged files of a command."""
    return [name for name, other in _commands().items() if other == command]


def find(word: str | Path) -> Path:
    """Returns the file that ``word`` means: a path as it is, else the packaged file of this name.

    A path is what ends in .yaml or .yml and what names an existing file. Raises UserError for an unknown name.
    """
    path, name = Path(word), str(word)
    if path.suffix in (".yaml", ".yml") or path.expanduser().is_file():
        return path
    known = names()
    if name in known:
        return _file(name)
    folders = sorted({f"{other.partition('/')[0]}/" for other in known if "/" in other})
    near = _nearest(name, known)
    raise UserError(f"there is no configuration named {name!r}", "command line",
                    f"a YAML file, one of {', '.join(other for other in known if '/' not in other)}, or one of {', '.join(folders)}",
                    f"did you mean {' or '.join(near)}?" if near else "")


def instead_of(path: Path) -> str:
    """Returns what to say in place of the path of a YAML file that does not exist."""
    parts = path.with_suffix("").parts
    last = max((position for position, part in enumerate(parts) if part == "configs"), default=len(parts) - 2)
    near = _nearest("/".join(parts[last + 1:]), names())
    return f"name a YAML file, or one that comes with the package by its name, such as {' or '.join(near or ['pretrain'])}"


@cache
def _commands() -> dict[str, str]:
    """Returns {name: its command}, which stands in the first line of every file: ``# kaleidobert pretrain configs/pretrain.yaml``."""
    result = {}
    for name in names():
        with _file(name).open(encoding="utf-8") as file:
            result[name] = (file.readline().removeprefix("# kaleidobert ").split() or [""])[0]
    return result


def _file(name: str) -> Path:
    return FOLDER / f"{name}.yaml"


def _nearest(name: str, known: list[str]) -> list[str]:
    """Returns up to three names: itself, those with the same last part, and those spelt much alike."""
    if name in known:
        return [name]
    same = [other for other in known if other.rpartition("/")[2] == name.rpartition("/")[2]]
    return list(dict.fromkeys([*difflib.get_close_matches(name, known, 3, 0.6), *same]))[:3]
