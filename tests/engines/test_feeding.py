"""Batches ahead of the step: in order, with any number of workers, and nothing is left behind however it ends."""

import os
import signal
import subprocess
import sys
import threading
import time
from itertools import count

import keras
import numpy as np
import pytest

from kaleidobert.engines.feeding import Metered, on_device, prefetch
from kaleidobert.errors import UserError


def ours() -> list[threading.Thread]:
    """The threads of prefetch that are alive."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


@pytest.mark.parametrize("workers, depth", [(1, 1), (1, 2), (2, 2), (4, 1), (3, 9)])
def test_the_order_is_that_of_the_numbers(workers, depth):
    def make(number):
        time.sleep(0.004 * (number % 3 == 0))  # later ones are done before earlier ones
        return number

    assert list(prefetch(make, range(20), workers, depth)) == list(range(20)) and not ours()
    assert list(prefetch(make, [], workers, depth)) == []
    assert list(prefetch(lambda number: make(number) if number < 7 else None, count(), workers, depth)) == list(range(7)) and not ours()


@pytest.mark.parametrize("workers, depth", [(1, 1), (1, 2), (3, 2), (2, 5)])
def test_so_many_are_made_ahead_and_no_more(workers, depth):
    begun, ahead = [], max(workers, depth)
    for number in prefetch(lambda number: begun.append(number) or [number], range(30), workers, depth):
        time.sleep(0.005)
        assert len(begun) <= number[0] + ahead + 1
    assert sorted(begun) == list(range(30))


def test_workers_work_at_the_same_time():
    meeting = threading.Barrier(3, timeout=10)  # broken, an error, where fewer than three come
    assert len(list(prefetch(lambda number: meeting.wait() is not None, range(6), workers=3))) == 6


@pytest.mark.parametrize("workers", [1, 4])
def test_an_error_comes_in_its_turn_as_it_was_raised(workers):
    def make(number):
        if number == 5:
            raise UserError("the shard is gone", "somewhere", "a shard", "put it back")
        return number

    got = []
    with pytest.raises(UserError, match="somewhere: the shard is gone; expected: a shard; to fix: put it back"):
        for number in prefetch(make, range(99), workers):
            got.append(number)
    assert got == [0, 1, 2, 3, 4] and not ours()


@pytest.mark.parametrize("workers", [1, 3])
def test_a_consumer_that_stops_leaves_no_thread_behind(workers):
    begun = []
    batches = prefetch(lambda number: begun.append(number) or [number], range(1000), workers, 4)
    next(batches)
    assert ours()
    batches.close()
    assert not ours() and len(begun) < 10
    for _ in Metered(prefetch(lambda number: [number], range(1000), workers, 4)):
        break
    assert not ours()


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_control_c_ends_at_once():
    code = """
import signal, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits that it is ignored
from kaleidobert.engines.feeding import Metered, prefetch
def make(number):
    time.sleep(0.05)
    return number
try:
    for number in Metered(prefetch(make, range(10**6), 3, 50)):
        last = time.monotonic()
        print(number, flush=True)
except KeyboardInterrupt:
    print(time.monotonic() - last, threading.active_count())
    raise
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "0\n"
        process.send_signal(signal.SIGINT)
        written, errors = process.communicate(timeout=60)
    seconds, threads = written.splitlines()[-1].split()
    # with 50 batches ahead of three threads, which would take a second if they were waited for
    assert "KeyboardInterrupt" in errors and process.returncode and float(seconds) < 0.6 and threads == "1"


def test_the_wait_for_input_is_measured():
    fast = Metered(prefetch(lambda number: [number], range(8)))
    for _ in fast:
        time.sleep(0.01)
    slow = Metered(prefetch(lambda number: time.sleep(0.02) or [number], range(8)))
    for _ in slow:
        pass
    assert fast.share < 0.3 and slow.share > 0.7 and slow.waited <= slow.seconds
    assert Metered([]).share == 0 and list(Metered([1, 2])) == [1, 2]


def test_batches_are_put_on_the_device_with_the_same_content():
    batch = {"x": np.arange(6, dtype=np.float16)}, {"y": np.array([1, 2], np.uint8)}, {"y": np.ones(2, np.float32)}
    found = on_device(lambda number: batch if number else None)
    assert found(0) is None
    for before, after in zip(batch, found(1)):
        for name in before:
            assert keras.ops.is_tensor(after[name]) and np.array_equal(before[name], keras.ops.convert_to_numpy(after[name]))
            assert keras.backend.standardize_dtype(after[name].dtype) == before[name].dtype.name
