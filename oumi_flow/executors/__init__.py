"""How commands run: the protocol in base.py, this machine in local.py, whose server and supervisors
are a program of their own (supervise.py). Importing this package imports none of them."""
