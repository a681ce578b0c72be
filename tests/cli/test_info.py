"""`entroselect info`."""

from __future__ import annotations

import json
import sys

import entroselect
from tests.support.commands import ok


def test_info(folder, monkeypatch):
    known = json.loads(ok("info", "--json").stdout)
    assert known["version"] == entroselect.__version__
    assert known["backends"]["cpu:portable"] == ""
    assert known["backends"]["cuda"] != ""
    assert known["extras"]["cli"] == ""
    assert known["auto"].startswith("cpu:")
    text = ok("info").stdout
    assert "cpu:portable" in text
    assert known["backends"]["cuda"][:14] in text  # what follows may stand on another line
    monkeypatch.setattr("entroselect.cli.info._installed", lambda name: None)
    extras = json.loads(ok("info", "--json").stdout)["extras"]
    assert "typer" in extras["demo"]
    assert ("tomli" in extras["loop"]) == (sys.version_info < (3, 11))  # asked for there only
