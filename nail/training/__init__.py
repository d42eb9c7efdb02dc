"""From a configuration to a trained policy: objects, rollouts, objectives, one update, the compiled program."""
