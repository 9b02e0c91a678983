"""One module per command; cli is the console command."""
