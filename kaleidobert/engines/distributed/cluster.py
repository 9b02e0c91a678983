"""The processes of a run: which one this is, as its launcher says in the environment, and the control channel between them.

Every process keeps one TCP connection to process 0 for the whole run. It carries small values (an address, a result of an
evaluation), never gradients. A connection that closes without a farewell is a process that was killed or whose host went down
(TCP's keep-alive notices within about half a minute): every other process then reports it and ends.
"""

import json
import os
import queue
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kaleidobert.errors import UserError

# (launcher, {what: names of variables, of which the first that is set counts}); the first row whose rank and size are set counts
LAUNCHERS = (
    ("KALEIDO_*", {"rank": ("KALEIDO_RANK",), "size": ("KALEIDO_SIZE",), "address": ("KALEIDO_ADDRESS",)}),
    ("torchrun, PyTorchJob", {"rank": ("RANK",), "size": ("WORLD_SIZE",), "address": ("MASTER_ADDR",), "port": ("MASTER_PORT",)}),
    ("an indexed Kubernetes job", {"rank": ("JOB_COMPLETION_INDEX",), "size": ("KALEIDO_SIZE", "WORLD_SIZE"),
                                   "address": ("KALEIDO_ADDRESS", "MASTER_ADDR"), "port": ("MASTER_PORT",)}),
    ("SLURM (srun)", {"rank": ("SLURM_PROCID",), "size": ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"),
                      "nodes": ("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST"), "job": ("SLURM_JOB_ID",)}),
)
PORT = 29400  # of process 0, where the environment has none
# rank and size of launchers that set both in every process; one of them alone is a mistake
PAIRS = (("KALEIDO_RANK", "KALEIDO_SIZE"), ("RANK", "WORLD_SIZE"))


@dataclass(frozen=True)
class Cluster:
    """This process is number ``rank`` of ``size``; all connect to ``address``, host:port of number 0."""

    rank: int = 0
    size: int = 1
    address: str = ""


def read(environment: Mapping[str, str]) -> Cluster:
    """Reads the variables of KALEIDO_*, torchrun, Kubernetes or SLURM; one process where none of them is set.

    Raises UserError where a variable is missing or is no number.
    """
    for launcher, names in LAUNCHERS:
        rank, size = (_first(environment, names[what]) for what in ("rank", "size"))
        if rank is None or size is None:
            continue
        if not _number(rank) < _number(size):
            raise UserError(f"{rank[0]} is {rank[1]} and {size[0]} is {size[1]}", f"the environment, of {launcher}",
                            "ranks from 0 on, below the number of processes")
        return Cluster(_number(rank), _number(size), _address(environment, launcher, names)) if _number(size) > 1 else Cluster()
    for pair in PAIRS:
        present = [name for name in pair if environment.get(name)]
        if len(present) == 1 and not (present[0] in ("WORLD_SIZE", "KALEIDO_SIZE") and environment[present[0]] == "1"):
            other = pair[1 - pair.index(present[0])]
            raise UserError(f"{present[0]} is {environment[present[0]]} and {other} is not set", "the environment", "both, or neither",
                            f"set {other} as well, or unset {present[0]} for one process")
    return Cluster()


def first_host(nodes: str) -> str:
    """Returns the first host of a list in SLURM's notation: "gpu[007-009,12]-ib,login" -> "gpu007-ib"."""
    match = re.match(r"([^\[,]*)(?:\[([^\],-]+)[^\]]*\]([^,]*))?", nodes)
    assert match is not None  # the pattern matches the empty text, too
    return "".join(group or "" for group in match.groups())


def _address(environment: Mapping[str, str], launcher: str, names: Mapping[str, tuple[str, ...]]) -> str:
    """Returns host:port at which process 0 listens."""
    if "nodes" in names:
        nodes, job = (_first(environment, names[what]) for what in ("nodes", "job"))
        if nodes is None:
            raise UserError(f"{' and '.join(names['nodes'])} are not set", f"the environment, of {launcher}", "the list of hosts",
                            "start the processes with srun")
        port = 20000 + (_number(job) if job else 0) % 20000  # two jobs on a host do not meet
        return f"{first_host(nodes[1])}:{port}"
    address = _first(environment, names["address"])
    if address is None:
        raise UserError(f"{' and '.join(names['address'])} not set", f"the environment, of {launcher}", "host:port of process 0",
                        f"set {names['address'][0]}")
    host, _, named = address[1].rpartition(":") if ":" in address[1] else (address[1], "", "")
    port_variable = _first(environment, names.get("port", ()))
    number = _number((address[0], named)) if named else _number(port_variable) if port_variable else PORT
    # torchrun's agent listens at the port that it names
    return f"{host}:{number + (environment.get('TORCHELASTIC_USE_AGENT_STORE') == 'True')}"


