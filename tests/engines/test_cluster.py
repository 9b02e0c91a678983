"""Who a process is among others, and how they meet, talk and end."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kaleidobert.engines.distributed import cluster
from kaleidobert.engines.distributed.cluster import Cluster
from kaleidobert.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("environment, expected", [
    ({}, Cluster()),
    ({"KALEIDO_RANK": "2", "KALEIDO_SIZE": "3", "KALEIDO_ADDRESS": "gpu1:1234"}, Cluster(2, 3, "gpu1:1234")),
    ({"KALEIDO_RANK": "0", "KALEIDO_SIZE": "3", "KALEIDO_ADDRESS": "gpu1", "RANK": "5", "WORLD_SIZE": "9"}, Cluster(0, 3, "gpu1:29400")),
    ({"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "500"}, Cluster(1, 2, "10.0.0.1:500")),
    ({"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "500", "TORCHELASTIC_USE_AGENT_STORE": "True"},
     Cluster(1, 2, "a:501")),
    ({"RANK": "0", "WORLD_SIZE": "1"}, Cluster()),
    ({"JOB_COMPLETION_INDEX": "3", "KALEIDO_SIZE": "4", "KALEIDO_ADDRESS": "job-0.svc:77"}, Cluster(3, 4, "job-0.svc:77")),
    ({"JOB_COMPLETION_INDEX": "3"}, Cluster()),  # one of many jobs of one process each
    ({"SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_JOB_ID": "41234", "SLURM_JOB_NODELIST": "gpu[07-09]"}, Cluster(5, 8, "gpu07:21234")),
    ({"SLURM_PROCID": "1", "SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "2", "SLURM_JOB_NODELIST": "a,b,c", "SLURM_STEP_NODELIST": "b,c"},
     Cluster(1, 2, "b:20000")),
    ({"SLURM_NTASKS": "8", "SLURM_JOB_ID": "1"}, Cluster()),  # a shell of salloc
])
def test_environments_of_launchers(environment, expected):
    assert cluster.read(environment) == expected


@pytest.mark.parametrize("environment, message", [
    ({"RANK": "1"}, "RANK is 1 and WORLD_SIZE is not set.*both, or neither"),
    ({"WORLD_SIZE": "2"}, "WORLD_SIZE is 2 and RANK is not set"),
    ({"KALEIDO_SIZE": "2", "KALEIDO_ADDRESS": "a:1"}, "KALEIDO_SIZE is 2 and KALEIDO_RANK is not set"),
    ({"RANK": "0", "WORLD_SIZE": "2"}, "MASTER_ADDR not set.*host:port of process 0"),
    ({"KALEIDO_RANK": "2", "KALEIDO_SIZE": "2", "KALEIDO_ADDRESS": "a:1"}, "KALEIDO_RANK is 2 and KALEIDO_SIZE is 2"),
    ({"RANK": "one", "WORLD_SIZE": "2"}, "RANK is 'one'.*a whole number"),
    ({"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, "SLURM_STEP_NODELIST and SLURM_JOB_NODELIST are not set.*srun"),
    ({"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "http"}, "MASTER_PORT is 'http'"),
])
def test_half_set_environments_are_refused(environment, message):
    with pytest.raises(UserError, match=message):
        cluster.read(environment)


@pytest.mark.parametrize("nodes, first", [("gpu01", "gpu01"), ("a,b", "a"), ("gpu[007-009,12]-ib,login", "gpu007-ib"), ("n[3,5]", "n3"),
                                          ("rack1-n[10-12],rack2-n1", "rack1-n10")])
def test_first_host_of_slurms_lists(nodes, first):
    assert cluster.first_host(nodes) == first


TALK = """
import sys, time
from kaleidobert.engines.distributed import cluster
from kaleidobert.engines.distributed.cluster import Cluster
rank, size, port, then = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
talk = cluster.connect(Cluster(rank, size, f"localhost:{port}"), float(sys.argv[5]))
print(talk.gather([rank, talk.host]), talk.broadcast({"step": rank}), flush=True)
if then == "wait":
    time.sleep(60)
elif then == "fail":
    talk.fail("the disk is full")
else:
    talk.leave()
"""


def talk(*endings: str, missing: int = 0, seconds: float = 30) -> list[subprocess.Popen]:
    """One process for each ending."""
    port, size = str(cluster.free_port()), str(len(endings) + missing)
    return [subprocess.Popen([sys.executable, "-c", TALK, str(rank), size, port, ending, str(seconds)], cwd=ROOT, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE) for rank, ending in enumerate(endings)]


def test_processes_meet_talk_and_part():
    done = [process.communicate(timeout=60) for process in talk("leave", "leave", "leave")]
    assert all(err == "" for _, err in done)
    assert {out for out, _ in done} == {"[[0, 'localhost'], [1, '127.0.0.1'], [2, '127.0.0.1']] {'step': 0}\n"}


@pytest.mark.parametrize("victim", [0, 1])
def test_the_loss_of_one_ends_all(victim):
    processes = talk("wait", "wait", "wait")
    for process in processes:
        process.stdout.readline()
    processes[victim].kill()
    for rank, process in enumerate(processes):
        _, err = process.communicate(timeout=20)
        if rank != victim:
            assert process.returncode == 2 and f"process {rank}: process {victim} of 3 is gone" in err and "last checkpoint" in err


def test_an_error_of_one_is_told_to_all():
    processes = talk("wait", "wait", "fail")
    for process in processes[:2]:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 2 and "process 2 of 3 ended: the disk is full" in err
    processes[2].communicate(timeout=20)


def test_who_does_not_come_is_named():
    first, = talk("leave", missing=2, seconds=1)
    assert "2 of 3 processes did not connect (1, 2)" in first.communicate(timeout=60)[1]
    code = json.dumps(f"localhost:{cluster.free_port()}")
    late = subprocess.run([sys.executable, "-c", "from kaleidobert.engines.distributed import cluster; "
                           f"cluster.connect(cluster.Cluster(1, 2, {code}), 0.5)"], cwd=ROOT, text=True, capture_output=True)
    assert "process 1 does not reach process 0" in late.stderr
