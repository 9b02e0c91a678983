"""Reading configurations: YAML files with ``base:`` and dotted words become frozen dataclasses, or a refusal.

    load(PretrainConfig, "configs/pretrain.yaml", ["train.batch_size=64"])

A configuration is a path, or the name of a file that comes with the package: ``quickstart/pretrain``. A key that does not exist, a
value of a wrong type and a missing value are errors that name the key, the file and the nearest valid name.

Relative paths: in a YAML file they start at the folder that holds its ``configs/`` folder (outside of one, at the file's own folder).
A file found by its name is that of the repository where the package is installed from one (pip install -e), and follows the same rule;
where the package is installed from a wheel, relative paths in it start at the current folder. In a dotted word they start at the
current folder. In place of a path an address may stand (Address).
"""

import dataclasses
import difflib
import os
import re
import types
import typing
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import yaml

from kaleidobert.configs.section import RENAMED, SUPERSEDES, TABLE, WHOLE, check_name, unknown_name
from kaleidobert.errors import UserError

C = TypeVar("C")
Tables = Mapping[str, Mapping[str, Any]]  # {name of a table: its rows}


@dataclasses.dataclass(frozen=True)
class _Leaf:
    """A value with the place that it came from and the folder at which its relative paths start."""

    value: Any
    origin: str
    folder: Path


def load(config_class: type[C], path: str | Path | None, words: Sequence[str] = (), tables: Tables = MappingProxyType({})) -> C:
    """Returns the configuration of class ``config_class`` from a YAML file or its defaults, overridden by ``key.key=value`` words.

    path: a YAML file, the name of one that comes with the package, or None for the defaults. tables: the rows that keys may name
    (section.key); a table that is not given is not checked. Raises UserError where the file or name does not exist, and for whatever is
    wrong in it.
    """
    tree: dict = _read(find_file(path), ()) if path is not None else {}
    for word in words:
        _override(tree, word)
    return _Builder(tables).build(config_class, tree, "")


def to_dict(config: Any) -> Any:
    """Returns plain YAML values: mappings, lists, strings, numbers."""
    if dataclasses.is_dataclass(config):
        return {f.name: to_dict(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, Mapping):
        return {key: to_dict(value) for key, value in config.items()}
    if isinstance(config, (tuple, list)):
        return [to_dict(value) for value in config]
    return path_as_written(config) if isinstance(config, Path) else config


def from_dict(config_class: type[C], values: Mapping[str, Any], where: str, tables: Tables = MappingProxyType({})) -> C:
    """Returns the configuration of which ``to_dict`` made the values; where: the file that holds them. Raises UserError as ``load``."""
    return _Builder(tables).build(config_class, _leaves(dict(values), where, Path.cwd()), "")


def dump(config: Any) -> str:
    """Returns the resolved configuration as YAML."""
    return yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True)


def differences(old: Mapping, new: Mapping, prefix: str = "") -> list[str]:
    """Returns lines ``key: old -> new`` for every leaf in which two to_dict() trees differ."""
    lines = []
    for key in list(old) + [key for key in new if key not in old]:
        have, want, name = old.get(key), new.get(key), f"{prefix}{key}"
        if isinstance(have, Mapping) and isinstance(want, Mapping):
            lines += differences(have, want, f"{name}.")
        elif have != want:
            lines.append(f"{name}: {have} -> {want}")
    return lines


def _read(path: Path, chain: tuple[Path, ...]) -> dict:
    path = path.expanduser().absolute()
    if path in chain:
        raise UserError(f"the base: files form a circle: {' -> '.join(p.name for p in (*chain, path))}", str(path))
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (FileNotFoundError, IsADirectoryError):
        raise UserError("there is no such configuration file", str(path), fix=nearest_packaged(path)) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"not valid YAML: {' '.join(str(error).split())}", str(path)) from None
    if not isinstance(raw, dict):
        raise UserError(f"holds a {type(raw).__name__}", str(path), "keys and values")
    base = raw.pop("base", None)
    tree = _read(path.parent / base if Path(base).suffix else find_file(base), (*chain, path)) if base else {}
    _merge(tree, _leaves(raw, str(path), _start(path)))
    return tree


def _start(path: Path) -> Path:
    """Returns the folder at which the relative paths of a file start."""
    if is_packaged(path):
        return packaged_start()
    return next((parent.parent for parent in path.parents if parent.name == "configs"), path.parent)


