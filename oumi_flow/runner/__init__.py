"""Running a plan: the loop that owns all state of a run, and what it has done by workers.

`running.run` is the way in; `work.Work`, `recover.recover`, `watch.Watch`, `telling.Teller` and
`terms.Options`, `terms.StopFlag` are what its caller makes and hands in.
"""

from oumi_flow.runner.recover import Recovered, recover
from oumi_flow.runner.running import run
from oumi_flow.runner.telling import Teller
from oumi_flow.runner.terms import Options, StopFlag
from oumi_flow.runner.watch import Watch
from oumi_flow.runner.work import Work

__all__ = ["Options", "Recovered", "StopFlag", "Teller", "Watch", "Work", "recover", "run"]
