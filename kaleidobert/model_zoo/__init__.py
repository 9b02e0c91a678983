"""Networks and their files.

backbone: text and patches in one sequence, one encoder over both. kaleidobert: Pretrainer, Classifier, Matcher and Captioner, heads on top
of the backbone; rebuild makes the model that a checkpoint describes. pairs: a Matcher that computes each side of many pairs once.
caption_search: decoding with a Captioner. show_attend_tell, word_grounding, word_presence: the alignment generator's networks.
foreground_net: the foreground, with its weights. checkpoints: named arrays in an .npz, exact or refused.
"""
