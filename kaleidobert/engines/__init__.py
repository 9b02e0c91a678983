"""Training and prediction.

trainer: the loop. steps: one compiled step per backend (steps_tensorflow, steps_jax). distribution: several devices and processes
(cluster: who this one is; channel: how they talk; devices_tensorflow, devices_jax, shares: which devices are whose).
predictor: batches to outputs. optimizers: Adam, schedule, clipping, loss scale. runs: the run folder. feeding: batches made ahead, on
the device. wire: features as they travel, floats or bytes.
"""
