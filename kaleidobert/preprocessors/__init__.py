"""From pictures and texts to examples, in numpy.

tokenization: text to word pieces. foreground: mask and box. patches: the Kaleido Patch Generator. pretexts: rotate, shuffle,
camouflage, grey, blank. features: patches to bank rows. masking: what is masked. examples: inputs and targets.
"""
