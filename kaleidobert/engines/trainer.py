"""The training loop, one for all tasks.

A run that is killed at any step and started again ends with the same weights, bit for bit, as an uninterrupted one: batches are a
function of the step, and a checkpoint holds weights, dropout seeds and optimiser.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import keras
import numpy as np
from tqdm import tqdm

from kaleidobert.engines import steps
from kaleidobert.engines.distributed import distribution
from kaleidobert.engines.feeding import Metered, prefetch
from kaleidobert.engines.run_folder import Run, check_room
from kaleidobert.errors import UserError
from kaleidobert.model_zoo import checkpoints

VAL, HELD_OUT = "val", "held_out"  # splits of the lines of metrics.jsonl that an evaluation writes
MIN_LOSS_SCALE = 1.0  # of a float16 loss: gradients that overflow even so are not the scale's fault


@dataclass(frozen=True)
class Schedule:
    """The length of a run and its intervals, in steps.

    total: steps; epochs: an evaluation follows each; save, log: steps between checkpoints and between logged lines;
    gradient_accumulation_steps: micro-batches of a step; workers: threads that make batches.
    """

    total: int
    epochs: float
    save: int
    log: int = 20
    gradient_accumulation_steps: int = 1
    workers: int = 1

    @property
    def epoch(self) -> int:
        """Steps between two evaluations."""
        return max(1, ceil(self.total / self.epochs))


@dataclass(frozen=True)
class Goal:
    """What is evaluated after every epoch: evaluate() -> {metric: value}; the weights with the best ``metric`` go to best.npz.

    higher_is_better None: best.npz holds the latest weights, and the evaluation chooses nothing, as it must where the final report
    is on the same examples. patience: training ends after so many evaluations without a better one; 0 = never.
    split: which examples are evaluated, in metrics.jsonl: VAL, or HELD_OUT of the training split.
    """

    evaluate: Callable[[], Mapping[str, float]]
    metric: str
    higher_is_better: bool | None
    patience: int = 0
    split: str = VAL

    def improves(self, value: float, best: float) -> bool:
        """Whether weights with this value replace those with the best one so far."""
        return True if self.higher_is_better is None else value > best if self.higher_is_better else value < best


class Trainer:
    """Trains ``model`` on batch(step) -> (inputs, targets, weights), resuming from run.last where it exists."""

    def __init__(self, run: Run, model: keras.Model, optimizer: keras.optimizers.Optimizer, meta: Mapping[str, Any]):
        self.run, self.model, self.optimizer, self._meta = run, model, optimizer, dict(meta)
        self.step, self.stale = 0, 0  # stale: evaluations since the best one
        self.best: float | None = None
        self._process = distribution.current_process()
        optimizer.build(model.trainable_variables)

    def fit(self, batch: Callable[[int], tuple], loss: steps.LossFunction, goal: Goal, schedule: Schedule, clip_norm: float,
            make_shard: distribution.ShardMaker | None = None) -> None:
        """Trains to schedule.total steps. In processes other than the first it does not return (Process.leave).

        make_shard: as of distribution.feed. Raises UserError where a loss, the gradient or a result is not finite (earlier
        checkpoints stay), where run.last was made with another model or bank, and where the disk has no room for checkpoints.
        """
        self._resume()
        update = steps.train_step(self.model, loss, self.optimizer, clip_norm, schedule.gradient_accumulation_steps)
        feed = distribution.feed(batch, schedule.gradient_accumulation_steps, make_shard)
        todo = () if self._gave_up(goal) else range(self.step, schedule.total)
        if todo and self._process.first:
            check_room(self.run.folder, *(sum(4 * ceil(np.prod(variable.shape)) for variable in kept)
                                          for kept in (self.model.variables, self.optimizer.variables)))
        fed = Metered(prefetch(feed, todo, schedule.workers))
        pending: list[tuple] = []  # the step before: it is checked while the device computes the next one
        sums: list[Mapping[str, float]] = []
        with tqdm(total=schedule.total, initial=self.step, unit="step", desc=self.run.folder.name, disable=not self._process.first) as bar:
            for own, on_device in fed:
                pending.append((self.step + 1, update(*on_device), own))
                self.step += 1
                # at every checkpoint too: a resumed run then logs the same lines as an uninterrupted one
                due = self.step % schedule.log == 0 or self._ends_epoch(schedule) or self.step % schedule.save == 0
                # all of them, where a checkpoint may follow: broken weights must not reach it
                while len(pending) > (0 if due else 1):
                    sums.append(self._checked(*pending.pop(0)))
                    bar.update()
                if due:
                    means = {name: _mean([row[name] for row in sums]) for name in sums[0]}
                    self.run.log(self.step, "train", means)
                    bar.set_postfix_str(f"loss {means['loss']:.4f}")
                    sums = []
                self._after(goal, schedule, bar)
                if self._gave_up(goal):
                    break
        if fed.seconds:
            print(f"waited for batches: {fed.waited_fraction:.1%} of the time")
        self._process.leave()

    def _checked(self, step: int, losses: Mapping[str, Any], batch: tuple) -> Mapping[str, float]:
        """Reads the numbers of a step. Raises UserError where one is not finite, unless float16 skips the step."""
        values = steps.read(losses)
        skipped = np.isfinite(values["loss"]) and values.get("loss_scale", 0.0) > MIN_LOSS_SCALE
        if not skipped and not all(np.isfinite(value) for value in values.values()):
            name = "gradient" if np.isfinite(values["loss"]) else "loss"
            raise steps.not_finite(f"the {name} of step {step}", str(self.run.folder), {**batch[0], **batch[1]})
        return values

    def _after(self, goal: Goal, schedule: Schedule, bar: tqdm) -> None:
        if self._ends_epoch(schedule):
            if self._process.first:
                self._evaluate(goal, bar)
            self.best, self.stale = self._process.agree([self.best, self.stale])
        if self._process.first and (self._ends_epoch(schedule) or self.step % schedule.save == 0):
            meta = {**self._meta, "step": self.step, "best": self.best, "stale": self.stale}
            checkpoints.save(self.run.last, self.model, self.optimizer, meta)

    def _evaluate(self, goal: Goal, bar: tqdm) -> None:
        values = dict(goal.evaluate())
        self.run.log(self.step, goal.split, values)
        value = float(values[goal.metric])
        if not np.isfinite(value):
            raise UserError(f"{goal.metric} of the evaluation after step {self.step} is {value}", str(self.run.folder),
                            fix="make the bank again with `kaleidobert records` if the pictures of the evaluation have broken features; "
                            "else start another run (run=...) with a lower train.learning_rate")
        bar.write(f"step {self.step}: {goal.metric} {value:.4f}")
        self.stale += 1
        if self.best is None or goal.improves(value, self.best):
            self.best, self.stale = value, 0
            checkpoints.save(self.run.best, self.model, None, {**self._meta, "step": self.step, goal.metric: value})

    def _gave_up(self, goal: Goal) -> bool:
        return 0 < goal.patience <= self.stale

    def _ends_epoch(self, schedule: Schedule) -> bool:
        return self.step % schedule.epoch == 0 or self.step == schedule.total

    def _resume(self) -> None:
        step = checkpoints.load_meta(self.run.last)["step"] if self._process.first and self.run.last.is_file() else None
        step = self._process.agree(step)
        if step is not None:
            self._process.wait_for(lambda: self.run.last.is_file() and checkpoints.load_meta(self.run.last)["step"] == step,
                                 "the checkpoint", str(self.run.last))
            meta = checkpoints.restore(self.run.last, self.model, self.optimizer)
            before = {"lineage": self._meta.get("lineage"), **meta}  # runs of earlier versions have no lineage
            changed = [name for name, value in self._meta.items() if before.get(name) != value]
            if changed:
                raise UserError(f"the run began with another {', '.join(changed)}", str(self.run.last),
                                fix="restore the bank as it was, or choose another folder with run=...")
            self.step, self.best, self.stale = meta["step"], meta["best"], meta.get("stale", 0)
            print(f"resuming {self.run.folder} at step {self.step}")
        self.run.rewind(self.step)


def _mean(values: Sequence[float]) -> float:
    """Averages the finite values: steps that float16 skips have no gradient."""
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else 0.0
