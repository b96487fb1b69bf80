"""Copies of checkpoint sets in an object store, from which a run resumes on another machine."""
