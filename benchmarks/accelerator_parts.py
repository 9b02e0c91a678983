"""What accelerator.py measures of our network, in a process of its own: products, batches, input, parts, kernels.

Written to --json after each part, so that a time limit loses one part at most.
"""

import argparse
import gc
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import jax
import keras
import numpy as np

from benchmarks import accelerator, floors, flops, keras_peer, kernels, random_bank, report
from kaleidobert import io
from kaleidobert.app_zoo import models
from kaleidobert.datasets.sampling.pretraining import PretrainSampler
from kaleidobert.engines import feeding, steps
from kaleidobert.engines.distributed import distribution
from kaleidobert.errors import UserError
from kaleidobert.model_zoo.kaleidobert import pretrainer

PAIRS, EPOCHS = 260_480, 25  # Fashion-Gen's training pairs, and the released number of epochs
READY = 4  # different batches that lie on the device while steps are timed


def main(arguments: list[str] | None = None) -> int:
    """Runs the program; returns the exit status."""
    parser = report.parser("benchmarks.accelerator_parts", __doc__.split("\n")[0])
    report.add_precision(parser)
    accelerator.handed_on(parser)
    return report.guarded(lambda options: Parts(options).run(), parser.parse_args(arguments))


class Parts:
    """Runs all parts and returns their results."""

    def __init__(self, options: argparse.Namespace):
        if keras.backend.backend() != "jax":
            raise UserError(f"the backend is {keras.backend.backend()}", "accelerator", "jax", "set KERAS_BACKEND=jax")
        self.options, self.begun = options, perf_counter()
        self.device, self._trained = jax.devices()[0], None
        self.result: dict[str, Any] = {"title": f"accelerator: {options.size}, {options.precision}, {self.device.device_kind}",
                                       "machine": report.machine(), "set": options.set, "batches": [], "notes": []}

    def run(self) -> None:
        """Measures one part after another; writes after each."""
        with random_bank.opened(self.options.size, self.options.pictures) as self.bank:
            self._sizes()
            self.part("matrix", self.products)
            for batch in self.options.batches:
                if not self.part(f"batch {batch}", lambda batch=batch: self.batch(batch)):
                    break
            if self.result["batches"]:
                best = max(self.result["batches"], key=lambda row: row["examples_per_second"])["batch"]
                self.result["best_batch"] = best
                for count in self.options.workers:
                    self.part(f"input, {count} threads", lambda count=count: self.input(best, count))
                self.part("parts of a step", lambda: self.profile(best))
                self.part("matrix again", self.products)

    def part(self, name: str, measure: Callable[[], None]) -> bool:
        """Whether the part was done; a note says why not."""
        if perf_counter() - self.begun > self.options.seconds:
            self._note(f"{name}: skipped, as the time was up")
            self._write()
            return False
        begun = perf_counter()
        try:
            measure()
        except Exception as error:  # out of memory, say: the parts before it are worth keeping
            self._note(f"{name}: {type(error).__name__}: {str(error).strip().splitlines()[0][:200] if str(error).strip() else ''}")
            self._trained = None
            gc.collect()
            self._write()
            return False
        print(f"{name}: {perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
        self._write()
        return True

    def products(self) -> None:
        """Measures the rate of square products and of products as the encoder's, in the type that the network computes in."""
        dtype = keras.dtype_policies.get(self.options.precision).compute_dtype
        rows = max(self.options.batches[0], 64) * self._length()
        cases = [floors.matrix_products(self.options.square, self.options.square, self.options.square, dtype),
                 floors.matrix_products(rows, self.sizes["hidden_size"], self.sizes["intermediate_size"], dtype)]
        for name, timing in zip(("square", "encoder"), floors.interleaved(cases, self.options.repeats)):
            rates = [float(rate) for rate in timing.rates("wall")]  # GFLOP/s
            self.result.setdefault("matrix", {}).setdefault(name, {"case": timing.case.name, "rates": []})["rates"] += rates

    def batch(self, batch: int) -> None:
        """Times the whole step on batches that lie on the device."""
        (step, _), sampler, put = self.trained, self.sampler(batch), feeding.to_device()
        ready = [put(sampler.batch(number)) for number in range(READY)]
        row = self._rates(batch, self._timed(lambda number: step(*ready[number % READY]), steps.read))
        stats = self.device.memory_stats() or {}
        row |= {"peak_bytes": stats.get("peak_bytes_in_use"), "limit_bytes": stats.get("bytes_limit")}
        self.result["batches"].append(row)

    def input(self, batch: int, workers: int) -> None:
        """Times the loop of training, with batches made by so many threads meanwhile, and the sampler alone."""
        (step, _), sampler, last = self.trained, self.sampler(batch), None
        steps.read(step(*feeding.to_device()(sampler.batch(0))))
        alone = self._timed(sampler.batch, lambda _: None, least=min(1.0, self.options.least))
        count = max(8, round(self.options.least / (batch / self._known(batch))))
        metered = feeding.Metered(feeding.prefetch(distribution.feed(sampler.batch), range(1, count + 1), workers))
        for _, placed in metered:
            now = step(*placed)
            if last is not None:
                steps.read(last)  # as Trainer.fit: the step before is looked at while this one is computed
            last = now
        steps.read(last)
        rate = batch * (count - 1) / metered.seconds if metered.seconds else float("nan")  # seconds: from the first to the last batch
        self.result.setdefault("input", []).append({"batch": batch, "workers": workers, "waited": metered.waited_fraction,
                                                    "examples_per_second": rate, "sampler_alone_per_second": batch / alone})

    def profile(self, batch: int) -> None:
        """Times forward alone, forward and backward, and what makes and moves a batch; the kernels of a step, longest first."""
        (step, model), sampler = self.trained, self.sampler(batch)
        loss, made = keras_peer.loss_function(self.config, self.config.levels), sampler.batch(0)
        ready = feeding.to_device()(made)
        backward = keras_peer.gradients(model, loss)
        forward = jax.jit(lambda trained, other, inputs, *rest: loss(
            model.stateless_call(trained, other, inputs, training=True)[0], *rest)["loss"])
        groups = [[variable.value for variable in group] for group in (model.trainable_variables, model.non_trainable_variables)]
        timings = {"forward": self._timed(lambda _: forward(*groups, *ready), jax.block_until_ready),
                 "forward and backward": self._timed(lambda _: backward(*ready), lambda _: None),
                 "making a batch": self._timed(sampler.batch, lambda _: None, least=1.0),
                 "moving it to the device": self._timed(lambda _: jax.device_put(made), jax.block_until_ready, least=1.0),
                 "step": self._timed(lambda _: step(*ready), steps.read)}
        self.result["profile"] = {"batch": batch, "seconds": timings}
        self._write()
        self.result["kernels"] = kernels.longest(lambda: steps.read(step(*ready)))

    def sampler(self, batch: int) -> PretrainSampler:
        """Returns a sampler of batches of this size."""
        return PretrainSampler(self.bank, self.bank.rows("train"), self.config.levels, self.config.sampling, batch, self.config.train.seed)

    @property
    def trained(self) -> tuple[Callable[..., Any], keras.Model]:
        """(step, model); the same for all parts until one fails, as a step that did not fit leaves nothing usable behind."""
        if self._trained is None:
            config, model = self.config, pretrainer(self.sizes)
            optimizer, _ = models.schedule(config.train, PAIRS)
            optimizer.build(model.trainable_variables)
            loss = keras_peer.loss_function(config, config.levels)
            self._trained = (
                steps.train_step(model, loss, optimizer, config.train.clip_norm, config.train.gradient_accumulation_steps),
                model,
            )
        return self._trained

    def _timed(self, run: Callable[[int], Any], wait: Callable[[Any], Any], least: float | None = None) -> float:
        """Returns the seconds of one run: calls run(number) so often that it takes ``least`` seconds, then wait(the last one's answer)."""
        wait(run(0))
        begun = perf_counter()
        wait(run(1))
        count = max(2, round((self.options.least if least is None else least) / max(perf_counter() - begun, 1e-4)))
        begun = perf_counter()
        for number in range(count):
            last = run(number)
        wait(last)
        return (perf_counter() - begun) / count

    def _rates(self, batch: int, seconds: float) -> dict[str, Any]:
        rate = batch / seconds
        gflops = rate * flops.training(self.parts) / 1e9
        fractions = {name: gflops / float(np.median(known["rates"])) for name, known in self.result.get("matrix", {}).items()}
        return {"batch": batch, "ms": 1e3 * seconds, "examples_per_second": rate, "tflops": gflops / 1e3, "share": fractions,
                "hours": EPOCHS * PAIRS / rate / 3600}

    def _known(self, batch: int) -> float:
        return next(row["examples_per_second"] for row in self.result["batches"] if row["batch"] == batch)

    def _sizes(self) -> None:
        self.config = random_bank.config(self.options.size, self.options.batches[0], self.options.precision, self.options.set)
        self.sizes = models.backbone_config(self.bank, self.config.levels, self.config.model, self.config.train)
        self.parts = flops.pretrainer(self.sizes, self.config.levels, self.config.sampling.max_masked)
        self.result |= {"sizes": self.sizes, "gflop_of_an_example": flops.training(self.parts) / 1e9,
                        "bank_bytes": sum(path.stat().st_size for path in Path(self.bank.folder).iterdir())}

    def _length(self) -> int:
        return self.sizes["text_length"] + 55

    def _note(self, text: str) -> None:
        self.result["notes"].append(text)
        print(text, file=sys.stderr, flush=True)

    def _write(self) -> None:
        if self.options.json is not None:
            io.write_json(self.options.json, self.result)


if __name__ == "__main__":
    sys.exit(main())
