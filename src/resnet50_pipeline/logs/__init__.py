"""How a run tells what it does: lines, JSON lines, a live view in a terminal, and a file a run.

Everything goes through the standard library's logging; `set_up.py` says which handlers there are.
"""
