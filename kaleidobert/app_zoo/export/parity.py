"""Whether an export answers as the model does: both are asked about rows of the bank, as features and as raw pictures.

The export is asked in a process of its own, by torch and transformers alone (kaleidobert/exported/answers.py).
"""

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from kaleidobert import levels as kaleido
from kaleidobert.app_zoo.caption import caption, writing
from kaleidobert.app_zoo.export.subject import Subject, with_bank
from kaleidobert.datasets.bank.queries import QueryReader
from kaleidobert.datasets.products import read_image
from kaleidobert.datasets.sampling.finetuning import modality_inputs
from kaleidobert.engines import steps
from kaleidobert.errors import UserError
from kaleidobert.model_zoo.caption_search import Written
from kaleidobert.model_zoo.kaleidobert import Captioner, Classifier, Pretrainer
from kaleidobert.preprocessors import features
from kaleidobert.preprocessors.features import MAX_BYTE
from kaleidobert.preprocessors.tokenization import Spacing

TOLERANCE = 2e-5  # largest difference of logits
ROUNDING = 1e-5  # of a patch encoder in float32: the last bit of a small feature in float16 is less
NEEDS = ("torch", "transformers")
EXTRA = "pip install 'kaleidobert[export]'"
THEIRS = {"mlm": "mlm_logits", "itm": "logits", "own": "own_logits", "label": "logits", "pieces": "logits", "length": "length_logits"}
INPUTS = {"token_ids": "input_ids", "segment_ids": "token_type_ids", "token_mask": "attention_mask"}
BY_POSITION = ("mlm", "pieces")  # answers at positions of a text, whose number depends on its padding

Arrays = dict[str, np.ndarray]


def lacking(python: Path | None) -> str:
    """Returns what an interpreter lacks to check an export; "" where it lacks nothing. None: this one."""
    if python is not None:
        return "" if python.is_file() else f"there is no {python}"
    missing = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    return f"{' and '.join(missing)} {'are' if len(missing) > 1 else 'is'} not installed: {EXTRA}" if missing else ""


def check(folder: Path, subject: Subject, rows: int, python: Path | None) -> list[str]:
    """Returns lines about how far the export in a folder and the model differ on ``rows`` of the bank, or on random features without one.

    Raises UserError where logits differ by more than TOLERANCE, or captions or classes do, and where the folder cannot be loaded.
    """
    bank, reader = subject.bank, subject.reader
    chosen = np.unique(np.linspace(0, bank.size - 1, rows).round().astype(int)) if bank is not None else np.arange(rows)
    inputs = feature_inputs(subject, chosen)
    if reader is None:
        return compare(subject, "features", answers(subject, inputs), ask(folder, inputs, [], [], python))
    pictures, note = read_pictures(subject, chosen)
    texts = [str(text) for text in reader.bank.column("text")[chosen]] if reads_texts(subject) and not note else []
    answered = ask(folder, inputs, pictures, texts, python)
    lines = compare(subject, "features", answers(subject, inputs), answered)
    if pictures or texts:
        raw = raw_inputs(subject, pictures, texts)
        direct = forward(subject, raw)
        if pictures:
            lines.append(f"  pictures: features, {feature_gap(raw, answered, reader.bank.storage)}")
            raw["patch_features"] = answered["pictures/patch_features"]
        lines += compare(subject, "pictures", answers(subject, raw), answered, direct)
    return [*lines, *([note] if note else [])]


# --- What both are asked


def feature_inputs(subject: Subject, rows: np.ndarray) -> Arrays:
    """Returns model inputs of rows of the bank, as features; random ones without a bank."""
    if subject.bank is not None:
        modality = subject.config.modality if isinstance(subject.model, Classifier) else "both"
        return _with_positions(subject, features.to_floats(modality_inputs(subject.bank, rows, modality)))
    backbone, rng = subject.model.backbone, np.random.Generator(np.random.Philox(0))
    length = np.linspace(2, backbone.text_length, len(rows)).astype(int)[:, None]
    mask = np.arange(backbone.text_length) < length
    sizes = len(rows), backbone.num_patches
    return _with_positions(subject, {
        "token_ids": rng.integers(0, backbone.vocabulary_size, mask.shape, np.int32), "segment_ids": np.zeros(mask.shape, np.int32),
        "token_mask": mask, "patch_features": rng.random((*sizes, backbone.feature_size), np.float32),
        "patch_boxes": rng.random((*sizes, 5), np.float32)})