def _leaves(value: Any, origin: str, folder: Path) -> Any:
    if isinstance(value, dict):
        return {str(key): _leaves(item, origin, folder) for key, item in value.items()}
    return _Leaf(value, origin, folder)


def _merge(tree: dict, update: dict) -> None:
    for key, other in SUPERSEDES.items():
        if getattr(update.get(key), "value", None) not in (None, "", "none"):
            tree.pop(other, None)
    for key, value in update.items():
        if isinstance(value, dict) and isinstance(tree.get(key), dict) and key not in WHOLE:
            _merge(tree[key], value)
        else:
            tree[key] = value


def _override(tree: dict, word: str) -> None:
    key, sign, text = word.partition("=")
    if not sign or not key:
        raise UserError(f"{word!r} is not an override", "command line", "key.key=value, such as train.batch_size=32")
    try:
        value = yaml.safe_load(text) if text else ""
    except yaml.YAMLError:
        value = text
    *parents, last = key.split(".")
    for parent in parents:
        child = tree.get(parent)
        if not isinstance(child, dict):
            child = tree[parent] = {}
        tree = child
    origin = f"command line, {word!r}" if not may_hold_password(text) else f"command line, {key}=..."  # origins are printed
    _merge(tree, {last: _leaves(value, origin, Path.cwd())})


class _Builder:
    """Turns trees of leaves into values of given types."""

    def __init__(self, tables: Tables):
        self._tables = tables

    def build(self, hint: Any, tree: Any, key: str) -> Any:
        """Returns the tree below ``key`` as a value of the type that a hint names."""
        origin = _origin(tree)
        if dataclasses.is_dataclass(hint):
            return self._section(hint, tree, key)
        if typing.get_origin(hint) is types.UnionType:
            options = [option for option in typing.get_args(hint) if option is not type(None)]
            if len(options) < len(typing.get_args(hint)) and isinstance(tree, _Leaf) and tree.value in (None, ""):
                return None
            mapping = [option for option in options if typing.get_origin(option) is dict and isinstance(tree, dict)]
            return self.build((mapping or options)[0], tree, key)
        if typing.get_origin(hint) is dict:
            if isinstance(tree, _Leaf) and tree.value in (None, {}):
                return {}
            if not isinstance(tree, dict):
                raise _wrong(key, tree, "a mapping of names to values")
            return {name: self.build(typing.get_args(hint)[1], item, f"{key}.{name}") for name, item in tree.items()}
        if isinstance(tree, dict):
            raise _wrong(key, tree, _describe(hint))
        if typing.get_origin(hint) is tuple:
            items = tree.value if isinstance(tree.value, list) else [tree.value]
            inner = typing.get_args(hint)[0]
            return tuple(self.build(inner, _leaves(item, origin, tree.folder), f"{key}[{i}]") for i, item in enumerate(items))
        return _scalar(hint, tree, key)

    def _section(self, section_class: Any, tree: Any, key: str, default: Any = dataclasses.MISSING) -> Any:
        if isinstance(tree, _Leaf) and tree.value is None:
            tree = {}
        if not isinstance(tree, dict):
            raise _wrong(key, tree, f"keys of {section_class.__name__}")
        hints = typing.get_type_hints(section_class)
        _check_keys(section_class, tree, key)
        # `key:` with nothing behind it means the default, unless None is a value of its own
        tree = {name: item for name, item in tree.items()
                if not (isinstance(item, _Leaf) and item.value is None) or type(None) in typing.get_args(hints[name])}
        values = {}
        for field in dataclasses.fields(section_class):
            if field.name in tree:
                values[field.name] = self._field(field, hints[field.name], tree[field.name], _join(key, field.name))
            required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            if required and field.name not in values and default is dataclasses.MISSING:
                raise UserError(f"{_join(key, field.name)!r} is not set", _origin(tree) or "the configuration",
                                _describe(hints[field.name]), f"add it to the YAML file or say {_join(key, field.name)}=...")
        try:
            return section_class(**values) if default is dataclasses.MISSING else dataclasses.replace(default, **values)
        except UserError as error:  # the section knows what is wrong, not where it was said
            raise UserError(f"{key}: {error.what}" if key else error.what, _origin(tree) or error.where, error.expected,
                            error.fix) from None

    def _field(self, field: dataclasses.Field, hint: Any, tree: Any, key: str) -> Any:
        """Returns the value of a field; raises UserError where its table has no row of this name."""
        rows = self._tables.get(field.metadata.get(TABLE, ""), {})
        section = next((option for option in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(option)), None)
        if rows and section is not None and isinstance(tree, dict):  # the row is the class of the section
            name = getattr(tree["kind"], "value", "") if "kind" in tree else next(iter(rows))
            check_name(name, rows, f"{key}.kind", _origin(tree.get("kind")))
            return self._section(rows[name], tree, key)
        if dataclasses.is_dataclass(hint):  # keys not set keep the section's own defaults
            return self._section(hint, tree, key, field.default)
        if rows and section is None:
            name = getattr(tree, "value", tree) or ""
            if name == field.default == "":  # none is named, as the key allows
                return name
            check_name(name, rows, key, _origin(tree))
        return self.build(hint, tree, key)


