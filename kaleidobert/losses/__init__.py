"""Losses as pure functions of keras.ops, one value per element; tasks.py reduces them.

classification.py  cross_entropy
divergence.py      kl: between a predicted and a true feature
segmentation.py    cross_entropy_and_dice: of the foreground network
tasks.py           Loss, for_tasks, total: the losses of pre-training by task name
"""
