"""Fixtures of several test modules."""

import builtins
import errno
import os
import random
import sys

import pytest

from tests.support.browser import browser  # noqa: F401  a fixture
from tests.support.quick import run_eagerly, still, turn_graph_optimiser_off
from tests.support.servers import SECRETS, serving

NIGHTLY = ("test_processes.py", "test_step_memory.py")  # beside the programs of benchmarks/: scripts/test.sh --all
LONGEST = ("test_reduced_quickstart.py", "test_tour.py")  # the first one first
# processes that tests start need not compile all modules of the package and of the tests, each for itself
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.fixture(scope="session", autouse=True)
def cache_of_tests(tmp_path_factory):
    """No test reads or writes this user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KALEIDO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def server(monkeypatch):
    """An HTTP server on the loopback, reached without this machine's proxy and passwords."""
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("NETRC", "/nowhere")
    with serving() as server:
        yield server


@pytest.fixture
def interrupt(monkeypatch):
    """A function: from now on Ctrl-C is pressed in the given step of a training, counted from its start; 0 = never again."""
    from kaleidobert.engines import steps  # here: it takes seconds to load

    make = steps.train_step

    def press(number: int) -> None:
        def train_step(*arguments):
            update, done = make(*arguments), []

            def run(*batch):
                done.append(1)
                if len(done) == number:
                    raise KeyboardInterrupt
                return update(*batch)

            return run

        monkeypatch.setattr(steps, "train_step", train_step)

    return press


def pytest_collection_modifyitems(items):
    """Files with slow tests come first, and before them those that are one long test, so that several workers end together; xdist hands
    the files out in this order (scripts/test.sh)."""
    for item in items:
        if item.path.parent.name == "benchmarks" and item.path.name != "test_fuzz_tables.py" or item.path.name in NIGHTLY:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.nightly)
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: ([item.path.name != name for name in LONGEST], item.path not in slow))


def pytest_collection_finish():
    """TensorFlow's graph optimiser is off in this process: a third of the time of every small training. Most processes of their own, and
    the reduced quickstart, run with it. PyTorch notes nothing for gradients, so that outputs are read as those of other backends; where
    gradients are asked for, they are."""
    turn_graph_optimiser_off()
    if "torch" in sys.modules:
        sys.modules["torch"].set_grad_enabled(False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Commands in this process draw no curves and charts, a second of every training, but in tests that are marked ``plotted``; in those
    that are marked ``eager`` nothing is compiled."""
    with pytest.MonkeyPatch.context() as patch:
        eager = item.get_closest_marker("eager")
        if eager is not None and eager.args != (False,):
            run_eagerly(patch)
        if item.get_closest_marker("plotted") is None:
            from kaleidobert.evaluators.report import plots

            for name in ("loss_curves", "confusion", "rank_histogram", "located_parts"):
                patch.setattr(plots, name, lambda *arguments, **options: None)
        return (yield)


@pytest.fixture
def untrained(monkeypatch):
    """Steps that change nothing: for what happens around training. A fixture of a module calls ``still`` itself."""
    still(monkeypatch)


@pytest.fixture
def unfused(monkeypatch):
    """XLA compiles no layer, as of networks narrower than those of the shipped configurations: each of its functions takes a second."""
    monkeypatch.setattr("kaleidobert.layers.cpu_fusion.MIN_WIDTH", sys.maxsize)


@pytest.fixture
def full_disk(monkeypatch):
    """A function: from now on nothing can be written to files whose names hold ``part`` and end in ``ending``.

    With ".data-" TensorFlow, which does not write by ``open``, cannot write a checkpoint either.
    """
    real = builtins.open

    class Full:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    def save(prefix, **arguments):
        import tensorflow

        raise tensorflow.errors.ResourceExhaustedError(None, None, f"{prefix}.data-00000-of-00001; No space left on device")

    def fill(part: str = "", ending: str = ".tmp") -> None:
        if part == ".data-":
            monkeypatch.setattr("tensorflow.raw_ops.SaveV2", save)
        def opened(name, mode="r", *arguments, **named):
            file = real(name, mode, *arguments, **named)
            return Full(file) if part in str(name) and str(name).endswith(ending) and set(mode) & {"w", "a"} else file

        monkeypatch.setattr(builtins, "open", opened)

    return fill


@pytest.fixture(scope="session")
def service():
    """The address of an S3 service on the loopback."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def surroundings(monkeypatch, tmp_path):
    """Nothing of this machine's own settings, and an empty cache of remote files."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws/config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "aws/credentials"))
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("KALEIDO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def bucket(service, surroundings, monkeypatch):
    """A bucket of its own, reached by way of the environment."""
    import boto3

    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", service)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", SECRETS[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRETS[1])
    made = boto3.resource("s3").Bucket(f"bucket-{random.randrange(10**9)}")
    made.create()
    return made