def _with_positions(subject: Subject, inputs: Arrays) -> Arrays:
    """Returns the inputs with the positions that pre-training and captions predict."""
    count, model = len(inputs["token_ids"]), subject.model
    positions = np.repeat(np.arange(min(3, inputs["token_ids"].shape[1]), dtype=np.int32)[None], count, 0)
    if isinstance(model, Pretrainer):
        slices = kaleido.patch_slices(model.backbone.levels)
        masked = [slices[level.name].start + np.arange(level.num_masked) for level in kaleido.feature_levels(model.backbone.levels)]
        inputs = {**inputs, "masked_tokens": positions}
        return inputs | ({"masked_patches": np.repeat(np.concatenate(masked)[None].astype(np.int32), count, 0)} if masked else {})
    return {**inputs, "predict_positions": positions} if isinstance(model, Captioner) else inputs


def reads_texts(subject: Subject) -> bool:
    """Whether the processor of the export is given texts."""
    return not isinstance(subject.model, Captioner) and not (isinstance(subject.model, Classifier) and subject.config is not None
                                                             and subject.config.modality == "image")


def read_pictures(subject: Subject, rows: np.ndarray) -> tuple[list[np.ndarray], str]:
    """Returns the pictures of rows, uint8[h, w, 3]; and why there are none, "" where there are or none are wanted."""
    if subject.reader is None or isinstance(subject.model, Classifier) and subject.config.modality == "text":
        return [], ""
    assert subject.bank is not None
    try:
        return [read_image(subject.bank.table[row]["image_path"]) for row in rows], ""
    except UserError as error:
        return [], f"raw pictures are not compared: {error}"


def raw_inputs(subject: Subject, pictures: Sequence[np.ndarray], texts: Sequence[str]) -> Arrays:
    """Returns model inputs of raw pictures and texts, as a bank reads them."""
    reader = subject.reader
    assert isinstance(reader, QueryReader)
    count, bank = max(len(pictures), len(texts)), reader.bank
    words = reader.texts(texts or [""] * count)
    if pictures:
        return _with_positions(subject, {**words, **reader.pictures(list(pictures))})
    shape = count, len(bank.boxes[0])
    return {**words, "patch_features": np.zeros((*shape, bank.feature_size), np.float16), "patch_boxes": np.zeros((*shape, 5), np.float32)}


# --- What each answers


def forward(subject: Subject, inputs: Arrays) -> Arrays:
    """Returns what the model answers, without the two sides of image-text contrast and the parts of head "wide", which exports keep to
    themselves."""
    return {name: np.asarray(array) for name, array in steps.forward(subject.model)(inputs).items()
            if name not in ("itc", "linear") and (name != "own" or not isinstance(subject.model, Classifier))}


def answers(subject: Subject, inputs: Arrays) -> dict[str, Any]:
    """Returns ``forward``, and of a captioner "captions", ids of pieces, and "texts"."""
    result: dict[str, Any] = forward(subject, inputs)
    if not isinstance(subject.model, Captioner) or subject.bank is None or subject.config.length == "oracle":
        return result
    config, bank = with_bank(subject), subject.bank
    data = caption.open_data(config)
    pictures = {name: inputs[name] for name in ("patch_features", "patch_boxes")}
    written: list[Written] = writing.Writer(config, subject.model, bank, data.train)(pictures)
    return result | {"captions": [one.pieces for one in written],
                     "texts": writing.detokenize(bank.tokenizer(), Spacing(data.train_texts), written)}


