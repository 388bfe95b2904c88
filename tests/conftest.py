"""What all tests start from, on machines of any speed and however pytest was started."""

from __future__ import annotations

import signal

from hypothesis import settings

# A busy machine is no fault of the code.
settings.register_profile("any-machine", deadline=None)
settings.load_profile("any-machine")

# A shell's background job ignores SIGINT, one under nohup SIGHUP, and so would every run of a test.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
