"""What `makespan.py` is made of: sets of jobs, their lower bounds, a run on a clock that jumps."""
