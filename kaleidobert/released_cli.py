"""The flags of the released run scripts as dotted words; scripts/run_*.sh call this module.

    python -m kaleidobert.released_cli i2t configs --predict_input_fp=list.list_csv --predict_checkpoint_path=ckpt-7 --dry-run

Each translation is printed. Our own words (key=value, CONFIG.yaml, --dry-run, --help) pass through; later words win. Without a
CONFIG.yaml, configs/released is used where flags are given, or where the release's files exist in dataset/ and the bank of the other
configuration does not.
"""

import glob
import sys
from collections.abc import Sequence
from pathlib import Path

from kaleidobert import cli
from kaleidobert.app_zoo import commands
from kaleidobert.errors import UserError

COMMANDS = {"pretrain": "pretrain", "cat": "classify", "subcat": "classify", "i2t": "retrieve", "t2i": "retrieve"}
OURS = ("--dry-run", "--help", "-h")
WORDS = {"train_input_fp": "data.files", "predict_input_fp": "data.files", "eval_input_fp": "data.val_files", "input_schema": "data.schema",
         "num_epochs": "train.epochs", "learning_rate": "train.learning_rate", "predict_batch_size": "predict_batch_size",
         "predict_checkpoint_path": "init", "hidden_size": "model.hidden_size", "intermediate_size": "model.intermediate_size",
         "num_hidden_layers": "model.num_layers", "num_attention_heads": "model.num_heads"}
VALUES = {"type": {"img2txt": "direction=i2t", "txt2img": "direction=t2i"},
          "task": {"catepred": "label=category", "subcatepred": "label=subcategory"}}
MODES = {"pretrain": ("train_and_evaluate", "train"), "classify": ("train_and_evaluate", "train"), "retrieve": ("predict",)}
IGNORED = {
    "input_sequence_length": "the length of input_ids in data.schema counts",
    "image_feature_size": "the lengths in data.schema count",
    "workerGPU": "train.devices=0 uses all GPUs that CUDA_VISIBLE_DEVICES shows; multiplies --train_batch_size",
    "workerCount": "start the command on every machine, see docs/several-machines.md; multiplies --train_batch_size",
    **dict.fromkeys(("worker_hosts", "task_index", "job_name"),
                    "srun, torchrun or variables connect the processes: see docs/several-machines.md")}
PATHS = ("train_input_fp", "eval_input_fp", "predict_input_fp", "predict_checkpoint_path", "pretrain_model_name_or_path")  # inputs
# lists that the released scripts make of all files of a split: where there is none, configs/released names the same files by a pattern
LISTS = {"pretrain": {"train_input_fp": "train", "eval_input_fp": "dev"}, "i2t": {"predict_input_fp": "eval_img2txt"},
         "t2i": {"predict_input_fp": "eval_txt2img"}, "cat": {"train_input_fp": "train_catepred", "eval_input_fp": "eval_catepred"},
         "subcat": {"train_input_fp": "train_subcatepred", "eval_input_fp": "eval_subcatepred"}}
FETCHED = {"pretrain": "dataset/get_pretrain_data.sh"} | {
    name: f"dataset/get_{task}_data.sh and checkpoint/get_checkpoint.sh"
    for name, task in (("cat", "finetune"), ("subcat", "finetune"), ("i2t", "retrieve"), ("t2i", "retrieve"))}