def _first(environment: Mapping[str, str], names: tuple[str, ...]) -> tuple[str, str] | None:
    return next(((name, environment[name]) for name in names if environment.get(name)), None)


def _number(named: tuple[str, str]) -> int:
    if not named[1].isdecimal():
        raise UserError(f"{named[0]} is {named[1]!r}", "the environment", "a whole number")
    return int(named[1])


# --- The control channel, and the end of all processes where one is lost


FAREWELL_TIMEOUT = 30.0  # seconds that process 0 waits for the others at the end
LOSS_NOTICE = 1.0  # seconds in which process 0's message of a loss reaches the others before its connections close
KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}  # a silent peer is probed after 10 s, and lost 20 s later


class Peer:
    """One connection: JSON lines out, a queue of JSON values in, filled by a thread."""

    def __init__(self, connection: socket.socket, rank: int):
        connection.settimeout(None)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for option, value in KEEPALIVE.items():
            if hasattr(socket, option):  # not on every system
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        self.rank, self.connection = rank, connection
        self.lines = connection.makefile("r", encoding="utf-8")
        self.inbox: queue.Queue[Any] = queue.Queue()
        self.done = threading.Event()  # a farewell was received or sent
        self._writing = threading.Lock()

    def send(self, message: str, value: Any = None) -> None:
        """Sends a message: "value", "done", "failed" or "lost". Ignores errors: the reading thread finds out why the connection broke."""
        try:
            with self._writing:
                self.connection.sendall((json.dumps([message, value]) + "\n").encode())
        except OSError:
            pass


class Channel:
    """Process ``cluster.rank`` among the others. ``peers``: at process 0 all others, elsewhere process 0 alone."""

    def __init__(self, cluster: Cluster, peers: list[Peer]):
        self.cluster, self.peers, self.failing = cluster, {peer.rank: peer for peer in peers}, threading.Event()
        self._closing = False
        for peer in peers:
            threading.Thread(target=self._read, args=(peer,), daemon=True, name=f"peer {peer.rank}").start()

    @property
    def host(self) -> str:
        """The name or address at which others reach this machine."""
        if self.cluster.rank == 0:
            return self.cluster.address.rpartition(":")[0]
        return self.peers[0].connection.getsockname()[0]

    def broadcast(self, value: Any = None) -> Any:
        """Returns process 0's value, which is JSON-able, in every process."""
        if self.cluster.rank:
            return self.peers[0].inbox.get()
        for peer in self.peers.values():
            peer.send("value", value)
        return value

    def gather(self, value: Any) -> list[Any]:
        """Returns the JSON-able values of all processes, in the order of their ranks, in every process."""
        if self.cluster.rank:
            self.peers[0].send("value", value)
            return self.broadcast()
        return self.broadcast([value] + [self.peers[rank].inbox.get() for rank in range(1, self.cluster.size)])

    def leave(self, close: Callable[[], None] = lambda: None) -> None:
        """Ends the channel when process 0 is done with everything. All others call close() first, process 0 after them."""
        if self.cluster.rank:
            self.peers[0].done.wait()
            self._closing = True
            close()
            self.peers[0].send("done")
            return
        self._closing = True
        for peer in self.peers.values():
            peer.send("done")
        for peer in self.peers.values():
            peer.done.wait(FAREWELL_TIMEOUT)
        close()

    def fail(self, what: str) -> None:
        """Sends the others the news that this process ends with an error."""
        self._closing = True
        for peer in self.peers.values():
            peer.send("failed", what)

    def _read(self, peer: Peer) -> None:
        what = f"process {peer.rank} of {self.cluster.size} is gone: killed, or its machine or network is down"
        try:
            for line in peer.lines:
                message, value = json.loads(line)
                if message == "value":
                    peer.inbox.put(value)
                elif message == "done":
                    peer.done.set()
                elif message == "failed":
                    what = f"process {peer.rank} of {self.cluster.size} ended: {value}"
                    break
                elif message == "lost":
                    what = value
                    break
        except (OSError, ValueError):
            pass
        if not peer.done.is_set() and not self._closing:
            self._end(what)

    def _end(self, what: str) -> None:
        """Reports the loss, passes it on, and ends this process: its main thread may be waiting for the lost one for ever."""
        if self.failing.is_set():
            return
        self.failing.set()
        for peer in self.peers.values():
            peer.send("lost", what)
        error = UserError(what, f"process {self.cluster.rank}", fix="what was saved stays: start all processes again with the same "
                            "command, and the run continues from its last checkpoint")
        print(f"\nkaleidobert: {error}", file=sys.stderr, flush=True)
        if self.cluster.rank == 0:
            time.sleep(LOSS_NOTICE)
        os._exit(2)


