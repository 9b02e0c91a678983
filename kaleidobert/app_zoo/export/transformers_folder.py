"""The files of an export for transformers: {name: content}, each made of what is known of the model and its bank.

    model.safetensors            the weights, those of the patch encoder among them
    config.json                  sizes and heads, and the names of the classes that read it
    modeling_kaleido_bert.py     the model; processing_kaleido_bert.py: what reads pictures and texts (package kaleidobert.exported)
    preprocessor_config.json     how pictures are read; foreground.safetensors: the network that finds the product, where there is one
    vocab.txt, tokenizer.json, tokenizer_config.json
    README.md                    the model card
    export.json                  of which checkpoint it was made, and the SHA-256 of every file

Without pictures, as of a released checkpoint, there is no preprocessor_config.json, and AutoTokenizer reads texts.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

import kaleidobert
from kaleidobert import io
from kaleidobert.app_zoo.caption import caption, writing
from kaleidobert.app_zoo.export import weights
from kaleidobert.app_zoo.export.subject import Subject, foreground, with_bank
from kaleidobert.evaluators.report.model_card import Weights, model_card
from kaleidobert.evaluators.report.results import NOT_KNOWN, Result, source_of
from kaleidobert.model_zoo import foreground_net
from kaleidobert.model_zoo.kaleidobert import Captioner, Classifier, Matcher, Pretrainer
from kaleidobert.preprocessors import efficientnet_lite0, encoders
from kaleidobert.preprocessors.tokenization import Spacing

WEIGHTS, CONFIG, VOCABULARY, CARD, NOTE = "model.safetensors", "config.json", "vocab.txt", "README.md", "export.json"
PROCESSOR, NETWORK = "preprocessor_config.json", "foreground.safetensors"
MODELING, PROCESSING = "modeling_kaleido_bert.py", "processing_kaleido_bert.py"
CLASSES = {Pretrainer.kind: "KaleidoBertForPreTraining", Classifier.kind: "KaleidoBertForClassification",
           Matcher.kind: "KaleidoBertForMatching", Captioner.kind: "KaleidoBertForCaptioning"}
TASKS = {Pretrainer.kind: "pretrain", Classifier.kind: "classify", Matcher.kind: "retrieve", Captioner.kind: "caption"}
SIZES = {"vocab_size": "vocabulary_size", "hidden_size": "hidden_size", "num_hidden_layers": "num_layers",
         "num_attention_heads": "num_heads", "intermediate_size": "intermediate_size", "max_position_embeddings": "max_positions",
         "type_vocab_size": "type_vocabulary_size", "patch_type_vocab_size": "patch_type_vocabulary_size",
         "hidden_dropout_prob": "dropout", "attention_probs_dropout_prob": "attention_dropout", "initializer_range": "initializer_range",
         "feature_size": "feature_size", "text_length": "text_length", "standardise_features": "standardise_features"}


def contents(subject: Subject) -> dict[str, bytes]:
    """Returns {name of a file: its content}, export.json last. Raises UserError as the functions below."""
    made = {WEIGHTS: _tensors(_model_weights(subject)), CONFIG: _json(model_config(subject))}
    if subject.tokenizer is not None:
        made |= _text_files(subject)
    code = [MODELING]
    if subject.reader is not None:
        made[PROCESSOR] = _json(processor_config(subject))
        code.append(PROCESSING)
        if foreground(subject.reader).method == "network":
            made[NETWORK] = _tensors(weights.of_foreground_net(_folded(foreground_net.load(foreground(subject.reader).weights))))
    made |= {name: files("kaleidobert.exported").joinpath(name).read_bytes() for name in code}
    made[CARD] = card(subject, made).encode()
    return made | {NOTE: _json(note(subject, made))}


def write(folder: Path, made: Mapping[str, bytes]) -> None:
    """Writes the files into a folder."""
    for name, content in made.items():
        with io.atomic(folder / name) as file:
            file.write(content)


def note(subject: Subject, made: Mapping[str, bytes]) -> dict[str, Any]:
    """Returns the content of export.json."""
    return {"kaleidobert": kaleidobert.__version__, "kind": subject.model.kind, "pictures": subject.reader is not None,
            "checkpoint": checkpoint_digest(subject.checkpoint),
            "files": {name: hashlib.sha256(content).hexdigest() for name, content in made.items()}}


def checkpoint_digest(path: Path) -> str:
    """Returns the SHA-256 of a checkpoint's file; of a released one that of its index, which has the checksums of all arrays."""
    return io.sha256(path if path.suffix == ".npz" else Path(f"{path}.index"))


