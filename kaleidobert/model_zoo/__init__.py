"""Networks and their files.

backbone.py       Backbone: text and patches in one sequence, one encoder over both
kaleidobert.py    Pretrainer, Classifier, Matcher: heads on top of the backbone; rebuild: the model a checkpoint describes
checkpoints.py    save, load_meta, restore, transfer: named arrays, exact or refused
released.py       the released TensorFlow 1 checkpoint, to ours and back: weights; released_names: its names; released_config: the files
                  beside it; released_optimizer: its Adam
bert_start.py     Google's BERT as the start of pre-training
tf_checkpoint.py  the reader behind them, tf_checkpoint_writer.py the writer, numpy only; stored.py: arrays left in their file
foreground_net.py the foreground network, whose weights (weights/foreground_net.npz) are part of the package
encoders.py       picture encoders: a patch becomes a feature vector
"""
