"""The stages: one Kedro pipeline a folder, each unaware of the others."""
