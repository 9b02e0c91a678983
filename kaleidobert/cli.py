"""The console command ``kaleidobert``: one subcommand per module of app_zoo, each a configuration and dotted words."""

import argparse
import dataclasses
import itertools
import json
import os
import sys
import tempfile
import textwrap
import types
import typing
from collections.abc import Collection
from pathlib import Path
from typing import Any

from kaleidobert import __version__, configs, io
from kaleidobert.app_zoo import backends, commands, fetch, quickstart
from kaleidobert.configs import loader
from kaleidobert.configs.section import MEANING, TABLE
from kaleidobert.errors import UserError

QUICKSTART = "run every command on a drawn catalogue of toy size, one after another, and show a table of the results"
STATUS = ("exit status: 0 done; 2 refused, with one message on standard error; 3 done, but a large fraction of the input was left out\n"
          "(records: max_skipped); 130 interrupted")


PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic")
WIDTH, COLUMN = 130, 40  # of --help: characters of a line, and where the meanings start


class _Wide(argparse.RawDescriptionHelpFormatter):
    """Keeps the lists of keys as they are and gives the names of the commands room."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=30, width=120)


def parser(chosen: str = "") -> argparse.ArgumentParser:
    """Returns the command line; every subcommand lists its keys and defaults in --help.

    chosen: the command that is called, whose module may be loaded to know its keys.
    """
    main_parser = argparse.ArgumentParser("kaleidobert", description="Vision-language pre-training for fashion.", formatter_class=_Wide,
                                          epilog=STATUS)
    main_parser.add_argument("--version", action="version", version=f"kaleidobert {__version__}")
    subparsers = main_parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, row in commands.every().items():
        keys = _keys(commands.config_class(name)) if row.config or name == chosen else ""
        command = subparsers.add_parser(
            name, help=row.line, description=row.line[0].upper() + row.line[1:] + ".", formatter_class=_Wide,
            epilog=f"keys, defaults and meanings (* = must be set):\n{keys}\n\n{_named(name)}example: kaleidobert {name} {row.example}")
        folders = "folders of finished runs or above them, then keys"
        usual = "a configuration, as the path of a YAML file or by its name, then overrides such as train.batch_size=32"
        metavar = "RUN key=value" if row.takes_folders else "INDEX WORDS or PICTURE key=value" if row.takes_query else "CONFIG key=value"
        if row.leading:
            metavar = f"{' '.join(key.upper() for key in row.leading)} key=value"
            usual = f"{', '.join(row.leading)}: the values of these keys, or a configuration; then keys, as in the example"
        query = "an index, then words, a picture or both to search for, then keys such as top=10 or filter.category=tops"
        meaning = folders if row.takes_folders else query if row.takes_query else usual
        command.add_argument("words", nargs="*", metavar=metavar, help=meaning)
        command.add_argument("--dry-run", action="store_true", help="resolve the configuration, check inputs, print sizes; do nothing")
    command = subparsers.add_parser("quickstart", help=QUICKSTART, description=QUICKSTART[0].upper() + QUICKSTART[1:] + ".",
                                  epilog=f"results: {quickstart.FOLDER}, with --reduced {quickstart.REDUCED_FOLDER}, below\n"
                                  f"{loader.packaged_start()}. The same command continues where it stopped.", formatter_class=_Wide)
    command.add_argument("--reduced", action="store_true",
                         help="fewer products and steps, a smaller network: shows that all of it runs, learns little")
    command.add_argument("--dry-run", action="store_true", help="print the commands; do nothing")
    return main_parser


def _named(command: str) -> str:
    """Returns a paragraph with the names of the packaged configurations of a command; "" where there are none."""
    names = loader.packaged_of_command(command)
    return textwrap.fill(f"configurations by name: {', '.join(names)}", 120, subsequent_indent="  ") + "\n\n" if names else ""


def _names_no_configuration(word: str) -> bool:
    """Whether a first word is a table or a folder, not key=value and not a configuration."""
    return ("=" not in word or Path(word).exists()) and Path(word).suffix not in (".yaml", ".yml")


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; returns the exit status, see STATUS."""
    first, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if rest and f"{first} {rest[0]}" in commands.every():  # a command of two words
        first = f"{first} {rest.pop(0)}"
    options = parser(first).parse_args([first, *sorted(rest, key=lambda word: not word.startswith("-"))])  # flags may stand anywhere
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's start-up chatter hides our own lines
    if options.command == "quickstart":
        return (quickstart.dry_run if options.dry_run else quickstart.run)(options.reduced)
    command = commands.every()[options.command]
    try:
        path, words = configuration(options.command, options.words)
        config = commands.load(options.command, path, words)
        if command.needs_backend:
            backends.check()  # before anything is fetched
        if options.dry_run:
            print(configs.dump(config))
        config = fetch.localize(config, options.dry_run)
        if config is None:
            return 0
        app = _quietly(lambda: _load(options.command))
        with io.lock_scope():  # what the command takes it gives back here
            (app.dry_run if options.dry_run else app.run)(config)
        return 0
    except UserError as error:
        print(f"kaleidobert {options.command}: {error}", file=sys.stderr)
        return error.status
    except OSError as error:
        print(f"kaleidobert {options.command}: {_refusal(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nkaleidobert {options.command}: interrupted; the same command continues where it stopped", file=sys.stderr)
        return 130


