"""Several devices and processes.

distribution: the strategy of a run. cluster: which process this is, how processes talk and share the GPUs of a host. What differs by
backend is in engines/backend_{tensorflow,jax,torch}.py.
"""
