"""The console command ``kaleidobert``: one subcommand per module of app_zoo, each a configuration and dotted words."""

import argparse
import dataclasses
import importlib
import json
import os
import sys
import tempfile
import textwrap
import types
import typing
from typing import Any

from kaleidobert import __version__, configs, io
from kaleidobert.app_zoo import backends, inputs, quickstart
from kaleidobert.configs import packaged
from kaleidobert.configs.section import MEANING
from kaleidobert.errors import UserError

# name: (configuration class, one line)
COMMANDS = {
    "fetch": (configs.FetchConfig, "fetch data and checkpoints: resumed, checked, from the web, S3 or a mirror"),
    "convert": (configs.ConvertConfig, "TensorFlow 1 checkpoints, released or BERT, to ours, and ours to the released format"),
    "synthesize": (configs.SynthesizeConfig, "draw a catalogue of garments, shoes and bags with masks and part boxes"),
    "records": (configs.RecordsConfig, "make the feature bank of a catalogue: foreground, patches, features, tokens"),
    "train-foreground": (configs.TrainForegroundConfig, "train the network that finds the foreground, on drawn scenes alone"),
    "align": (configs.AlignConfig, "train a captioner and link words to patches by its attention"),
    "pretrain": (configs.PretrainConfig, "pre-train on a bank with the seven tasks"),
    "classify": (configs.ClassifyConfig, "train and evaluate a classifier of one label column"),
    "retrieve": (configs.RetrieveConfig, "rank candidate texts for pictures (i2t) or pictures for texts (t2i)"),
    "caption": (configs.CaptionConfig, "train and write captions with the encoder: masked, refined or word by word"),
    "evaluate": (configs.EvaluateConfig, "count scores, classes or captions of any model: intervals, baselines, paired tests"),
    "inspect": (configs.InspectConfig, "draw pages: patches, tokens, what was spoiled, predictions beside the truth"),
}
# the same for commands whose words without "=" are not a YAML file but folders: the values of their key ``runs``
FOLDER_COMMANDS = {
    "tables": (configs.TablesConfig, "put the results of runs into the paper's tables, its rows beside ours"),
}
QUICKSTART = "run every command on a drawn catalogue of toy size, one after another, and show a table of the results"
WITHOUT_BACKEND = ("fetch", "synthesize", "evaluate", "tables")  # commands that load no network library


STATUS = ("exit status: 0 done; 2 refused, with one message on standard error; 3 done, but a large share of the input was left out\n"
          "(records: max_skipped); 130 interrupted")


WIDTH, COLUMN = 130, 40  # of --help: characters of a line, and where the meanings start


class _Wide(argparse.RawDescriptionHelpFormatter):
    """Keeps the lists of keys as they are and gives the names of the commands room."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=30, width=120)


def parser() -> argparse.ArgumentParser:
    """The command line; every subcommand lists its keys and defaults in --help."""
    main_parser = argparse.ArgumentParser("kaleidobert", description="Vision-language pre-training for fashion.", formatter_class=_Wide,
                                          epilog=STATUS)
    main_parser.add_argument("--version", action="version", version=f"kaleidobert {__version__}")
    commands = main_parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (kind, line) in COMMANDS.items():
        command = commands.add_parser(
            name, help=line, description=line[0].upper() + line[1:] + ".", formatter_class=_Wide,
            epilog=f"keys, defaults and meanings (* = must be set):\n{_keys(kind)}\n\n{_named(name)}\n\nexample: kaleidobert {name} "
                   f"{EXAMPLES.get(name, name)} {EXAMPLE_WORDS.get(name, '')}".rstrip())
        command.add_argument("words", nargs="*", metavar="CONFIG key=value",
                             help="a configuration, as the path of a YAML file or by its name, then overrides such as train.batch_size=32")
        _add_dry_run(command)
    for name, (kind, line) in FOLDER_COMMANDS.items():
        command = commands.add_parser(name, help=line, description=line[0].upper() + line[1:] + ".", formatter_class=_Wide,
                                      epilog=f"keys, defaults and meanings:\n{_keys(kind)}\n\n"
                                         f"example: kaleidobert {name} runs/quickstart out=runs")
        command.add_argument("words", nargs="*", metavar="RUN key=value", help="folders of finished runs or above them, then keys")
        _add_dry_run(command)
    command = commands.add_parser("quickstart", help=QUICKSTART, description=QUICKSTART[0].upper() + QUICKSTART[1:] + ".",
                                  epilog=f"results: {quickstart.FOLDER}, with --reduced {quickstart.REDUCED_FOLDER}, below\n"
                                  f"{packaged.start()}. The same command goes on where it stopped.", formatter_class=_Wide)
    command.add_argument("--reduced", action="store_true", help="fewer products and steps: shows that all of it runs, learns little")
    command.add_argument("--dry-run", action="store_true", help="print the commands; do nothing")
    return main_parser


def _named(command: str) -> str:
    """Which files that come with the package are configurations of a command, by their names."""
    return textwrap.fill(f"configurations by name: {', '.join(packaged.of_command(command))}", 120, subsequent_indent="  ")


def _add_dry_run(command: argparse.ArgumentParser) -> None:
    command.add_argument("--dry-run", action="store_true", help="resolve the configuration, check inputs, print sizes; do nothing")


EXAMPLES = {"synthesize": "quickstart/synthesize", "train-foreground": "train_foreground", "classify": "cat", "retrieve": "i2t",
            "inspect": "quickstart/inspect"}
EXAMPLE_WORDS = {
    "fetch": "only=pretrain",
    "synthesize": "num_products=600",
    "train-foreground": "install=true",
    "align": "mode=teacher_forced",
    "pretrain": "train.batch_size=32",
    "classify": "modality=image",
    "caption": "mode=causal",
    "evaluate": "scores=my/scores.csv run=runs/mine",
    "convert": "source=my/checkpoint/model.ckpt-0 target=my/model.npz",
}


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit status, see STATUS."""
    first, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    options = parser().parse_args([first, *sorted(rest, key=lambda word: not word.startswith("-"))])  # flags may stand anywhere
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's start-up chatter hides our own lines
    if options.command == "quickstart":
        return (quickstart.dry_run if options.dry_run else quickstart.run)(options.reduced)
    path, *words = options.words or [None]
    if options.command in FOLDER_COMMANDS:
        path, words = None, _folders(options.words)
    elif path is not None and "=" in path:  # no file, only words
        path, words = None, [path, *words]
    try:
        config: Any = configs.load((COMMANDS | FOLDER_COMMANDS)[options.command][0], path, words)
        if options.command not in WITHOUT_BACKEND:
            backends.check()  # before anything is fetched
        if options.dry_run:
            print(configs.dump(config))
        config = inputs.local(config, options.dry_run)
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


