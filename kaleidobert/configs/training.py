"""The sections that the commands which train a network share, re-exported by the package: sizes, spoiling, losses, schedule."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from kaleidobert.configs.loader import Checked, Limits
from kaleidobert.errors import UserError
from kaleidobert.levels import KaleidoLevel, asked_levels


@dataclass(frozen=True)
class Model(Checked):
    """Sizes of the network; vocabulary, feature size and levels follow from the bank."""
    hidden_size: int = 768
    num_layers: int = 12
    num_heads: int = 12
    intermediate_size: int = 3072
    max_positions: int = 512
    dropout: float = 0.1
    attention_dropout: float = 0.1
    initializer_range: float = 0.02
    standardise_features: bool = False  # bring every feature to mean 0 and spread 1, as measured on the bank

    limits: ClassVar[Limits] = {
        "hidden_size": (1,), "num_layers": (1,), "num_heads": (1,), "intermediate_size": (1,), "max_positions": (1,),
        "dropout": (0, 0.99), "attention_dropout": (0, 0.99), "initializer_range": (1e-6, 10)}


@dataclass(frozen=True)
class Sampling(Checked):
    """How examples are spoiled (paper, sections 3.2 and 3.3)."""

    masking: Literal["random", "alignment_guided"] = (
        "alignment_guided"  # alignment_guided: AGM, for which `kaleidobert align` must have run
    )
    mask_rate: float = 0.15  # of a text's pieces, one at least; 0 masks none
    max_masked: int = 10  # pieces of a text at most; no more than its length has room for
    whole_word: bool = False  # mask all pieces of a word together, as far as the quota allows
    pairs: Literal["quota", "all"] = "quota"  # AGM draws at most as many aligned words as tokens are masked, or all of them
    camouflage: Literal["even", "guided"] = "even"  # which patch is replaced: drawn evenly, or by AGM (paper), where other masks tell it
    negative_share: float = 0.5  # of the examples get the text of another product
    negatives_same_subcategory: float = 0.5  # of the negatives come from the same subcategory
    subcategory: str = "subcategory"  # the label that says what is a subcategory
    losses_on_negatives: Literal["itm-only", "all"] = "itm-only"

    limits: ClassVar[Limits] = {"mask_rate": (0, 1), "negative_share": (0, 1), "negatives_same_subcategory": (0, 1), "max_masked": (1,)}


@dataclass(frozen=True)
class Losses(Checked):
    """The seven losses; the weights of the image tasks are in the level table."""
    mlm_weight: float = 1.0
    itm_weight: float = 1.0
    feature_target: Literal["per-patch", "joint"] = "per-patch"  # joint: grey as released, softmax over all masked patches

    limits: ClassVar[Limits] = {"mlm_weight": (0,), "itm_weight": (0,)}


def check_asked(levels: Sequence[KaleidoLevel], sampling: Sampling, losses: Losses) -> None:
    """Raises UserError where a task is given weight that the sampling leaves without an answer to learn, or no task has weight."""
    weights = {"losses.mlm_weight": losses.mlm_weight, "losses.itm_weight": losses.itm_weight}
    weights |= {f"weight of level {level.name}": level.weight for level in asked_levels(levels)}
    if not any(weights.values()):
        raise UserError(f"every loss has weight 0 ({', '.join(weights)})", "", "one weight above 0 at least", "there is nothing to learn")
    if not sampling.mask_rate and losses.mlm_weight:
        raise UserError(f"sampling.mask_rate is 0 and losses.mlm_weight is {losses.mlm_weight:g}", "", "masked tokens to predict",
                        "set sampling.mask_rate above 0, or losses.mlm_weight=0 too")
    if sampling.negative_share in (0, 1) and losses.itm_weight:
        texts = "its own" if not sampling.negative_share else "another product's"
        raise UserError(f"sampling.negative_share is {sampling.negative_share:g} and losses.itm_weight is {losses.itm_weight:g}: every "
                        f"picture gets {texts} text, so that the matching task has one answer", "", "a share between 0 and 1",
                        "set sampling.negative_share=0.5, or losses.itm_weight=0 too")
    if sampling.negative_share == 1 and sampling.losses_on_negatives == "itm-only":
        raise UserError("sampling.negative_share is 1 and sampling.losses_on_negatives is itm-only: no example counts", "",
                        "examples that match", "set sampling.negative_share below 1")


@dataclass(frozen=True)
class Train(Checked):
    """Optimiser, schedule, bookkeeping."""
    epochs: float = 25.0
    batch_size: int = 64
    learning_rate: float = 1e-4
    warmup_steps: int = 0  # 0 = the first warmup_share of all steps
    warmup_share: float = 0.1
    decay: Literal["from-start", "after-warmup"] = "from-start"  # from-start: down to 0 during the warm-up too, as released, so that the
    # rate stays below learning_rate; after-warmup: the rate is learning_rate when the warm-up ends, and goes down from there (the paper)
    weight_decay: float = 0.0
    beta_1: float = 0.9
    beta_2: float = 0.98
    epsilon: float = 1e-6
    clip_norm: float = 1.0
    save_every: int = 500  # steps between checkpoints, beside the one after every epoch
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"  # float16: with loss scaling, for GPUs
    seed: int = 0
    gradient_accumulation_steps: int = 1  # micro-batches that a step computes one after another, for less memory; divides batch_size
    dynamic_padding: bool = True  # cut the padding that no text of a batch needs: the same answers, less work
    gradient_checkpointing: bool = False  # compute the blocks again in the backward pass: less memory, a third more work
    workers: int = 1  # threads that make batches
    devices: int = 1  # GPUs (or, without any, CPU devices) of this process; 0 = all

    limits: ClassVar[Limits] = {
        "epochs": (0,), "learning_rate": (0,), "warmup_steps": (0,), "weight_decay": (0,), "clip_norm": (0,), "seed": (0,),
        "warmup_share": (0, 1), "beta_1": (0, 0.999999), "beta_2": (0, 0.999999), "batch_size": (1,), "save_every": (1,),
        "epsilon": (1e-12,), "gradient_accumulation_steps": (1,), "workers": (1, 64), "devices": (0,)}


@dataclass(frozen=True)
class Noise(Checked):
    """What fine-tuning hides of its examples, at random: it keeps a small catalogue from being learnt by heart."""
    patch_dropout: float = 0.0  # probability of a patch's features being set to zero
    token_dropout: float = 0.0  # probability of a word piece being replaced by [MASK]

    limits: ClassVar[Limits] = {"patch_dropout": (0, 1), "token_dropout": (0, 1)}


@dataclass(frozen=True)
class Matching(Checked):
    """Fine-tuning of the matching task before retrieval; train.epochs 0 = the head of pre-training as it is."""
    head: Literal["plain", "product", "dual_encoder"] = "plain"  # dual_encoder: with two towers, trained first, each on the whole task
    objective: Literal["pairwise", "listwise"] = "pairwise"  # listwise: softmax over a right pair and its negatives
    negatives: int = 3  # per example
    negatives_same_subcategory: float = 0.5
    width: int = 512  # of the towers of "dual_encoder"
    feature_dropout: float = 0.3  # of the picture tower

    limits: ClassVar[Limits] = {"negatives": (1,), "negatives_same_subcategory": (0, 1), "width": (1,), "feature_dropout": (0, 0.99)}
