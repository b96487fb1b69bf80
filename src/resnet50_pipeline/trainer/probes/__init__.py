"""Programs that inspect Paddle and its devices for preflight, `kedro adopt` and setup."""
