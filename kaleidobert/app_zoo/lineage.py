"""The model of a result: its head and whose idea that is, what was trained from what, and how the pre-training masked.

Checkpoints keep their lineage in their meta, under "lineage":

    steps      ["pre-trained 30 epochs", "dual encoder 40 epochs", "matching fine-tuned 12 epochs"]: all training, from random weights on
    masking    of the pre-training; None without one, NOT_RECORDED where it is unknown
    plain      {"checkpoint", "sha256"} of the last checkpoint before this one that has the matching head of pre-training; None
    untrained  true where no head of pre-training is trained yet, as in a converted BERT
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kaleidobert import configs
from kaleidobert.configs.addresses import written
from kaleidobert.io import sha256
from kaleidobert.model_zoo.kaleidobert import Matcher, Pretrainer
from kaleidobert.released import tf_checkpoint
from kaleidobert.released.checkpoints import load_meta

PAPERS, OURS = "the paper's", "ours"
NOT_RECORDED = "not recorded"
NOTHING, NOT_PRETRAINED = "nothing", "not pre-trained"
DUAL_ENCODER = "dual encoder"  # how the step of their training begins
OF_FILES = "as baked into the files"  # the masking of released files

Lineage = Mapping[str, Any]


def extend(init: Path | None, steps: Sequence[str] = (), masking: str | None = None) -> dict[str, Any]:
    """Returns the lineage of a run that starts from ``init``. steps: what it trains; masking: of a run that pre-trains."""
    if init is None:
        return {"steps": [*([] if masking else [NOT_PRETRAINED]), *steps], "masking": masking, "plain": None}
    meta = load_meta(init)
    before = _recorded(init, meta)
    plain = {"checkpoint": written(init), "sha256": digest(init)} if has_plain_head(meta) else before["plain"]
    return {"steps": [*before["steps"], *steps], "masking": masking or before["masking"], "plain": plain}


def model(head: str, init: Path | None, steps: Sequence[str] = (), masking: str | None = None) -> dict[str, Any]:
    """Returns the entry "model" of results.json: {head, head_of, trained, trained_in_this_run, init, masking}, for the head "dual_encoder"
    also trained_parts, {part: its training}.

    head: "plain" is the paper's, every other one is ours. The other arguments are those of ``extend``.
    """
    past = extend(init, steps, masking)
    trained = list(past["steps"])
    if not steps and init is not None and _is_pretrained(load_meta(init)):
        trained.append("not fine-tuned")
    parts = {"encoder alone": [step for step in trained if not step.startswith(DUAL_ENCODER)],
             "dual encoder alone": [step for step in trained if step.startswith(DUAL_ENCODER)]} if head == "dual_encoder" else {}
    return {"head": head, "head_of": PAPERS if head == "plain" else OURS, "trained": "; ".join(trained),
            **({"trained_parts": {name: "; ".join(each) or NOT_RECORDED for name, each in parts.items()}} if parts else {}),
            "trained_in_this_run": "; ".join(steps) or NOTHING, "init": None if init is None else written(init),
            "masking": past["masking"]}


def epochs(what: str, number: float) -> list[str]:
    """Returns a step of training, such as ['matching fine-tuned 12 epochs']; [] for no epochs."""
    return [f"{what} {number:g} epoch{'s' * (number != 1)}"] if number else []


def masking(sampling: configs.Sampling) -> str:
    """Returns how a pre-training on a bank masks: the policy, and for AGM its ``pairs``."""
    options = configs.to_dict(sampling)
    return ", ".join(
        [options["masking"], *([options["pairs"]] if options.get("pairs") and options["masking"] == "alignment_guided" else [])]
    )


def has_plain_head(meta: Mapping[str, Any]) -> bool:
    """Whether a checkpoint has the matching head of pre-training."""
    return _is_pretrained(meta) or meta.get("kind") == Matcher.kind and meta.get("config", {}).get("head", "plain") == "plain"


def digest(path: Path) -> str:
    """Returns the SHA-256 of a checkpoint; of a TensorFlow 1 checkpoint that of its index, which has the checksums of all tensors."""
    return sha256(path.with_name(f"{path.name}.index") if tf_checkpoint.exists(path) else path)


def converted(what: str, trained: bool) -> dict[str, Any]:
    """Returns the lineage of a converted checkpoint; trained: whether it has trained heads."""
    return {"steps": [what], "masking": NOT_RECORDED if trained else None, "plain": None, "untrained": not trained}


def _is_pretrained(meta: Mapping[str, Any]) -> bool:
    return meta.get("kind") == Pretrainer.kind and not (meta.get("lineage") or {}).get("untrained")


def _recorded(init: Path, meta: Mapping[str, Any]) -> Lineage:
    known = meta.get("lineage")
    if isinstance(known, Mapping) and isinstance(known.get("steps"), Sequence):
        return {"masking": NOT_RECORDED, "plain": None, **known}
    return {"steps": [f"from {written(init)}, whose training is not recorded"], "masking": NOT_RECORDED, "plain": None}
