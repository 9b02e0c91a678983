"""Keras layers, backend-neutral. Models are rebuilt from their own configuration, so the layers carry none.

embeddings: TextEmbedding and PatchEmbedding. encoder: attention, blocks, pooler. heads: MaskedTokenHead, LevelClassHead, LevelFeatureHead,
ProductHead. wide: linear models beside the encoder. dual_encoder: two towers beside it. grid_encoder, word_attention: of the alignment
generator. norm, dropout: LayerNorm, and the randomness of the network, every source of it seeded and named. elementwise,
fusion_tensorflow, rows, split_heads: the same numbers, faster on CPUs.
"""
