"""In which order ready jobs go, and what is kept for whom. Pure: knows no process, clock or disk.

`estimates` says how long each job may take, `rules` puts jobs in order by it, `line` lets them go
one by one as slots and GPUs come free, `play` runs a whole set of jobs through in no time, and
`choose` tries the rules out by playing. The real loop and the play stand in the same `line`.
"""
