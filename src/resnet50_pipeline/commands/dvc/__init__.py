"""The commands that work with DVC: the version of the data, checks of stored files, and published trainings."""
