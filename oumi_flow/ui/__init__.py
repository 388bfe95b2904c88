"""Drawing: what a person reads on a terminal, in a pipe or in a log. Knows boards, not runs."""