def _load(command: str) -> types.ModuleType:
    """The module of a command, and Keras where it computes with networks."""
    if command not in WITHOUT_BACKEND:
        backends.load()
    name = command.replace("-", "_")
    module = importlib.import_module(f"kaleidobert.app_zoo.{name}")
    return importlib.import_module(f"{module.__name__}.{name}") if hasattr(module, "__path__") else module  # a folder of a large command


def _refusal(error: OSError) -> UserError | OSError:
    """What the system refuses, wherever it does, is no fault of the program; other errors are raised."""
    where = str(error.filename or "the disk")
    if error.errno in io.FULL:
        return io.explain(error, where)
    if error.errno in io.REFUSED:
        return UserError(f"the system refuses it ({error.strerror})", where, fix="look at the rights of the file and at its disk")
    raise error


def _folders(words: list[str]) -> list[str]:
    """The words with their folders as one override; a folder's name may hold "=", as lr=1e-4 does."""
    folders = [word for word in words if "=" not in word or os.path.isdir(word)]
    runs = [f"runs={json.dumps(folders, ensure_ascii=False)}"] if folders else []
    return runs + [word for word in words if word not in folders]


def _quietly(load):
    """Call load() with standard error held back: importing TensorFlow writes warnings there that no setting silences.

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


def _keys(kind: Any, prefix: str = "  ", section: Any = None) -> str:
    """Every key with its default and meaning; section: an instance whose values are the defaults."""
    lines = []
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        default = getattr(section, field.name) if section is not None else field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        inner = _section(hint)
        if inner is not None:
            lines += [_line(f"{prefix}{field.name}:", field.metadata[MEANING]),
                      _keys(inner, prefix + "  ", default if dataclasses.is_dataclass(default) else None)]
            continue
        value = "*" if default is dataclasses.MISSING else configs.to_dict(default)
        value = ("the five kaleido levels" if value else "[]") if field.name == "levels" else "" if value in (None, "", [], {}) else value
        value = str(value).lower() if isinstance(value, bool) else value
        choices = [choice for choice in typing.get_args(hint) if choice] if typing.get_origin(hint) is typing.Literal else []
        meaning = f"{field.metadata[MEANING]} [{'|'.join(choices)}]" if choices else field.metadata[MEANING]
        lines.append(_line(f"{prefix}{field.name}: {value}".rstrip(), meaning))
    return "\n".join(lines)


def _section(hint: Any) -> Any:
    """The section that a key holds, which may be one that need not be set; None where the key holds a value."""
    return next((part for part in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(part)
                 and typing.get_origin(hint) is not tuple), None)


def _line(key: str, meaning: str) -> str:
    """A key and its default, then the meaning in a column of its own, on as many lines as it needs."""
    head = key.ljust(COLUMN - 2) if len(key) <= COLUMN - 2 else f"{key}\n{' ' * (COLUMN - 2)}"
    return f"{head}  " + f"\n{' ' * COLUMN}".join(textwrap.wrap(meaning, WIDTH - COLUMN, break_on_hyphens=False))


if __name__ == "__main__":
    sys.exit(main())
