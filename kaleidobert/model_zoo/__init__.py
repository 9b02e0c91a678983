"""Networks and their files.

backbone: text and patches in one sequence, one encoder over both. task_model, kaleidobert: Pretrainer, Classifier, Matcher and Captioner,
heads on top of the backbone; rebuild makes the model that a checkpoint describes. pairs: pairs of pictures and texts, each side computed
once. caption_search: beam search. show_attend_tell, caption_decoder, word_grounding: the alignment generator's networks.
foreground_net: the foreground, with its weights.
checkpoints: named arrays in an .npz, exact or refused. stored: arrays left in their file.
"""
