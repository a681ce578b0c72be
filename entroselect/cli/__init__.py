"""The command line: entroselect select | entropy | nearest | info. Needs the extra `cli`."""
