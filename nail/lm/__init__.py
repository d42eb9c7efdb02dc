"""Language models: the package's losses, noise and method rows on an existing engine (the extra `lm`)."""
