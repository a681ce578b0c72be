"""Unreadable files, bad data and bad options are refused before any work; no partial file stays."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from entroselect.cli import inputs
from tests.support.commands import entries, fails, ok, run


def cut(source, target, keep=0.6):
    content = Path(source).read_bytes()
    Path(target).write_bytes(content[: int(len(content) * keep)])


def test_unreadable_files_are_named(folder):
    from safetensors.numpy import save_file

    pool = np.load("pool.npy")
    np.savez("whole.npz", x=pool)
    save_file({"x": pool}, "whole.safetensors")
    cut("pool.npy", "cut.npy")
    cut("pool.npy", "header.npy", 0.02)
    cut("whole.npz", "cut.npz")
    cut("whole.safetensors", "cut.safetensors")
    for name in ("cut.npy", "header.npy", "cut.npz", "cut.safetensors"):
        fails(1, "entropy", name, saying=[name, "cut short", "again"])
    damaged = bytearray(Path("whole.npz").read_bytes())
    damaged[400] ^= 255
    Path("damaged.npz").write_bytes(damaged)
    fails(1, "entropy", "damaged.npz", saying=["damaged.npz", "damaged"])

    objects = np.array([[1, "a"], [2, None]], dtype=object)
    np.save("objects.npy", objects, allow_pickle=True)
    np.savez("objects.npz", x=objects, allow_pickle=True)
    Path("pickle.npy").write_bytes(pickle.dumps(pool))
    Path("pickle.npz").write_bytes(pickle.dumps({"x": pool}))
    fails(1, "entropy", "objects.npy", saying=["objects.npy", "pickled", "numpy.save"])
    fails(1, "entropy", "objects.npz", "--key", "x", saying=["objects.npz", "pickled"])
    fails(1, "entropy", "pickle.npy", saying=["pickle.npy", "never loaded", "numpy.save"])
    fails(1, "entropy", "pickle.npz", saying=["pickle.npz", "never loaded", "numpy.savez"])

    Path("empty.npy").write_bytes(b"")
    fails(1, "entropy", "empty.npy", saying=["empty.npy", "not a .npy file"])
    fails(1, "entropy", "missing.npy", saying=["missing.npy", "no such file"])
    fails(1, "entropy", "pool.txt", saying=["pool.txt", ".npy, .npz, .safetensors"])
    fails(1, "entropy", "pool.npy", "--key", "x", saying=["pool.npy", "drop the --key"])
    Path("folder.npy").mkdir()
    fails(1, "entropy", "folder.npy", saying=["folder.npy", "holds no .npy"])


def test_bad_data_is_named_and_leaves_nothing(folder):
    pool = np.load("pool.npy")
    pool[17, 3] = np.nan
    np.save("nan.npy", pool)
    np.save("none.npy", np.empty((0, 4)))
    np.save("complex.npy", np.ones((3, 3), dtype=complex))
    there = entries(folder)
    for method in ("greedy", "threshold", "random"):
        fails(1, "select", "nan.npy", "-k", 3, "-o", "out", "--method", method,
              saying=["nan.npy", "row 17", "column 3"])  # fmt: skip
        fails(1, "select", "pool.npy", "-k", 61, "-o", "out", "--method", method,
              saying=["-k: ", "60", "61"])  # fmt: skip
        fails(1, "select", "none.npy", "-k", 1, "-o", "out", "--method", method,
              saying=["none.npy", "empty"])  # fmt: skip
    fails(1, "select", "complex.npy", "-k", 1, "-o", "out", saying=["complex.npy", "complex128"])
    fails(1, "select", "pool.npy", "-k", 3, "-o", "out", "--start", 60, saying=["--start: ", "59"])
    fails(2, "select", "pool.npy", "-k", 3, "-o", "out", "--backend", "tpu",
          saying=["backend", "tpu"])  # fmt: skip
    fails(1, "select", "pool.npy", "-k", 3, "-o", "out", "--selected", "gone.npy",
          saying=["gone.npy", "no such file"])  # fmt: skip
    assert entries(folder) == there


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["--fraction", 0.5, "-k", 3], "--fraction"),
        ([], "--fraction"),
        (["--fraction", 0], "--fraction"),
        (["--fraction", 1.5], "--fraction"),
        (["--fraction", "nan"], "--fraction"),
        (["-k", 0], "-k"),
        (["-k", "many"], "-k"),
        (["-k", 3, "--method", "best"], "--method"),
        (["-k", 3, "--metric", "l1"], "--metric"),
        (["-k", 3, "--colour", "red"], "--colour"),
        (["-k", 3, "--decay", 0.9], "--decay"),
        (["-k", 3, "--threshold", 1], "--threshold"),
        (["-k", 3, "--method", "threshold", "--start", 2], "--start"),
        (["-k", 3, "--method", "threshold", "--min-distance", 2], "--min-distance"),
        (["-k", 3, "--method", "random", "--selected", "pool.npy"], "--selected"),
        (["-k", 3, "--seed", 2], "--seed"),
        (["-k", 3, "--start", "first"], "--start"),
        (["-k", 3, "--start", "1", "--selected", "pool.npy"], "--start"),
    ],
)
def test_bad_use_ends_with_2(folder, arguments, option):
    result = fails(2, "select", "pool.npy", "-o", "out", *arguments, saying=[option])
    assert len(result.stderr.splitlines()) == 1
    assert entries(folder) == ["pool.npy"]


def test_other_bad_use(folder):
    fails(2, "select", "pool.npy", "-k", 3, saying=["--out"])
    fails(2, "chose", saying=["chose"])
    fails(2, "entropy", "pool.npy", "--floor", 1, saying=["--floor", "--duplicates floor"])
    fails(2, "nearest", "pool.npy", "-o", "out", "--points-key", "x", saying=["--points-key"])


def test_out_is_checked_before_the_work(folder, monkeypatch):
    monkeypatch.setattr(inputs, "read", None)  # would fail if the work started
    Path("file").write_text("")
    there = entries(folder)
    for out, words in (
        ("file/out", ["file", "is a file"]),
        ("no/such/out", ["no/such", "no such folder"]),
        ("file", ["file", "is a file"]),
    ):
        fails(1, "select", "pool.npy", "-k", 3, "-o", out, saying=[*words, "--out"])
        fails(1, "nearest", "pool.npy", "-o", out, saying=[*words, "--out"])
    assert entries(folder) == there


def test_existing_out_is_replaced_only_by_force(folder):
    ok("select", "pool.npy", "-k", 3, "-o", "out")
    fails(1, "select", "pool.npy", "-k", 4, "-o", "out", saying=["out", "--force"])
    assert len(np.load("out/indices.npy")) == 3
    ok("select", "pool.npy", "-k", 4, "-o", "out", "--force")
    assert len(np.load("out/indices.npy")) == 4
    fails(1, "select", "pool.npy", "-k", 61, "-o", "out", "--force", saying=["61"])
    assert len(np.load("out/indices.npy")) == 4
    Path("out/thesis.tex").write_text("years of work")
    fails(1, "select", "pool.npy", "-k", 5, "-o", "out", "--force", saying=["thesis.tex"])
    assert Path("out/thesis.tex").exists()
    assert entries(folder) == ["out", "pool.npy"]


@pytest.mark.parametrize(
    "step", ["pick.greedy_select", "select._summary", "select.selection_files.write_indices"]
)
@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (RuntimeError("the engine broke"), 1, "error: the engine broke"),
        (MemoryError(), 1, "error: out of memory"),
        (OSError(28, "No space left on device"), 1, "No space left"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_nothing_partial_is_left(folder, monkeypatch, step, raised, code, said):
    def broken(*_, **__):
        raise raised

    monkeypatch.setattr(f"entroselect.cli.{step}", broken)
    result = run("select", "pool.npy", "-k", 3, "-o", "out")
    assert result.exit_code == code
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert entries(folder) == ["pool.npy"]
