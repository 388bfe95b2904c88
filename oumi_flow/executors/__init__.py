"""How commands run: the protocol in base.py, this machine in local.py, its supervisors in
supervise.py. Importing this package imports none of them."""
