"""Runs the command line in this process and checks what it prints."""

from __future__ import annotations

from typer.testing import CliRunner

from entroselect.cli.app import app

RUN = CliRunner()


def run(*arguments):
    return RUN.invoke(app, [str(argument) for argument in arguments])


def ok(*arguments):
    result = run(*arguments)
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result


def fails(code, *arguments, saying):
    """The command ends with `code` and one or two plain lines that hold all of `saying`."""
    result = run(*arguments)
    assert result.exit_code == code, result.output + repr(result.exception)
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.output
    for part in saying:
        assert part in lines[0], lines[0]
    return result


def entries(folder):
    return sorted(path.name for path in folder.iterdir())