def _check_keys(section_class: Any, tree: Mapping[str, Any], key: str) -> None:
    names = [field.name for field in dataclasses.fields(section_class)]
    for name in tree:
        if name not in names:
            near = [new for new in (RENAMED.get(name),) if new in names] or difflib.get_close_matches(name, names, 1, 0.5)
            raise UserError(f"unknown key {_join(key, name)!r}", _origin(tree[name]),
                            f"one of {', '.join(names)}", f"did you mean {_join(key, near[0])!r}?" if near else "")


def _scalar(hint: Any, leaf: _Leaf, key: str) -> Any:
    value = leaf.value
    if typing.get_origin(hint) is typing.Literal:
        choices = typing.get_args(hint)
        if value in choices and type(value) is type(choices[choices.index(value)]):
            return value
        raise unknown_name(value, choices, key, leaf.origin)
    if hint is Path and isinstance(value, str) and value:
        value = os.path.expandvars(value)
        return parse_address(value, key, leaf.origin) or Path(os.path.normpath(leaf.folder / Path(value).expanduser()))
    if hint is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            return float(value)  # YAML 1.1 reads 1e-4 as a string
        except ValueError:
            raise _wrong(key, leaf, "a number") from None
    if hint is str and isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if type(value) is hint:
        return value
    raise _wrong(key, leaf, _describe(hint))


def _wrong(key: str, tree: Any, expected: str) -> UserError:
    value = tree.value if isinstance(tree, _Leaf) else "a mapping"
    type_name = type(tree.value).__name__ if isinstance(tree, _Leaf) else "dict"
    return UserError(f"{key or 'the file'} is {value!r} ({type_name})", _origin(tree), expected)


def _describe(hint: Any) -> str:
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", Path: "a path"}
    if hint in names:
        return names[hint]
    if typing.get_origin(hint) is typing.Literal:
        return f"one of {', '.join(map(str, typing.get_args(hint)))}"
    if typing.get_origin(hint) is tuple:
        return f"a list, each {_describe(typing.get_args(hint)[0])}"
    return f"a mapping of {hint.__name__}" if isinstance(hint, type) and dataclasses.is_dataclass(hint) else str(hint)


def _origin(tree: Any) -> str:
    if isinstance(tree, _Leaf):
        return tree.origin
    return next((_origin(item) for item in tree.values()), "") if isinstance(tree, dict) else ""


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


# --- The YAML files that come with the package, by their names: quickstart/pretrain is configs/quickstart/pretrain.yaml
#
# They have one home, the folder configs/ of the repository: kaleidobert/configs/yaml is a link to it, and in a wheel a copy of it.


YAML_FOLDER = (Path(__file__).parent / "yaml").resolve()


def packaged_start() -> Path:
    """Returns the folder at which relative paths of the packaged files start: the repository; of a wheel, which lies in none, the current
    one."""
    return Path.cwd() if YAML_FOLDER.name == "yaml" else YAML_FOLDER.parent


def is_packaged(path: Path) -> bool:
    """Whether ``path`` is one of the files of a wheel."""
    return YAML_FOLDER.name == "yaml" and path.resolve().is_relative_to(YAML_FOLDER)


def packaged_names() -> list[str]:
    """Returns the names of all packaged files, those of no folder first."""
    result = [path.relative_to(YAML_FOLDER).with_suffix("").as_posix() for path in YAML_FOLDER.rglob("*.yaml")]
    return sorted(result, key=lambda name: ("/" in name, name))


