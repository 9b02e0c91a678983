"""Programs that time the expensive parts against a floor measured in the same run; see README.md.

run.py            all of them on the machine at hand, into one table; suite.py: which; tables.py: the table; hardware.py: the machine
peers.py          our network beside a plain Keras BERT (plain_bert.py, keras_peer.py) and PyTorch (torch_peer.py), by turns (turns.py)
scaling.py        what an example costs against text, levels, batch, width
devices.py        the same steps on several devices and in several processes
accelerator.py    pre-training on a GPU (accelerator_parts.py, kernels.py)
cost.py           time and money of the pre-training, a model
training_step.py  the seven losses, gradients, clipping, Adam, against matrix products
prediction.py     a batch of the matching task, against matrix products
masking.py        the mask plan of a batch, against random masking and copying the alignment
sampler.py        a spoiled and masked batch from a bank in the page cache, against copying memory
foreground.py     overlap of the foreground with the truth on drawn scenes, and with the colour threshold on real pictures
fuzz_data_files.py  the reader of the released text files against a plain reference (fuzz_reference.py) on random input (fuzz_drawing.py)
floors.py         interleaved timing, floors, ratios
report.py         the arguments and the printed tables of all
flops.py          the products of the network, counted from its sizes
random_bank.py    the sizes, and a bank of random features
"""
