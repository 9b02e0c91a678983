"""Keras layers, backend-neutral. Models are rebuilt from their own configuration, so the layers have none.

core: seeded start weights, Dense, GELU, Dropout, LayerNorm. cpu_fusion: the last three in one pass on CPUs (TensorFlow alone, so apart).
embeddings: TextEmbedding, PatchEmbedding, FeatureStandardizer. encoder: attention, blocks, pooler. heads: MaskedTokenHead, LevelClassHead,
LevelFeatureHead, ProductHead; LevelMeans, WordBag, and the dual encoder of both. caption_attention: layers of the alignment generator.
"""
