"""Data parallel training: on several devices of one process, and in several processes on one host or many.

    with distribution.over(config.train):      # before the first variable is made
        ...                                    # a model, Trainer.fit, and, in process 0 alone, what comes behind it

TensorFlow: MirroredStrategy, or MultiWorkerMirroredStrategy over processes. JAX: one program on a mesh of all devices. Every
process computes its rows of each batch; process 0 alone writes, evaluates and prints. The run folder must be one that all share.
"""

import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stdout
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np

from kaleidobert.configs import Train
from kaleidobert.engines.distributed import channel as channels
from kaleidobert.engines.distributed import cluster as clusters
from kaleidobert.engines.distributed.channel import Channel
from kaleidobert.engines.distributed.cluster import Cluster
from kaleidobert.engines.feeding import to_device
from kaleidobert.errors import UserError

WAIT = "KALEIDO_WAIT"  # seconds in which all processes must have come
LATER = 15.0  # seconds in which the loss of a process is noticed after an operation with it failed
SHARED = 60.0  # seconds in which a file that process 0 wrote must be seen by the others: network file systems remember for a while

Arrays = Mapping[str, np.ndarray]
Batch = tuple[Arrays, Arrays, Arrays]  # inputs, targets, weights
Part = Callable[[int, int, int], tuple[Arrays, Arrays, Arrays, Arrays]]


class WorkerDone(BaseException):
    """Raised where a process other than 0 has done its part."""


@dataclass(frozen=True)
class Place:
    """This process among all: ``devices`` of its own, TensorFlow's strategy or JAX's mesh over the devices of all."""

    cluster: Cluster = Cluster()
    devices: tuple = ()
    strategy: Any = None
    mesh: Any = None
    channel: Channel | None = None

    @property
    def replicas(self) -> int:
        """Parts into which a batch is split."""
        return self.cluster.size * max(1, len(self.devices))

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.cluster.rank == 0

    def agree(self, value: Any = None) -> Any:
        """Process 0's value in every process; waits for it."""
        return value if self.channel is None else self.channel.broadcast(value)

    def wait_for(self, seen: Callable[[], bool], what: str, where: str) -> None:
        """Wait until a file of process 0 is seen here. Raises UserError where it does not appear: the folder is another one."""
        end = time.monotonic() + SHARED
        while not seen():
            if time.monotonic() > end:
                raise UserError(f"{what} of process 0 is not seen by process {self.cluster.rank} on {socket.gethostname()}", where,
                                "one folder that all processes share", "set run= to a folder on a file system that all hosts have")
            time.sleep(0.2)

    def leave(self) -> None:
        """End the part of a process other than 0: it waits until process 0 is done with everything."""
        if not self.first:
            raise WorkerDone


ALONE = Place()
_HERE: ContextVar[Place] = ContextVar("place")


def here() -> Place:
    """Where this process stands; one device of one process outside of ``over``."""
    return _HERE.get(ALONE)


@contextmanager
def over(train: Train) -> Iterator[Place]:
    """All variables made inside live on train.devices devices of all processes that the environment names (cluster.read).

    Raises UserError where the environment is half set, not all processes come, or there are fewer devices. In processes other than 0
    the block is left by ``Place.leave``, standard output is silent, and the loss of a process ends all others (channel).
    """
    cluster = clusters.read(os.environ)
    if cluster.size == 1 and train.devices == 1:
        yield ALONE
        return
    with ExitStack() as stack:
        channel = None
        if cluster.size > 1:
            channel = channels.connect(cluster, float(os.environ.get(WAIT, 600)))
            if cluster.rank:
                stack.enter_context(redirect_stdout(stack.enter_context(open(os.devnull, "w", encoding="utf-8"))))
        with _told(channel):
            place = Place(cluster, channel=channel, **_backend().setup(cluster, train.devices, channel))
            if place.strategy is not None:
                stack.enter_context(place.strategy.scope())
            token = _HERE.set(place)
            try:
                yield place
            except WorkerDone:
                pass
            finally:
                _HERE.reset(token)


def feed(
    batch: Callable[[int], Batch], gradient_accumulation_steps: int = 1, part: Part | None = None
) -> Callable[[int], tuple[Batch, tuple]]:
    """A function step -> (rows of this process, what the function of steps.train_step takes: them on the devices).

    part(step, k, n): inputs, targets and weights of the k-th of n equal parts of the batch, and the weights of all of it; None:
    every process makes the whole batch and keeps its rows. Raises UserError where a batch cannot be split evenly.
    """
    place = here()
    alone = to_device()

    def made(step: int) -> tuple[Batch, tuple]:
        if part is not None and place.cluster.size > 1:
            inputs, targets, weights, whole = part(step, place.cluster.rank, place.cluster.size)
        else:
            inputs, targets, weights, whole = split(batch(step), place, gradient_accumulation_steps)
        own = inputs, targets, weights
        return own, alone(own) if place.replicas == 1 else _backend().put(place, own, whole)

    return made


def split(batch: Batch, place: Place, gradient_accumulation_steps: int) -> tuple[Arrays, Arrays, Arrays, Arrays]:
    """This process's rows of a batch, and all weights. Raises UserError where the parts would not be equal."""
    pieces = place.replicas * gradient_accumulation_steps
    if pieces == 1:
        return (*batch, batch[2])
    counts = {name: len(array) for part in batch for name, array in part.items()}
    rows = next(iter(counts.values()))
    if set(counts.values()) != {rows}:
        raise UserError(f"the arrays of a batch have {sorted(set(counts.values()))} rows", "the training step", "equal numbers of rows")
    if rows % pieces:
        raise UserError(
            f"a batch has {rows} rows, which cannot be split over {place.replicas} devices and {gradient_accumulation_steps} micro-batches",
            "train.batch_size",
            f"a multiple of {pieces} rows",
            "choose another train.batch_size or train.gradient_accumulation_steps",
        )
    own = rows // place.cluster.size
    first = place.cluster.rank * own
    inputs, targets, weights = ({name: array[first : first + own] for name, array in part.items()} for part in batch)
    return inputs, targets, weights, batch[2]


@contextmanager
def _told(channel: Channel | None) -> Iterator[None]:
    """Farewell to the other processes at the end, or word of an error."""
    if channel is None:
        yield
        return
    try:
        yield
    except Exception as error:
        if not isinstance(error, UserError):  # of a collective operation, often, whose other end was lost: the channel knows
            channel.failing.wait(LATER)
        if channel.failing.is_set():
            time.sleep(LATER)  # the channel ends this process
        channel.fail(str(error) or type(error).__name__)
        raise
    except BaseException:
        channel.fail("interrupted")
        raise
    channel.leave(_backend().close)


def _backend():
    import keras  # here: a run folder needs no network library

    if keras.backend.backend() == "jax":
        from kaleidobert.engines import backend_jax as backend
    else:
        from kaleidobert.engines import backend_tensorflow as backend
    return backend
