"""The chaos run: everything dies at random, and then everything has to be right. `python -m tests.chaos.run --help`."""
