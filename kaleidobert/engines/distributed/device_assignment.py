"""Which of a host's GPUs belong to a process where several run on one host."""

import socket

from kaleidobert.engines.distributed.channel import Channel
from kaleidobert.errors import UserError


def own_devices(channel: Channel, visible: int, wanted: int) -> list[int]:
    """The numbers, among those that this process sees, of the GPUs that it takes. wanted 0: as many as there are for each.

    A launcher may show every process its own GPUs only; where all see all of them, they take them in the order of their ranks.
    All processes must call it. Raises UserError where there are too few.
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
