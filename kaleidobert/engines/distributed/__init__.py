"""Several devices and processes.

distribution: the strategy of a run. cluster: who this process is. channel: how processes talk. devices_tensorflow, devices_jax,
device_assignment: which devices are whose.
"""
