"""Training and prediction.

trainer: the loop. steps: one compiled step per backend. predictor: batches to outputs. optimizers: Adam, schedule, clipping.
runs: the run folder.
"""
