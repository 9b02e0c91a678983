"""The commands: one module each, a folder where a command is large; kaleidobert/cli.py is the console command.

commands: the table of commands, and TASKS, the downstream ones. fetch, convert, synthesize, records, train_foreground, pretrain, classify,
evaluate, tables: one command each; align/, caption/, inspect/, retrieve/: one each. quickstart: all of them on a drawn catalogue.
models: the model that a command starts from. training: what training commands share, and the frame of a downstream task. released_runs:
pre-training, classification and retrieval from the release's text files. lineage: the model of a result, and the plain head beside it.
step_memory: memory of a training step, for --dry-run. backends: Keras's backend, checked before Keras is loaded.
"""