def packaged_of_command(command: str) -> list[str]:
    """Returns the names of the packaged files of a command."""
    return [name for name, other in _commands().items() if other == command]


def find_file(word: str | Path) -> Path:
    """Returns the file that ``word`` means: a path as it is, else the packaged file of this name.

    A path is what ends in .yaml or .yml and what names an existing file. Raises UserError for an unknown name.
    """
    path, name = Path(word), str(word)
    if path.suffix in (".yaml", ".yml") or path.expanduser().is_file():
        return path
    known = packaged_names()
    if name in known:
        return _packaged_file(name)
    folders = sorted({f"{other.partition('/')[0]}/" for other in known if "/" in other})
    near = _nearest(name, known)
    raise UserError(f"there is no configuration named {name!r}", "command line",
                    f"a YAML file, one of {', '.join(other for other in known if '/' not in other)}, or one of {', '.join(folders)}",
                    f"did you mean {' or '.join(near)}?" if near else "")


def nearest_packaged(path: Path) -> str:
    """Returns what to say in place of the path of a YAML file that does not exist."""
    parts = path.with_suffix("").parts
    last = max((position for position, part in enumerate(parts) if part == "configs"), default=len(parts) - 2)
    near = _nearest("/".join(parts[last + 1:]), packaged_names())
    return f"name a YAML file, or one that comes with the package by its name, such as {' or '.join(near or ['pretrain'])}"


@cache
def _commands() -> dict[str, str]:
    """Returns {name: its command}, which stands in the first line of every file: ``# kaleidobert pretrain configs/pretrain.yaml``."""
    result = {}
    for name in packaged_names():
        with _packaged_file(name).open(encoding="utf-8") as file:
            result[name] = (file.readline().removeprefix("# kaleidobert ").split() or [""])[0]
    return result


def _packaged_file(name: str) -> Path:
    return YAML_FOLDER / f"{name}.yaml"


def _nearest(name: str, known: list[str]) -> list[str]:
    """Returns up to three names: itself, those with the same last part, and those spelt much alike."""
    if name in known:
        return [name]
    same = [other for other in known if other.rpartition("/")[2] == name.rpartition("/")[2]]
    return list(dict.fromkeys([*difflib.get_close_matches(name, known, 3, 0.6), *same]))[:3]


# --- Addresses in place of paths: data.bank=s3://bucket/banks/mine
#
# A configuration keeps the address and commands read the copy: an Address is the path of the copy, and is written down as its url.


SCHEMES = ("s3", "https", "http")
SECRET = "@?#"  # what stands beside a user, a password or a signature in an address


class Address(type(Path())):  # type: ignore[misc]  # Path itself has no subclasses before Python 3.12
    """The path of the local copy of ``url``, which names nothing until the copy is made. Of paths made from it url is ""."""

    url = ""

    @classmethod
    def of(cls, url: str, copy: str | Path = "") -> "Address":
        """Returns ``url``, with the path of its copy where there is one."""
        path = cls(copy or url)
        path.url = url
        return path

    def __reduce__(self) -> tuple:
        return Address.of, (self.url, str(self))


def parse_address(value: str, key: str, where: str) -> Address | None:
    """Returns the address that a value of a configuration is; None of a path. Raises UserError for one that cannot be fetched or may hold a
    password."""
    start = re.match(r"([a-z][a-z0-9+.-]+):/", value, re.IGNORECASE)
    if not start:
        return None
    if may_hold_password(value):  # configurations are printed and kept
        raise UserError(f"{key} is an address with one of {SECRET}, beside which passwords stand", where, "an address without them",
                        "put credentials into ~/.netrc for https, into the environment or ~/.aws for S3")
    if start[1] not in SCHEMES or not value.startswith(f"{start[1]}://"):
        raise UserError(f"{key} is {value!r}", where, "a local path, s3://bucket/path or https://host/path")
    return Address.of(value)


def may_hold_password(text: str) -> bool:
    """Whether a text is, or holds, an address that may hold a password."""
    return ":/" in text and any(mark in text for mark in SECRET)


def path_as_written(path: Path) -> str:
    """Returns how a path stands in a configuration."""
    return getattr(path, "url", "") or str(path)
