"""What the command line shows and reads; nothing outside `cli.py` imports it."""
