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
from keras import ops

from kaleidobert.engines import feeding
from kaleidobert.engines.feeding import Metered, prefetch, to_device
from kaleidobert.errors import UserError
from kaleidobert.preprocessors import features as stored


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
    assert fast.waited_fraction < 0.3 and slow.waited_fraction > 0.7 and slow.waited <= slow.seconds
    assert Metered([]).waited_fraction == 0 and list(Metered([1, 2])) == [1, 2]


def test_batches_are_put_on_the_device_with_the_same_content():
    batch = {"x": np.arange(6, dtype=np.float16)}, {"y": np.array([1, 2], np.uint8)}, {"y": np.ones(2, np.float32)}
    for before, after in zip(batch, to_device()(batch), strict=True):
        for name in before:
            assert keras.ops.is_tensor(after[name]) and np.array_equal(before[name], keras.ops.convert_to_numpy(after[name]))
            assert keras.backend.standardize_dtype(after[name].dtype) == before[name].dtype.name


# --- Bytes with a scale in place of floats


def relu_like(*shape) -> np.ndarray:
    rng = np.random.Generator(np.random.Philox(3))
    return (rng.gamma(0.6, 0.8, shape) * (rng.random(shape) < 0.65)).astype(np.float16)


def test_a_vector_loses_half_a_step_at_most():
    features = relu_like(40, 7, 512)
    numbers, scale = stored.quantise(features)
    assert numbers.dtype == np.uint8 and scale.dtype == np.float32 and numbers.shape == features.shape and scale.shape == (40, 7)
    assert (numbers.max(-1) == 255).all()
    back = stored.dequantise(numbers, scale)
    error = np.abs(back.astype(np.float32) - features)
    assert back.dtype == np.float16 and (error <= scale[..., None] * 0.51 + 1e-3 * features).all()
    lost = np.linalg.norm(error, axis=-1) / np.linalg.norm(features.astype(np.float32), axis=-1)
    assert 1e-4 < lost.mean() < 1e-2
    assert np.array_equal(stored.quantise(back)[0], numbers)  # once more changes nothing


def test_zero_stays_zero_and_what_bytes_cannot_hold_is_refused():
    numbers, scale = stored.quantise(np.zeros((2, 5), np.float16))
    assert not numbers.any() and not scale.any() and not stored.dequantise(numbers, scale).any()
    assert stored.quantise(np.zeros((0, 5), np.float16))[0].shape == (0, 5)
    tiny = np.array([[0, 3e-7, 6e-8]], np.float16)
    assert np.allclose(stored.dequantise(*stored.quantise(tiny)), tiny, atol=6e-8)
    with pytest.raises(UserError, match=r"a feature is -0.5.*storage=float16"):
        stored.quantise(np.array([[1, -0.5]], np.float16))


def test_the_compiled_step_reads_what_the_bank_holds():
    features = relu_like(3, 4, 16)
    numbers, scale = stored.quantise(features)
    sent = {"patch_features": numbers, "patch_features_scale": scale, "boxes": np.ones(3, np.float32)}
    here, there = stored.to_floats(sent), feeding.dequantize({name: ops.convert_to_tensor(array) for name, array in sent.items()})
    assert set(here) == set(there) == {"patch_features", "boxes"}
    assert here["patch_features"].dtype == np.float16
    np.testing.assert_allclose(ops.convert_to_numpy(there["patch_features"]), here["patch_features"], rtol=1e-3)
    np.testing.assert_array_equal(ops.convert_to_numpy(there["patch_features"]), numbers * scale[..., None])


def test_floats_pass_untouched_whatever_their_names():
    sent = {"grey": np.ones((2, 3), np.float16), "grey_scale": np.ones(2, np.float32), "bytes": np.ones(2, np.uint8)}
    for expand in (feeding.dequantize, stored.to_floats):
        found = expand(sent)
        assert set(found) == set(sent) and all(found[name] is sent[name] for name in sent)
