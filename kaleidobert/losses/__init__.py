"""Losses as pure functions of keras.ops, one value per element.

classification: cross entropy. tasks: the losses of pre-training by task name, and the KL divergence between features. matching: pairs and
lists. captioning: words to come and words together. segmentation: of the foreground network. additive: losses that add up over parts.
"""
