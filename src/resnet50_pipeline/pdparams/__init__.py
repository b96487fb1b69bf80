"""Reads and writes PaddleClas' weights and optimizer states without executing code from the files."""
