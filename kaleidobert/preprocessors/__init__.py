"""From pictures and texts to examples, in numpy. The paper's three ideas have a file each.

patch_generator: the Kaleido Patch Generator (KPG), a picture to patches on all levels. alignment_generator: attention maps to links of
words and patches (the last step of the Attention-based Alignment Generator, AAG; its captioner is model_zoo/show_attend_tell.py).
alignment_guided_masking: what is masked, at random or guided by links (AGM). pretexts: rotate, shuffle, camouflage, grey, blank.
foreground: mask and box. tokenization: text to word pieces, to words and back.
encoders: of patches and of the captioner's grids. features: patches to bank rows, as floats or bytes. examples: inputs and targets, and
their dynamic padding.
"""
