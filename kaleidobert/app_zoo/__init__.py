"""One module per command, a folder where a command is large; commands.py lists them, kaleidobert/cli.py is the console command."""