def configuration(name: str, words: list[str]) -> tuple[str | None, list[str]]:
    """Returns (a configuration as it is named, or None; overrides) of the words behind a command. Raises UserError where they do not fit
    it."""
    command, path, others = commands.every()[name], words[0] if words else None, words[1:]
    if command.takes_folders:
        return None, _folders(words)
    if command.takes_query:
        return _query(words, {field.name for field in dataclasses.fields(commands.config_class(name))})
    if command.leading and path is not None and _names_no_configuration(path):
        named = dict(zip(command.leading, itertools.takewhile(_names_no_configuration, words)))
        path, others = None, [f"{key}={json.dumps(word, ensure_ascii=False)}" for key, word in named.items()] + words[len(named) :]
    elif path is not None and "=" in path:  # no file, only words
        path, others = None, words
    if "source.table" in command.leading and path is None and not any(word.startswith("source") for word in others):
        raise UserError("no table is named", expected=f"kaleidobert {name} {command.example}")
    return path, others


def _load(name: str) -> types.ModuleType:
    """Returns the module of a command; loads Keras where the command computes with networks."""
    if commands.every()[name].needs_backend:
        backends.load()
    return commands.module(name)


def _refusal(error: OSError) -> UserError | OSError:
    """Returns the message of an error of the system, such as a full disk, which is no fault of the program; raises other errors."""
    where = str(error.filename or "the disk")
    if error.errno in io.FULL:
        return io.explain(error, where)
    if error.errno in io.REFUSED:
        return UserError(f"the system refuses it ({error.strerror})", where, fix="look at the rights of the file and at its disk")
    raise error


def _folders(words: list[str]) -> list[str]:
    """Returns the words with their folders as one override; a folder's name may hold "=", as lr=1e-4 does."""
    folders = [word for word in words if "=" not in word or os.path.isdir(word)]
    runs = [f"runs={json.dumps(folders, ensure_ascii=False)}"] if folders else []
    return runs + [word for word in words if word not in folders]


def _query(words: list[str], keys: Collection[str]) -> tuple[str | None, list[str]]:
    """Returns (configuration or None, overrides) of an index or a configuration, then words and at most one picture in any order.

    A picture is what exists as a file, is at an address or ends as pictures do; the rest are words, which may hold "=" where no key of
    the command stands before it.
    """
    own = [word for word in words if "=" in word and word.partition("=")[0].partition(".")[0] in keys]
    named = [word for word in words if word not in own]
    path = named.pop(0) if named and Path(named[0]).suffix in (".yaml", ".yml") else None
    made = {"index": named.pop(0)} if named and path is None and not any(word.startswith("index=") for word in own) else {}
    pictures = [word for word in named if Path(word).suffix.lower() in PICTURES or os.path.isfile(word)]
    if len(pictures) > 1:
        raise UserError(f"{len(pictures)} pictures are named: {', '.join(pictures)}", "command line", "at most one")
    texts = [word for word in named if word not in pictures]
    made |= {"picture": pictures[0]} if pictures else {}
    made |= {"text": " ".join(texts)} if texts else {}
    return path, [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in made.items()] + own


def _quietly(load):
    """Calls load() with standard error held back: importing TensorFlow writes warnings there that no setting silences.

    What was held back is shown after all where load() fails, but for a UserError, whose message says what there is to say.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            return load()
        except UserError:
            raise
        except BaseException:
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _keys(section_class: Any, prefix: str = "  ", section: Any = None, only: Collection[str] = ()) -> str:
    """Lists keys with defaults and meanings; section: an instance whose values are the defaults; only: names of keys, () = all."""
    lines = []
    hints = typing.get_type_hints(section_class)
    for field in dataclasses.fields(section_class):
        if only and field.name not in only:
            continue
        hint = hints[field.name]
        default = getattr(section, field.name) if section is not None else field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        inner = _section(hint)
        if inner is not None:
            lines += [_line(f"{prefix}{field.name}:", field.metadata[MEANING]),
                      _keys(inner, prefix + "  ", default if dataclasses.is_dataclass(default) else None)]
            lines += [_own_keys(inner, row, prefix + "  ") for row in commands.TABLES.get(field.metadata.get(TABLE, ""), {}).values()]
            continue
        value = "*" if default is dataclasses.MISSING else configs.to_dict(default)
        value = ("the five kaleido levels" if value else "[]") if field.name == "levels" else "" if value in (None, "", [], {}) else value
        value = str(value).lower() if isinstance(value, bool) else value
        choices = [*(choice for choice in typing.get_args(hint) if choice and typing.get_origin(hint) is typing.Literal),
                   *commands.TABLES.get(field.metadata.get(TABLE, ""), ())]
        meaning = f"{field.metadata[MEANING]} [{'|'.join(choices)}]" if choices else field.metadata[MEANING]
        lines.append(_line(f"{prefix}{field.name}: {value}".rstrip(), meaning))
    return "\n".join(lines)


def _own_keys(base: type, row: type, prefix: str) -> str:
    """Lists what a section out of a table has beside the keys of its base."""
    shared, kind = [field.name for field in dataclasses.fields(base)], row.__dataclass_fields__["kind"]  # type: ignore[attr-defined]
    head = _line(f"{prefix}kind: {kind.default}", kind.metadata[MEANING])
    own = [field.name for field in dataclasses.fields(row) if field.name not in shared]
    lines = _keys(row, prefix + "  ", only=own) if own else ""
    return f"{head}\n{lines}".rstrip()


def _section(hint: Any) -> Any:
    """Returns the section that a key holds, which may be one that need not be set; None where the key holds a value."""
    return next((option for option in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(option)
                 and typing.get_origin(hint) is not tuple), None)


def _line(key: str, meaning: str) -> str:
    """Returns a key and its default, then the meaning in a column of its own, on as many lines as it needs."""
    head = key.ljust(COLUMN - 2) if len(key) <= COLUMN - 2 else f"{key}\n{' ' * (COLUMN - 2)}"
    return f"{head}  " + f"\n{' ' * COLUMN}".join(textwrap.wrap(meaning, WIDTH - COLUMN, break_on_hyphens=False))


if __name__ == "__main__":
    sys.exit(main())
