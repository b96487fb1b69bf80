"""Reads and writes files with PaddleClas weights and optimizer states, without executing code from them."""
