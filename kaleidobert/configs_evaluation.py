"""The configuration of the commands that evaluate and generate, re-exported by configs.py."""
