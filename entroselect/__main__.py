"""`python -m entroselect` and the script `entroselect`."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command line; without the packages of the extra `cli`, says how to get them."""
    try:
        import rich  # noqa: F401
        import typer  # noqa: F401
    except ImportError as error:
        print(
            f"error: the command line needs {error.name}: pip install 'entroselect[cli]'",
            file=sys.stderr,
        )
        sys.exit(1)
    from entroselect.cli.app import app

    app(prog_name="entroselect")


if __name__ == "__main__":
    main()
