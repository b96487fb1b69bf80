"""Programs that examine Paddle and its devices, without training: for preflight, `kedro adopt` and set-up."""