# --- config.json


def model_config(subject: Subject) -> dict[str, Any]:
    """Returns the content of config.json."""
    model = subject.model
    backbone, name = model.backbone, CLASSES[model.kind]
    result = {"model_type": "kaleido_bert", "architectures": [name], "dtype": "float32",
              "auto_map": {"AutoConfig": "modeling_kaleido_bert.KaleidoBertConfig", "AutoModel": f"modeling_kaleido_bert.{name}"},
              **{theirs: getattr(backbone, ours) for theirs, ours in SIZES.items()},
              "levels": [{"name": level.name, "grid": level.grid, "pretext": level.pretext, "answer": level.answer,
                          "num_masked": level.num_masked, "num_classes": level.num_classes} for level in backbone.levels],
              "special_tokens": _special_tokens(subject), "patch_encoder": _patch_encoder(subject)}
    if isinstance(model, Pretrainer):
        result |= {"contrastive": model.contrastive}
    elif isinstance(model, Matcher):
        result |= {"head": model.head, "width": model.width, "feature_dropout": model.feature_dropout}
    elif isinstance(model, Classifier):
        classes = subject.meta.get("classes") or [f"LABEL_{number}" for number in range(model.num_classes)]
        result |= {"head": model.head, "head_dropout": model.dropout, "feature_dropout": model.feature_dropout,
                   "id2label": {str(number): label for number, label in enumerate(classes)},
                   "label2id": {label: number for number, label in enumerate(classes)}}
    elif isinstance(model, Captioner):
        result |= {"captioning": _captioning(subject, model)}
    return result


def _special_tokens(subject: Subject) -> dict[str, int]:
    """Returns the ids of special pieces: those of bert-base-uncased where no vocabulary is known."""
    if subject.tokenizer is None:
        return {"pad": 0, "unknown": 100, "start": 101, "end": 102, "mask": 103}
    vocabulary = subject.tokenizer.vocabulary
    return {name: int(getattr(vocabulary, name)) for name in ("pad", "unknown", "start", "end", "mask")}


def _patch_encoder(subject: Subject) -> dict[str, Any] | None:
    if subject.reader is None:
        return None
    encoder = subject.reader.config.encoder
    return {"name": encoder.name, "size": encoder.size, "storage": subject.storage}


def _captioning(subject: Subject, model: Captioner) -> dict[str, Any]:
    """Returns how captions are written: as the run wrote them; of a checkpoint without a run as is usual."""
    if subject.bank is None:
        return {"mode": model.mode, "num_beams": 1, "length_penalty": 0.0, "iterations": 4, "length_candidates": 3,
                "max_length": model.backbone.text_length - 2}
    config, bank = with_bank(subject), subject.bank
    result = {"mode": model.mode, "num_beams": config.writing.num_beams, "length_penalty": config.writing.length_penalty,
              "iterations": config.writing.iterations, "length_candidates": config.writing.length_candidates,
              "max_length": writing.max_pieces(config, bank)}
    if config.length == "fixed":
        result["fixed_length"] = writing.fixed_length(config, bank, caption.open_data(config).train)
    return result


def notes(subject: Subject) -> list[str]:
    """Returns lines about what the export does otherwise than the run did."""
    lines = [] if subject.reader is None or not subject.reader.note else [subject.reader.note]
    if isinstance(subject.model, Captioner) and subject.config is not None:
        if subject.config.mode != "causal" and subject.config.length == "oracle":
            lines.append("the run wrote captions of the references' lengths, which no other picture has: the export predicts them")
        if subject.config.writing.matcher:
            lines.append("the run let a matcher choose among its captions and training texts: the export writes its own words alone")
    return lines


# --- Weights


def _model_weights(subject: Subject) -> dict[str, np.ndarray]:
    result = weights.of_model(subject.model)
    if subject.reader is not None and subject.reader.config.encoder.name == "efficientnet_lite0":
        encoder = subject.reader.config.encoder
        network = efficientnet_lite0.build(encoder.size, True, efficientnet_lite0.weights(encoder.weights))
        result |= weights.of_patch_encoder(_folded(network))
    return result


def _folded(network: Any) -> Any:
    return encoders.folded(network)


def _tensors(arrays: Mapping[str, np.ndarray]) -> bytes:
    return save({name: np.array(array, order="C") for name, array in sorted(arrays.items())}, {"format": "pt"})


# --- Pictures and texts


