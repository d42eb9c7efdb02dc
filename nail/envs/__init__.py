"""Environments: what is acted in, what the clean expert does, how an episode is scored."""
