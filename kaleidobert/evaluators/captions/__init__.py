"""Captions judged: metrics (BLEU-4, ROUGE-L, CIDEr-D), tokens (PTB words), meteor, report (all of them)."""
