"""The feature bank: all patch views of every picture, tokens, boxes, labels.

bank: reading. builder: writing, from pictures to patches to shards, in several processes, and copies with features held otherwise.
changes: what is made and what is copied where the catalogue has changed. states: how new shards take the place of old ones. queries: raw
pictures and texts as a bank holds its own. alignment: links of words and patches, stored beside the bank. beam: a bank made on Apache Beam.
"""
