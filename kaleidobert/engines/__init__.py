"""Training and prediction.

trainer: the loop. steps: one compiled step per backend (steps_tensorflow, steps_jax). distributed/: several devices and processes.
prediction: batches to outputs. scoring: pairs of pictures and texts. optimizers: Adam, schedule, clipping, loss scale. run_folder: the
folder of a run. feeding: batches made ahead, on the device. wire: features as they travel, floats or bytes.
"""
