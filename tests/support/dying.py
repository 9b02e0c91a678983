"""What kills the worker process that is to call it; apart, so that a process that unpickles it loads nothing else."""

import os


def die(config):
    os._exit(9)