def connect(cluster: Cluster, seconds: float) -> Channel:
    """Connects to the other processes. Raises UserError where some are missing after ``seconds``, and where process 0's port is taken."""
    host, _, port = cluster.address.rpartition(":")
    end = time.monotonic() + seconds
    peers = _accept(cluster, int(port), end) if cluster.rank == 0 else [_call(cluster, host, int(port), end)]
    channel = Channel(cluster, peers)
    channel.gather(cluster.rank)
    return channel


def free_port() -> int:
    """Finds a port of this machine at which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


def _accept(cluster: Cluster, port: int, end: float) -> list[Peer]:
    peers: dict[int, Peer] = {}
    try:
        server = socket.create_server(("", port), backlog=cluster.size)
    except OSError as error:
        raise UserError(f"process 0 cannot listen at port {port} ({error.strerror or error})", cluster.address, "a free port",
                        "name another one, such as KALEIDO_ADDRESS=host:port, or end the run that has it") from error
    with server:
        while len(peers) < cluster.size - 1:
            server.settimeout(max(0.01, end - time.monotonic()))
            try:
                connection, _ = server.accept()
                connection.settimeout(10)
                peer = _welcome(connection, cluster)
            except TimeoutError:
                if time.monotonic() < end:
                    continue
                missing = [str(rank) for rank in range(1, cluster.size) if rank not in peers]
                raise UserError(f"{len(missing)} of {cluster.size} processes did not connect ({', '.join(missing[:8])})", cluster.address,
                                "all of them", "start every process, with the same address and number of processes") from None
            if peer is not None and peer.rank in peers:
                raise UserError(f"two processes have the rank {peer.rank}", cluster.address, "every rank once")
            if peer is not None:
                peers[peer.rank] = peer
    return list(peers.values())


def _welcome(connection: socket.socket, cluster: Cluster) -> Peer | None:
    """Reads who connects; None for anything but a process of this package."""
    line = b""
    try:
        while not line.endswith(b"\n") and len(line) < 200:
            byte = connection.recv(1)
            if not byte:
                break
            line += byte
        name, *numbers = line.decode().split()
        size, rank = map(int, numbers)
    except (ValueError, OSError):
        connection.close()
        return None
    if name != "kaleidobert":
        connection.close()
        return None
    if size != cluster.size or not 0 < rank < cluster.size:
        raise UserError(f"a process says that it is number {rank} of {size}", cluster.address, f"one of {cluster.size}",
                        "start all processes with the same number of processes")
    return Peer(connection, rank)


def _call(cluster: Cluster, host: str, port: int, end: float) -> Peer:
    while True:
        try:
            connection = socket.create_connection((host, port), timeout=5)
            connection.sendall(f"kaleidobert {cluster.size} {cluster.rank}\n".encode())
            return Peer(connection, 0)
        except OSError as error:
            if time.monotonic() > end:
                raise UserError(f"process {cluster.rank} does not reach process 0 ({error.strerror or error})", cluster.address,
                                "a running process 0", "start process 0, or correct the address") from error
            time.sleep(0.2)


def own_devices(channel: Channel, visible: int, wanted: int) -> list[int]:
    """Returns the indices, among the ``visible`` GPUs, of those that this process uses. wanted 0: an equal number for each process.

    A launcher may show every process its own GPUs only; where all see all of them, they take them in the order of their ranks.
    All processes of a run must call it. Raises UserError where there are too few.
    """
    hosts = channel.gather(socket.gethostname())
    rank = channel.cluster.rank
    number, neighbours = hosts[:rank].count(hosts[rank]), hosts.count(hosts[rank])
    each = wanted or max(1, visible // neighbours)
    if not visible:
        return []
    if visible == each:
        return list(range(each))
    if visible < each * neighbours:
        raise UserError(f"{neighbours} processes with {each} GPU(s) each run on {hosts[rank]}", f"{visible} GPU(s)",
                        f"{each * neighbours}", "start fewer processes on a host, or set train.devices")
    return list(range(number * each, (number + 1) * each))
