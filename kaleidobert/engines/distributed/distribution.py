"""Data parallel training: on several devices of one process, and in several processes on one host or many.

    with distribution.scope(config.train):      # before the first variable is made
        ...                                    # a model, Trainer.fit, and, in process 0 alone, what follows it

TensorFlow: MirroredStrategy, or MultiWorkerMirroredStrategy over processes. JAX: one program on a mesh of all devices. PyTorch: a group of
processes with one device each. Every process computes its rows of each batch; process 0 alone writes, evaluates and prints. All must see
one run folder.
"""

import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stdout
from contextvars import ContextVar
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from kaleidobert.configs import Train
from kaleidobert.engines.distributed import cluster as clusters
from kaleidobert.engines.distributed.cluster import Channel, Cluster
from kaleidobert.engines.feeding import to_device
from kaleidobert.errors import UserError

WAIT = "KALEIDO_WAIT"  # seconds in which all processes must connect
LOSS_DELAY = 15.0  # seconds from a failed operation to the news that the process at its other end is lost
FILE_DELAY = 60.0  # seconds in which the others must see a file that process 0 wrote: network file systems cache

Arrays = Mapping[str, np.ndarray]
Batch = tuple[Arrays, Arrays, Arrays]  # inputs, targets, weights
ShardMaker = Callable[[int, int, int], tuple[Arrays, Arrays, Arrays, Arrays]]  # (step, k, n) -> the k-th of n shards, and all weights


class WorkerDone(BaseException):
    """Raised in a process other than 0 when its work is done."""


@dataclass(frozen=True)
class Process:
    """This process among all of the run: its own ``devices``, and TensorFlow's strategy, JAX's mesh or PyTorch's group over all."""

    cluster: Cluster = Cluster()
    devices: tuple = ()
    strategy: Any = None
    mesh: Any = None
    group: Any = None
    channel: Channel | None = None

    @property
    def replicas(self) -> int:
        """The number of devices of all processes, over which a batch is split."""
        return self.cluster.size * max(1, len(self.devices))

    @property
    def first(self) -> bool:
        """Whether this is process 0, which writes and prints."""
        return self.cluster.rank == 0

    def agree(self, value: Any = None) -> Any:
        """Returns process 0's value in every process; waits for it."""
        return value if self.channel is None else self.channel.broadcast(value)

    def wait_for(self, is_there: Callable[[], bool], what: str, where: str) -> None:
        """Waits until this process sees a file of process 0. Raises UserError where it does not appear: the folder is not shared."""
        end = time.monotonic() + FILE_DELAY
        while not is_there():
            if time.monotonic() > end:
                raise UserError(f"{what} of process 0 is not seen by process {self.cluster.rank} on {socket.gethostname()}", where,
                                "one folder that all processes share", "set run= to a folder on a file system that all hosts have")
            time.sleep(0.2)

    def leave(self) -> None:
        """Ends the work of a process other than 0, which then waits until process 0 is done with everything."""
        if not self.first:
            raise WorkerDone


SINGLE_PROCESS = Process()
_HERE: ContextVar[Process] = ContextVar("process")


def current_process() -> Process:
    """Returns this process among all; outside of ``scope`` it is alone, with one device."""
    return _HERE.get(SINGLE_PROCESS)


@contextmanager
def scope(train: Train) -> Iterator[Process]:
    """Places all variables made inside on train.devices devices of every process that the environment names (cluster.read).

    In processes other than 0 the block ends with ``Process.leave`` and standard output is silent. The loss of a process ends all others
    (channel). Raises UserError where the environment is half set, not all processes connect, or there are too few devices.
    """
    cluster = clusters.read(os.environ)
    if cluster.size == 1 and train.devices == 1:
        yield SINGLE_PROCESS
        return
    with ExitStack() as stack:
        channel = None
        if cluster.size > 1:
            channel = clusters.connect(cluster, float(os.environ.get(WAIT, 600)))
            if cluster.rank:
                stack.enter_context(redirect_stdout(stack.enter_context(open(os.devnull, "w", encoding="utf-8"))))
        with _farewell(channel):
            process = Process(cluster, channel=channel, **backend().setup(cluster, train.devices, channel))
            if process.strategy is not None:
                stack.enter_context(process.strategy.scope())
            token = _HERE.set(process)
            try:
                yield process
            except WorkerDone:
                pass
            finally:
                _HERE.reset(token)


