"""What other people's models answered, read from their files.

score_tables, prediction_tables, columns, coco_captions: the readers. score_checks: whether scores fit lists, ids and texts.
"""