def ask(folder: Path, inputs: Arrays, pictures: Sequence[np.ndarray], texts: Sequence[str], python: Path | None) -> Arrays:
    """Returns what the export answers. Raises UserError where it cannot be loaded, or fails."""
    given = {INPUTS.get(name, name): array.astype(np.int64) if array.dtype.kind in "bi" else array.astype(np.float32)
             for name, array in inputs.items()}
    given |= {f"picture_{number}": picture for number, picture in enumerate(pictures)}
    with tempfile.TemporaryDirectory(prefix="kaleidobert-export-") as room:
        place = Path(room)
        np.savez(place / "inputs.npz", **given, **({"texts": np.array(texts)} if texts else {}))  # type: ignore[arg-type]
        (place / "answers.py").write_bytes(files("kaleidobert.exported").joinpath("answers.py").read_bytes())
        words = [str(python or sys.executable), str(place / "answers.py"), str(folder.resolve()), "inputs.npz", "outputs.npz"]
        # transformers copies code of exports into its cache
        variables = os.environ | {"HF_HOME": room, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run(words, cwd=place, env=variables, capture_output=True, text=True)
        if done.returncode == 3:
            raise UserError(f"transformers cannot load the export ({done.stderr.strip().splitlines()[-1]})", str(folder), "whole files, as "
                            "they were exported", "delete the folder and export again")
        if done.returncode:
            raise UserError(f"torch and transformers fail on the export ({' '.join(done.stderr.split())[-400:]})",
                            str(python or sys.executable), "an interpreter with torch and transformers", EXTRA)
        with np.load(place / "outputs.npz", allow_pickle=False) as file:
            return dict(file)


# --- The differences


def compare(subject: Subject, what: str, ours: Mapping[str, Any], theirs: Arrays, direct: Arrays | None = None) -> list[str]:
    """Returns a line about the largest difference of each answer. direct: ours about pictures, where ``ours`` is about the features that
    the export makes of them, whose last bits may differ. Raises UserError where an answer of ``ours`` is too far, or a caption differs."""
    levels = {level.name: level for level in subject.model.backbone.levels}
    lines, largest = [], 0.0
    for name in ours.keys() - {"captions", "texts"}:
        if what == "pictures" and (name in BY_POSITION or name in levels and levels[name].answer == "feature"):
            continue
        other = theirs[f"{what}/{_their_name(subject, name)}"].astype(np.float64)
        gap = float(np.abs(ours[name].reshape(other.shape) - other).max(initial=0))
        largest = max(largest, gap)
        with_bits = "" if direct is None else f"; with the last bits of features {np.abs(direct[name] - other).max(initial=0):.1e}"
        lines.append(f"  {what}: {name}, largest difference {gap:.1e}{with_bits}")
    if largest > TOLERANCE:
        raise _too_far(f"the export's answers differ by {largest:.1e} from the model's ({what})", f"at most {TOLERANCE:.0e}", theirs)
    return [*sorted(lines), *(f"  {what}: {name}, {_same(what, name, subject, ours[name], theirs)}" for name in ("captions", "texts")
                              if name in ours and f"{what}/{name}" in theirs)]


def feature_gap(ours: Arrays, theirs: Arrays, storage: str) -> str:
    """Returns in words how features and boxes of raw pictures differ. Raises UserError where it is by more than the last bit of a feature
    as the bank keeps it."""
    own, other = ours["patch_features"].astype(np.float32), theirs["pictures/patch_features"]
    apart, unit = np.abs(own - other), np.spacing(np.maximum(np.abs(own), np.abs(other)).astype(np.float16)).astype(np.float32)
    unit = unit + own.max(-1, keepdims=True) / MAX_BYTE if storage == "uint8" else unit
    boxes = float(np.abs(ours["patch_boxes"] - theirs["pictures/patch_boxes"]).max(initial=0))
    if boxes > 0 or (apart > unit + ROUNDING).any():
        raise _too_far(f"the export reads pictures otherwise: boxes differ by {boxes:.1e}, features by {apart.max():.1e}",
                       "the same boxes, and features but for their last bit", theirs)
    return f"{(apart > 0).mean():.2%} differ, in their last bit, by at most {apart.max(initial=0):.1e}; boxes are the same"


def _their_name(subject: Subject, name: str) -> str:
    return "itm_logits" if isinstance(subject.model, Pretrainer) and name == "itm" else THEIRS.get(name, name)


def _same(what: str, name: str, subject: Subject, ours: Sequence[Any], answered: Arrays) -> str:
    """Returns that captions are the same, in words. Raises UserError where they are not."""
    theirs = answered[f"{what}/{name}"]
    pad = subject.tokenizer.vocabulary.pad if subject.tokenizer is not None else 0
    others = [str(text) for text in theirs] if name == "texts" else [[int(piece) for piece in row if piece != pad] for row in theirs]
    different = [number for number, (own, other) in enumerate(zip(ours, others)) if own != other]
    if different or len(ours) != len(others):
        number = different[0] if different else 0
        raise _too_far(f"{len(different)} of {len(ours)} captions of the export differ from the model's ({what}), such as "
                       f"{others[number]!r} in place of {ours[number]!r}", "the same captions", answered)
    return f"the same {len(ours)}"


def _too_far(what: str, expected: str, theirs: Arrays) -> UserError:
    """Makes the error of answers that differ; another Pillow over there may be why."""
    own, other = PIL.__version__, str(theirs.get("pillow", PIL.__version__))
    if own != other:  # 13.0 resizes other than 12.3
        return UserError(f"{what}, and Pillow is {other} there and {own} here, of which some resize pictures otherwise", "export", expected,
                         f"install the same in both: pip install pillow=={own}; nothing was written")
    return UserError(what, "export", expected, "report this with the versions of torch and transformers; nothing was written")