def feed(
    batch: Callable[[int], Batch], gradient_accumulation_steps: int = 1, make_shard: ShardMaker | None = None
) -> Callable[[int], tuple[Batch, tuple]]:
    """Makes a function step -> (rows of this process, the same on the devices, as the function of steps.train_step takes them).

    make_shard(step, k, n): inputs, targets and weights of the k-th of n equal shards of the batch, and the weights of the whole batch;
    None: every process makes the whole batch and keeps its rows. Raises UserError where a batch cannot be split evenly.
    """
    process = current_process()
    put_on_device = to_device()

    def made(step: int) -> tuple[Batch, tuple]:
        if make_shard is not None and process.cluster.size > 1:
            inputs, targets, weights, whole = make_shard(step, process.cluster.rank, process.cluster.size)
        else:
            inputs, targets, weights, whole = split(batch(step), process, gradient_accumulation_steps)
        own = inputs, targets, weights
        return own, put_on_device(own) if process.replicas == 1 else backend().put(process, own, whole)

    return made


def split(batch: Batch, process: Process, gradient_accumulation_steps: int) -> tuple[Arrays, Arrays, Arrays, Arrays]:
    """Returns this process's rows of a batch, and the weights of all rows. Raises UserError where it does not split evenly."""
    micro_batches = process.replicas * gradient_accumulation_steps
    if micro_batches == 1:
        return (*batch, batch[2])
    counts = {name: len(array) for arrays in batch for name, array in arrays.items()}
    rows = next(iter(counts.values()))
    if set(counts.values()) != {rows}:
        raise UserError(f"the arrays of a batch have {sorted(set(counts.values()))} rows", "the training step", "equal numbers of rows")
    if rows % micro_batches:
        raise UserError(
            f"a batch has {rows} rows, which cannot be split over {process.replicas} devices and {gradient_accumulation_steps} "
            "micro-batches",
            "train.batch_size",
            f"a multiple of {micro_batches} rows",
            "choose another train.batch_size or train.gradient_accumulation_steps",
        )
    own = rows // process.cluster.size
    first = process.cluster.rank * own
    inputs, targets, weights = ({name: array[first : first + own] for name, array in arrays.items()} for arrays in batch)
    return inputs, targets, weights, batch[2]


@contextmanager
def _farewell(channel: Channel | None) -> Iterator[None]:
    """Sends the other processes at the end the news that this one is done, or failed."""
    if channel is None:
        yield
        return
    try:
        yield
    except Exception as error:
        if not isinstance(error, UserError):  # often of a collective operation whose other end was lost: the channel says so
            channel.failing.wait(LOSS_DELAY)
        if channel.failing.is_set():
            time.sleep(LOSS_DELAY)  # the channel ends this process
        channel.fail(str(error) or type(error).__name__)
        raise
    except BaseException:
        channel.fail("interrupted")
        raise
    channel.leave(backend().close)


def backend() -> ModuleType:
    """Returns engines.backend_jax, engines.backend_torch or engines.backend_tensorflow, whichever Keras runs on."""
    import keras  # here: a run folder needs no network library

    if keras.backend.backend() == "jax":
        from kaleidobert.engines import backend_jax

        return backend_jax
    if keras.backend.backend() == "torch":
        from kaleidobert.engines import backend_torch

        return backend_torch
    from kaleidobert.engines import backend_tensorflow

    return backend_tensorflow
