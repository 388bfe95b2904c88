"""Running a plan: the loop that owns all state of a run, and what it has done by workers."""
