"""The command line, `entroselect`. Needs the extra `cli`. app.py has the list of commands."""