SPECIAL = ("mode", "train_batch_size", "pretrain_model_name_or_path", "model_dir", "output_dir")
TRAINING = {"train_input_fp", "eval_input_fp", "num_epochs", "learning_rate", "train_batch_size", "model_dir"}
PREDICTION = {"predict_input_fp", "predict_batch_size", "type"}
KNOWN = sorted({*WORDS, *VALUES, *IGNORED, *SPECIAL})


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs NAME CONFIGS [CONFIG.yaml] [key=value ...] [--flag=value | --flag value ...]; returns the exit status of the command."""
    name, folder, *rest = sys.argv[1:] if arguments is None else arguments
    try:
        flags, others = split(rest)
        config, why = others[0] if others else "", ""
        if config.endswith((".yaml", ".yml")):
            del others[0]
        else:
            config, why = default(name, Path(folder), flags, others)
        words, lines = translate(name, flags, Path(folder).parent, bool(why))
    except UserError as error:
        print(f"kaleidobert {COMMANDS[name]}: {error}", file=sys.stderr)
        return 2
    for line in [*lines, f"{why} -> {config}"] if why else lines:
        print(line)
    return cli.main([COMMANDS[name], config, *words, *others])


def default(name: str, folder: Path, flags: dict[str, str], others: Sequence[str]) -> tuple[str, str]:
    """Returns (the configuration of a script without CONFIG.yaml, the reason where it is the one for released files, else "").

    folder: configs. UserError where one of the two cannot be read, and where neither the files nor the bank exists.
    """
    own, released = folder / f"{name}.yaml", folder / "released" / f"{name}.yaml"
    if flags:
        return str(released), "no configuration named"
    if own.is_file() and released.is_file() and not any(word.startswith("data.") for word in others):
        bank, files = (getattr(commands.load(COMMANDS[name], path).data, key)
                       for path, key in ((own, "bank"), (released, "files")))
        if bank is not None and not bank.exists():
            if glob.glob(str(files)):
                return str(released), f"no configuration named, {files} is there and {bank} is not"
            if not {"--help", "-h"} & set(others):
                raise UserError(f"neither the release's files ({files}) nor a bank ({bank}) are there", f"run_{name}.sh",
                                fix=f"fetch the release's files with {FETCHED[name]}, or make a bank with scripts/run_records.sh")
    return str(own), ""


def split(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Splits into ({flag: value}, all other words in order). UserError for a flag that is unknown, has no value or is given twice."""
    flags: dict[str, str] = {}
    others: list[str] = []
    waiting = list(arguments)
    while waiting:
        word = waiting.pop(0)
        if not word.startswith("--") or word in OURS:
            others.append(word)
            continue
        flag, sign, value = word[2:].partition("=")
        if flag not in KNOWN:
            raise UserError(f"unknown flag --{flag}", "command line", f"one of {', '.join(f'--{known}' for known in KNOWN)}; or our own "
                            f"key=value words, and {', '.join(OURS)}")
        if not sign:
            if not waiting or waiting[0].startswith("--"):
                raise UserError(f"--{flag} has no value", "command line", f"--{flag}=VALUE or --{flag} VALUE")
            value = waiting.pop(0)
        if flags.setdefault(flag, value) != value:
            raise UserError(f"--{flag} is given twice, as {flags[flag]!r} and {value!r}", "command line", "each flag once")
    return flags, others


