"""`nail bench`: how fast a step, a sweep and a simulation are, beside what the machine can do."""
