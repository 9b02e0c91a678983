"""The feature bank: all patch views of every picture, tokens, boxes, labels.

bank: reading. builder: writing, in several processes. patch_extraction: a picture to its patches. storage: floats or bytes on disk.
alignment: links of words and patches, stored beside the bank. beam: a bank made on Apache Beam.
"""
