"""From pictures and texts to examples, in numpy.

tokenization: text to word pieces. foreground: mask and box. patches: the Kaleido Patch Generator. pretexts: rotate, shuffle,
camouflage, grey, blank. features: patches to bank rows. alignment: attention maps to links of tokens and patches (AAG).
masking: what is masked, at random or guided by links (AGM). examples: inputs and targets. quantisation: features as bytes.
"""
