"""Losses as pure functions of keras.ops.

pretraining: cross-entropy, KL divergence, and the losses of pre-training by task name. finetuning: objectives of matching. auxiliary: of
captioner, word grounder, word presence and foreground network. decomposable: losses that add up over micro-batches and replicas.
"""
