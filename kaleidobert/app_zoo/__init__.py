"""One module per command, a folder where a command is large; kaleidobert/cli.py is the console command."""
