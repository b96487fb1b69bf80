"""What a run needs of the machine and of the user, found out in seconds instead of after an hour; writes nothing."""
