"""The commands of this project that `kedro` shows beside its own, a module each."""
