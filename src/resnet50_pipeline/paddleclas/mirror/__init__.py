"""Keeps copies of checkpoint sets in an object store, so that a run can resume on another machine."""
