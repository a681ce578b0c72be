"""The backends, which compute: one module for each, behind the protocol in base.py."""