def processor_config(subject: Subject) -> dict[str, Any]:
    """Returns the content of preprocessor_config.json."""
    assert subject.reader is not None and subject.bank is not None
    found, bank = foreground(subject.reader), subject.bank
    settings: dict[str, Any] = {"method": found.method, "margin": found.margin}
    if found.method == "border":
        settings["tolerance"] = found.tolerance
    elif found.method == "network":
        network = foreground_net.load(found.weights)
        widths = [layer.filters for layer in network.layers if layer.name.startswith("down") and layer.name.endswith("conv")]
        settings |= {"size": int(network.input_shape[1]), "channels": widths}
    modality = subject.config.modality if isinstance(subject.model, Classifier) else "any"
    return {"processor_class": "KaleidoBertProcessor", "auto_map": {"AutoProcessor": "processing_kaleido_bert.KaleidoBertProcessor"},
            "levels": [{"name": level.name, "grid": level.grid, "square": level.name in bank.square} for level in bank.levels],
            "patch_size": subject.reader.config.encoder.size, "foreground": settings, "text_length": bank.text_length,
            "reads": modality, "strip_html": bool(bank.index["config"]["source"].get("strip_html")), "spacing": _spacing(subject)}


def _spacing(subject: Subject) -> dict[str, bool]:
    """Returns where the training texts of a captioner have no space."""
    return Spacing(caption.open_data(with_bank(subject)).train_texts).table() if isinstance(subject.model, Captioner) else {}


def _text_files(subject: Subject) -> dict[str, bytes]:
    tokenizer, length = subject.tokenizer, subject.model.backbone.text_length
    assert tokenizer is not None
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": length, "split_special_tokens": True, **special}
    pieces = tokenizer.pieces(range(tokenizer.vocabulary.size))
    return {VOCABULARY: "".join(f"{piece}\n" for piece in pieces).encode(), "tokenizer.json": tokenizer.to_json(length).encode(),
            "tokenizer_config.json": _json(settings)}


# --- The model card


def card(subject: Subject, made: Mapping[str, bytes]) -> str:
    """Returns the model card: that of the run, with how transformers loads it."""
    steps = (subject.meta.get("lineage") or {}).get("steps") or []
    values: dict[str, Any] = {"task": TASKS[subject.model.kind],
                              "model": {"head": NOT_KNOWN, "head_of": NOT_KNOWN, "trained": "; ".join(steps) or NOT_KNOWN}}
    values |= {**subject.results, "checkpoint_sha256": hashlib.sha256(made[WEIGHTS]).hexdigest()}
    of_model = Weights(WEIGHTS, subject.model.kind, subject.model.describe()["config"], subject.model.count_params(),
                       how_to_load(subject), "transformers")
    return model_card(Result(subject.name, str(subject.checkpoint), values, source_of(values)), of_model)


def how_to_load(subject: Subject) -> list[str]:
    """Returns how transformers loads the folder, as lines of Markdown."""
    answers: dict[str, Callable[[], list[str]]] = {
        Pretrainer.kind: lambda: ["outputs = model(**inputs)", "outputs.itm_logits.softmax(-1)[:, 1]  # whether text and picture match"],
        Matcher.kind: lambda: ["model(**inputs).logits.softmax(-1)[:, 1]  # whether text and picture match"],
        Classifier.kind: lambda: ["best = model(**inputs).logits.argmax(-1)", "[model.config.id2label[int(number)] for number in best]"],
        Captioner.kind: lambda: ["processor.batch_decode(model.generate(**inputs))" if subject.reader is not None
                                 else "model.generate(patch_features=..., patch_boxes=...)  # ids of pieces"],
    }
    reads = subject.config.modality if isinstance(subject.model, Classifier) and subject.config is not None else "both"
    reads = "image" if isinstance(subject.model, Captioner) else reads
    words = {"image": "images=[picture]", "text": 'text=["red striped t-shirt"]', "both": 'images=[picture], text=["red striped t-shirt"]'}
    lines = ["With PyTorch, transformers and Pillow alone; the code that comes along is two readable files.", "", "```python",
             "from PIL import Image", "from transformers import AutoModel, AutoProcessor", "",
             'model = AutoModel.from_pretrained("FOLDER", trust_remote_code=True).eval()']
    if subject.reader is not None:
        lines += ['processor = AutoProcessor.from_pretrained("FOLDER", trust_remote_code=True)',
                  *(['picture = Image.open("photo.jpg")'] if reads != "text" else []), f"inputs = processor({words[reads]})"]
    else:
        lines = [line for line in lines if line != "from PIL import Image"]
        lines += ["inputs = {...}  # patch_features [B, P, F], patch_boxes [B, P, 5]; input_ids, attention_mask [B, T]"]
    return [*lines, *answers[subject.model.kind](), "```"]


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
