"""Implements the commands that work with DVC: they version the data, check stored files and publish training runs."""
