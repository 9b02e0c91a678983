"""Kaleido-BERT: vision-language pre-training for fashion (CVPR 2021) on TensorFlow and Keras 3."""

__version__ = "0.1.0"
