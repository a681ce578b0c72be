"""`python -m entroselect` and the script `entroselect`."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Runs the command line; without the packages of the extra `cli`, says how to get them."""
    _open_standard_streams()
    try:
        import rich  # noqa: F401
        import typer  # noqa: F401
    except ImportError as error:
        print(
            f"error: the command line needs {error.name}: pip install 'entroselect[cli]'",
            file=sys.stderr,
        )
        sys.exit(1)
    try:
        from entroselect.cli.app import app

        app(prog_name="entroselect")
    except KeyboardInterrupt:  # before or after the command itself
        sys.exit(130)


def _open_standard_streams() -> None:
    """Opens the null device for each stream that is closed (`2>&-`). Otherwise a file opened later
    would get the stream's number, and printed text would end up in that file."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            setattr(sys, name, os.fdopen(number, mode))


if __name__ == "__main__":
    main()
