"""`python -m oumi_flow` is the same program as `oumi-flow`."""

import sys

from oumi_flow.cli import main

if __name__ == "__main__":
    sys.exit(main())
