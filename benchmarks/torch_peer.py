"""A contestant (turns.serve): a BERT of the same size from Hugging Face transformers, in PyTorch, at the same seven tasks.

Runs in an environment that has torch, transformers and numpy, on the same batch as the others. The encoder gets text and patches as
``inputs_embeds``, so every product of ours is there, in the same shape; five heads on top stand for the levels. Attention is
scaled_dot_product_attention, AdamW is the fused one, and the network is compiled where torch finds a compiler.
"""

import sys
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn
from torch.nn import functional

from benchmarks import turns

TYPES = {"float32": None, "mixed_bfloat16": torch.bfloat16, "mixed_float16": torch.float16}


class Peer(nn.Module):
    """BertForPreTraining with a projection for patches and boxes and a head for every level: a batch -> the sum of the losses."""

    def __init__(self, settings: dict[str, Any]):
        super().__init__()
        sizes = settings["sizes"]
        config = transformers.BertConfig(
            vocab_size=sizes["vocabulary_size"], hidden_size=sizes["hidden_size"], num_hidden_layers=sizes["num_layers"],
            num_attention_heads=sizes["num_heads"], intermediate_size=sizes["intermediate_size"], hidden_act="gelu_pytorch_tanh",
            max_position_embeddings=sizes["max_positions"], hidden_dropout_prob=sizes["dropout"],
            attention_probs_dropout_prob=sizes["attention_dropout"], attn_implementation="sdpa")
        hidden, self.levels, self.text_length = sizes["hidden_size"], settings["levels"], sizes["text_length"]
        self.model = transformers.BertForPreTraining(config)
        self.patches = nn.Linear(sizes["feature_size"], hidden, bias=False)
        self.boxes = nn.Linear(5, hidden, bias=False)
        self.heads = nn.ModuleList([nn.Linear(hidden * level["patches"], level["classes"]) if level["classes"]
                                    else nn.Linear(hidden, sizes["feature_size"], bias=False) for level in self.levels])

    def encode(self, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Computes ([B, S, H], [B, H])."""
        words = self.model.bert.embeddings.word_embeddings(inputs["token_ids"])
        pictures = self.patches(inputs["patch_features"].to(words.dtype)) + self.boxes(inputs["patch_boxes"])
        types = torch.cat([torch.zeros_like(inputs["token_ids"]), torch.ones_like(pictures[..., 0], dtype=torch.long)], 1)
        mask = torch.cat([inputs["token_mask"], torch.ones_like(types[:, self.text_length :])], 1)
        embedded = torch.cat([words, pictures.to(words.dtype)], 1)
        out = self.model.bert(inputs_embeds=embedded, attention_mask=mask, token_type_ids=types)
        return out.last_hidden_state, out.pooler_output

    def forward(self, inputs, targets=None, weights=None, over=None):
        sequence, pooled = self.encode(inputs)
        if targets is None:
            return self.model.cls.seq_relationship(pooled)
        rows = torch.arange(len(sequence), device=sequence.device)[:, None]
        mlm, itm = self.model.cls(sequence[rows, inputs["masked_tokens"]], pooled)
        total = _cross_entropy(mlm, targets["mlm"], weights["mlm"], over["mlm"])
        total = total + _cross_entropy(itm, targets["itm"], weights["itm"], over["itm"])
        start, column = self.text_length, 0
        for head, level in zip(self.heads, self.levels):
            name, stop = level["name"], start + level["patches"]
            if level["classes"]:
                logits = head(sequence[:, start:stop].flatten(1))
                loss = _cross_entropy(logits, targets[name], weights[name], over[name])
            else:
                positions = inputs["masked_patches"][:, column : column + level["masked"]] + self.text_length
                given, target = head(sequence[rows, positions]).float(), targets[name].float()
                each = functional.kl_div(given.log_softmax(-1), target.log_softmax(-1), reduction="none", log_target=True).sum(-1).mean(-1)
                loss, column = (weights[name] * each).sum() / over[name], column + level["masked"]
            total, start = total + loss, stop
        return total


def _cross_entropy(logits, target, weights, over):
    each = functional.cross_entropy(logits.float().flatten(0, -2), target.flatten(), reduction="none")
    return (weights.flatten() * each).sum() / over


def prepare(settings: dict[str, Any]) -> tuple[dict[str, Any], turns.Cases]:
    """Prepares a contestant. settings: sizes, levels, batch file, micro, precision, learning_rate, weight_decay, clip_norm; see
    peers.py."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        torch.set_num_threads(turns.cores())
    torch.manual_seed(0)
    peer = Peer(settings).to(device)
    optimizer = torch.optim.AdamW(peer.parameters(), settings["learning_rate"], (0.9, 0.98), 1e-6, settings["weight_decay"], fused=True)
    work = Work(peer, optimizer, settings, device)
    compiled = work.compile()
    metadata = {"versions": {"torch": torch.__version__, "transformers": transformers.__version__}, "compiled": compiled, "device": device,
             "accelerators": [torch.cuda.get_device_name(0)] if device == "cuda" else [],
             "parameters": sum(weight.numel() for weight in peer.parameters()), "attention": peer.model.config._attn_implementation}
    return metadata, {"forward and backward": work.gradients, "step": work.steps, "prediction": work.predict}


class Work:
    """What is timed; each method does its work so many times, from numpy arrays."""

    def __init__(self, peer: Peer, optimizer: torch.optim.Optimizer, settings: dict[str, Any], device: str):
        self.peer, self.network, self.optimizer, self.settings, self.device = peer, peer, optimizer, settings, device
        with np.load(settings["batch"]) as arrays:
            batch = {part: {name.split("/")[1]: arrays[name] for name in arrays.files if name.startswith(part)}
                     for part in ("inputs", "targets", "weights")}
        self.batch = batch
        self.over = {name: np.maximum(weights.sum(), 1e-5) for name, weights in batch["weights"].items()}

    def compile(self) -> str:
        """Compiles the network and tries it; returns "yes", or why it runs eagerly."""
        if not self.settings.get("compile", True):
            return "not requested"
        self.network = torch.compile(self.peer)
        try:
            self.gradients(1)
            return "yes"
        except Exception as error:  # no compiler, no headers, an operation that it does not know
            self.network = self.peer
            torch._dynamo.reset()
            return f"no: {str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__}"

    def gradients(self, times: int) -> None:
        """Runs forward and backward over the whole batch, in parts of ``micro`` examples."""
        self.peer.train()
        for _ in range(times):
            self.optimizer.zero_grad(set_to_none=True)
            for part in self._parts(self.settings["micro"]):
                with self._autocast():
                    loss = self.network(part["inputs"], part["targets"], part["weights"], self.over)
                loss.backward()
        self._wait()

    def steps(self, times: int) -> None:
        """Runs whole steps: the same with clipping and AdamW."""
        for _ in range(times):
            self.gradients(1)
            nn.utils.clip_grad_norm_(self.peer.parameters(), self.settings["clip_norm"])
            self.optimizer.step()
        self._wait()

    def predict(self, times: int) -> None:
        """Predicts the matching task without dropout, to numpy."""
        self.peer.eval()
        with torch.inference_mode():
            for _ in range(times):
                for part in self._parts(len(self.batch["inputs"]["token_ids"]), ("inputs",)):
                    with self._autocast():
                        logits = self.network(part["inputs"])
                    logits.float().cpu().numpy()

    def _parts(self, micro: int, names: tuple[str, ...] = ("inputs", "targets", "weights")):
        for start in range(0, len(self.batch["inputs"]["token_ids"]), micro):
            yield {part: {name: torch.from_numpy(_plain(array[start : start + micro])).to(self.device) for name, array in arrays.items()}
                   for part, arrays in ((name, self.batch[name]) for name in names)}

    def _autocast(self):
        dtype = TYPES[self.settings["precision"]]
        return torch.autocast(self.device, dtype or torch.bfloat16, enabled=dtype is not None)

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()


def _plain(array: np.ndarray) -> np.ndarray:
    """Returns whole numbers as int64, as torch looks things up; features stay float16."""
    return np.ascontiguousarray(array.astype(np.int64) if array.dtype.kind in "iub" else array)


if __name__ == "__main__":
    sys.exit(turns.serve(prepare))
