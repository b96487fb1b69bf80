"""Sets up logging for a run: plain or JSON lines on stderr, a live view in a terminal, and a log file.

All messages use Python's `logging` module; `set_up.py` installs the handlers.
"""
