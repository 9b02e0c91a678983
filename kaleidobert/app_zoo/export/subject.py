"""What is exported: a trained model with what it knows of pictures and texts; a checkpoint of no bank knows features alone."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kaleidobert import io
from kaleidobert.app_zoo import models, trained_runs
from kaleidobert.configs.data import Foreground
from kaleidobert.configs.export import ExportConfig
from kaleidobert.datasets.bank.bank import Bank
from kaleidobert.datasets.bank.queries import QueryReader
from kaleidobert.errors import UserError
from kaleidobert.model_zoo import checkpoints, foreground_net
from kaleidobert.model_zoo.kaleidobert import TaskModel, rebuild
from kaleidobert.preprocessors import encoders
from kaleidobert.preprocessors.tokenization import WordPiece
from kaleidobert.released import checkpoints as released
from kaleidobert.released import tf_checkpoint

ENCODERS = ("pixels", "efficientnet_lite0")  # those that exported/modeling_kaleido_bert.py has
FEATURES_ALONE = "set pictures=false to export the model alone, which takes features"


@dataclass(frozen=True)
class Subject:
    """checkpoint: the weights; meta: of them. model: with its weights, in float32. config: of the run, and bank: as the model sees it, None
    of a checkpoint that was trained on none. reader: of raw pictures, None where they are not read. tokenizer: None where no vocabulary is
    known. results: of the run, {} where they are not known."""

    checkpoint: Path
    meta: Mapping[str, Any]
    model: TaskModel
    config: Any
    bank: Bank | None
    reader: QueryReader | None
    tokenizer: WordPiece | None
    results: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The name of the run's folder."""
        return self.checkpoint.parent.name

    @property
    def storage(self) -> str:
        """How the bank keeps features."""
        return self.bank.storage if self.bank is not None else "float16"


def read(config: ExportConfig) -> Subject:
    """Opens what the configuration names.

    Raises UserError where it is no one model that was trained, and where it has what no export can hold: a SentencePiece vocabulary, or, of
    pictures, another patch encoder than ``ENCODERS``, one of mixed precision, or patches of two sizes.
    """
    is_above = config.run.is_dir() and not (config.run / "best.npz").is_file() and not any(config.run.glob("*.index"))
    path = config.run if is_above else tf_checkpoint.prefix_of(config.run, "run")
    if tf_checkpoint.exists(path) or path.suffix == ".npz" and not _knows_bank(path):
        return _without_bank(config, path)
    runs = trained_runs.find([config.run])
    if len(runs) > 1:
        names = ", ".join(run.folder.name for run in runs)
        raise UserError(f"the folder holds {len(runs)} runs: {names}", str(config.run), "one", f"name it: {runs[0].folder}")
    run = runs[0]
    _check_bank(config.bank or run.bank)
    whole = trained_runs.shared_bank([run], config.bank)
    bank = models.bank_of(run.checkpoint, whole)
    tokenizer = whole.tokenizer()
    if not isinstance(tokenizer, WordPiece):
        raise UserError("the bank's texts are pieces of a SentencePiece model", str(whole.folder), "a WordPiece vocabulary (vocab.txt)",
                        "make the bank with text.tokenizer=wordpiece and train on that")
    reader = _reader(bank) if config.pictures else None
    results = io.read_json(run.folder / "results.json") if (run.folder / "results.json").is_file() else {}
    return Subject(run.checkpoint, run.meta, _restored(run.checkpoint, run.meta), run.config, bank, reader, tokenizer, results)


def foreground(reader: QueryReader) -> Foreground:
    """Returns how the foreground of raw pictures is found."""
    return reader.config.foreground


def _knows_bank(path: Path) -> bool:
    """Whether a checkpoint of ours lies in the folder of a run that was trained on a bank."""
    encoder = checkpoints.load_meta(path).get("encoder", models.ENCODER)
    return encoder != models.ENCODER and path.with_name("config.yaml").is_file()


def _check_bank(folder: Path) -> None:
    if not (folder / "index.json").is_file():
        raise UserError("the bank of the run is not there", str(folder), "a folder made by `kaleidobert records`", "name it: bank=FOLDER")


def _without_bank(config: ExportConfig, path: Path) -> Subject:
    """Reads a checkpoint that names no bank: a released one, one made of it, or one that was trained on released files."""
    if config.bank is not None:
        raise UserError("a bank is named, and the checkpoint was trained on none", str(path), "no bank", "leave bank out")
    meta = released.load_meta(path)
    if tf_checkpoint.exists(path):
        model_file = released.find_beside(path, ["config.json"])
        assert model_file is not None  # load_meta refuses a checkpoint without
        model = released.import_checkpoint(path, model_file, precision="float32")
    else:
        model = _restored(path, meta)
    vocabulary = config.vocabulary or released.find_beside(path, ["vocab.txt"])
    tokenizer = None
    if vocabulary is not None:
        released.vocabulary_sha256(vocabulary, model.backbone.vocabulary_size)  # refuses one of another size
        tokenizer = WordPiece.read(vocabulary)
    return Subject(path, meta, model, None, None, None, tokenizer, {})


def _restored(path: Path, meta: Mapping[str, Any]) -> TaskModel:
    model = rebuild(meta, "float32")
    if not isinstance(model, TaskModel):
        raise UserError(f"the checkpoint holds a {meta.get('kind')!r}", str(path), "a model with a head")
    checkpoints.restore(path, model)
    return model


def _reader(bank: Bank) -> QueryReader:
    reader = QueryReader(bank, encoders.build, foreground_net.build)
    encoder, where = reader.config.encoder, str(bank.folder)
    if encoder.name not in ENCODERS:
        raise UserError(f"the bank's patch encoder is {encoder.name}", where, " or ".join(ENCODERS), FEATURES_ALONE)
    if encoder.small_size or encoders.resolved(encoder).precision != "float32":
        raise UserError(f"encoder.small_size is {encoder.small_size}, encoder.precision is {encoder.precision}", where,
                        "patches of one size, encoded in float32", FEATURES_ALONE)
    return reader


def with_bank(subject: Subject) -> Any:
    """Returns the configuration of the run, on the bank where it lies now."""
    assert subject.bank is not None
    return replace(subject.config, data=replace(subject.config.data, bank=subject.bank.folder))
