"""Which of how many processes this one is, as its launcher says in the environment."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

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