def translate(name: str, flags: dict[str, str], root: Path = Path(), patterns: bool = False) -> tuple[list[str], list[str]]:
    """Returns (dotted words, a line for each flag with its translation). UserError for a value or flag that this script does not take.

    root: the repository, which relative paths start from that are not below the current folder. patterns: the configuration names
    the release's files, so that the lists that the released scripts make of them may be missing.
    """
    command, words, lines = COMMANDS[name], list[str](), list[str]()
    paths = {flag: _located(value, root) if flag in PATHS else value for flag, value in flags.items()}
    unmade = {flag for flag, made in LISTS[name].items() if Path(paths.get(flag, "")).name == f"{made}_list.list_csv"
              and patterns and not Path(paths[flag]).exists()}

    def to(flag: str, *made: str, why: str = "") -> None:
        words.extend(made)
        lines.append(f"--{flag}={shorten(flags[flag])} -> {' '.join(map(shorten, made))}" + (f" ({why})" if why else ""))

    for flag, value in flags.items():
        if flag in (PREDICTION if command != "retrieve" else TRAINING) or flag == "task" and command != "classify":
            raise UserError(f"--{flag} does not belong to this script", "command line", f"a flag of `{command}`",
                            "use run_i2t.sh or run_t2i.sh to retrieve, run_pretrain.sh, run_cat.sh or run_subcat.sh to train")
        if flag in VALUES:
            if value not in VALUES[flag]:
                raise UserError(f"--{flag} is {value!r}", "command line", " or ".join(VALUES[flag]))
            to(flag, VALUES[flag][value])
        elif flag == "mode":
            if value not in MODES[command]:
                raise UserError(f"--mode is {value!r}", "command line", f"{' or '.join(MODES[command])} in this script")
            lines.append(f"--mode={value} -> what `kaleidobert {command}` does anyway")
        elif flag == "predict_checkpoint_path" and command == "classify":
            if not _is_path(flags.get("pretrain_model_name_or_path", "")):
                to(flag, f"init={paths[flag]}", why="the release passed it and started from its model zoo")
            else:
                lines.append(f"--{flag}={value} -> nothing (as in the release: training starts from --pretrain_model_name_or_path)")
        elif flag in unmade:
            lines.append(f"--{flag}={value} -> nothing (there is no such list; the configuration names the files that it would hold)")
        elif flag in WORDS:
            to(flag, f"{WORDS[flag]}={paths[flag]}", *(["data.bank="] if WORDS[flag] == "data.files" else []))
        elif flag == "train_batch_size":
            size, why = _global_batch(flags)
            to(flag, f"train.batch_size={size}", why=why)
        elif flag == "pretrain_model_name_or_path":
            if _is_path(value) and command != "retrieve":
                to(flag, f"init={paths[flag]}")
            else:
                lines.append(f"--{flag}={value} -> nothing (" + ("--predict_checkpoint_path counts" if command == "retrieve" else
                             "no model is fetched by its name: checkpoint/get_checkpoint.sh, then init=") + ")")
        elif flag in ("model_dir", "output_dir"):
            if flag != ("output_dir" if command == "retrieve" else "model_dir"):
                lines.append(f"--{flag}={value} -> nothing (all results lie in run=)")
            elif patterns and any(Path(value).glob("*.index")):
                lines.append(f"--{flag}={value} -> nothing (another checkpoint lies there: run= of the configuration counts)")
            else:
                to(flag, f"run={value}")
        else:
            lines.append(f"--{flag}={value} -> nothing ({IGNORED[flag]})")
    return words, lines


def shorten(text: str) -> str:
    """Returns a text unchanged, or its two ends where it is long, such as a schema."""
    return text if len(text) <= 100 else f"{text[:60]}...{text[-20:]}"


def _global_batch(flags: dict[str, str]) -> tuple[int, str]:
    """Returns (examples per step, reason): the release counts them per GPU."""
    counts = []
    for flag in ("train_batch_size", "workerGPU", "workerCount"):
        value = flags.get(flag, "1")
        if not value.isdecimal() or not int(value):
            raise UserError(f"--{flag} is {value!r}", "command line", "a whole number above 0")
        counts.append(int(value))
    batch, gpus, workers = counts
    return batch * gpus * workers, f"{batch} per GPU there, {gpus * workers} GPUs" if gpus * workers > 1 else ""


def _located(value: str, root: Path) -> str:
    """Returns a relative path that exists in the repository but not below the current folder as a path from the current folder."""
    def exists(path: Path) -> bool:
        return path.exists() or path.with_name(f"{path.name}.index").exists()

    if "://" in value or not value or exists(Path(value)) or not exists(root / value):
        return value
    return str(root / value)


def _is_path(value: str) -> bool:
    """Whether a value names files, and not a model of the release's model zoo."""
    return "/" in value or Path(f"{value}.index").is_file() or Path(value).is_file()


if __name__ == "__main__":
    sys.exit(main())
