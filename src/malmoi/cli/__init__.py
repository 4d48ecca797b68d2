"""The command line: `malmoi VERB`, one thin file a verb. Read next: `cli/main.py`."""
