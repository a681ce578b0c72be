"""The command line, `entroselect`. Needs the extra `cli`; its commands stand in cli/app.py."""
