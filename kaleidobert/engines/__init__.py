"""Training and prediction.

trainer: the loop. steps: one step and forward pass for every backend (backend_tensorflow, backend_jax, backend_torch). distributed/:
several devices and processes. prediction: outputs of many rows, scores of many pairs. optimizers: Adam, schedule, clipping, loss scale.
feeding: batches made ahead, on the device. run_folder: the folder of a run.
"""
