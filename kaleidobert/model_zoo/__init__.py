"""Networks and their files.

backbone.py       Backbone: text and patches in one sequence, one encoder over both
kaleidobert.py    Pretrainer, Classifier, Matcher: heads on top of the backbone; rebuild: the model a checkpoint describes
checkpoints.py    save, load_meta, restore, transfer: named arrays, exact or refused
released.py       the released TensorFlow 1 checkpoint: name map and import
tf_checkpoint.py  the reader behind it, numpy only
foreground_net.py the foreground network, whose weights (weights/foreground_net.npz) are part of the package
encoders.py       picture encoders: a patch becomes a feature vector
"""
