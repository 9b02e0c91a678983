"""Keras layers, backend-neutral. Models are rebuilt from their own configuration, so the layers carry none.

dropout.py     seed_for, truncated_normal, Dropout: the randomness of the network, every source of it seeded and named
embeddings.py  TextEmbedding; PatchEmbedding: one class, one instance per level
encoder.py     AttentionMask, SelfAttention, EncoderBlock, Pooler
heads.py       MaskedTokenHead, LevelClassHead, LevelFeatureHead, ProductHead
"""
