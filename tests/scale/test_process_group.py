"""What several processes exchange and must agree on; how they begin and end."""

from __future__ import annotations

import socket
import textwrap
import time
import weakref
from pathlib import Path
from typing import Any

import pytest

from entroselect import nearest_distances
from entroselect.scale import process_group
from tests.conftest import NO_GPU, normal
from tests.support.processes import python
from tests.support.ranks import run

pytest.importorskip("torch.distributed")


@pytest.mark.slow
def test_exchanges(tmp_path: Path) -> None:
    for rank, found in enumerate(run(3, tmp_path / "out", "exchanges")[0]):
        exchanges, rounds = found["in_rounds"]
        assert 4 * rounds < exchanges <= 5 * rounds  # fewer where no row can come next
        assert found["largest"].tolist() == [1.0, 8]  # the lowest index of two that are equal
        assert found["gathered"].tolist() == [[1, 1], [2, 2], [2, 2]]
        assert found["at_one"].tolist() == (found["gathered"].tolist() if rank == 1 else [])
        assert found["broadcast"].tolist() == [[2, 2], [2, 2]]
        assert found["nothing"].shape == (0, 2)


@pytest.mark.slow
def test_what_processes_must_agree_on(tmp_path: Path) -> None:
    expected = {
        "k": "ValueError: group: the processes disagree: k=5 on rank 0, k=6 on rank 1",
        "metric": "ValueError: group: the processes disagree: metric=euclidean on rank 0",
        "columns": "ValueError: group: the processes disagree: columns=20 on rank 0, columns=19",
        "dtype": "ValueError: group: the processes disagree: dtype=float32 on rank 0",
        "nan": "ValueError: features: values must be finite; row 203",
        "limit": "ValueError: memory_limit: 100 bytes are too few",
    }
    found = run(2, tmp_path / "out", *(f"disagree,{what}" for what in expected))
    for message, ranks in zip(expected.values(), found, strict=True):
        for said in ranks:
            assert said.startswith(message), said


@pytest.mark.slow
def test_a_process_that_never_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    processes = pytest.importorskip("entroselect.cli.torchrun")
    monkeypatch.setattr(processes, "SECONDS_TO_START", 2.0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    began = time.monotonic()
    with (
        pytest.raises(RuntimeError, match="did not find each other within 2 s"),
        processes.joined("cpu"),
    ):
        pytest.fail("there is nobody else")
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("chain", ["none", "cause", "context", "both"])
def test_an_error_holds_no_group(chain: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor do the errors that it came of: threads of a group that is held outlive it."""
    processes = pytest.importorskip("entroselect.cli.torchrun")

    class Group:
        def wait(self) -> None:
            pytest.fail("an error leaves without waiting")

    def use() -> None:
        group = Group()
        held.append(weakref.ref(group))
        raise ValueError("features: the innermost")

    def raise_of(error: Exception) -> None:
        again = Group()
        held.append(weakref.ref(again))
        if chain == "context":
            raise RuntimeError("while that was handled")
        raise RuntimeError("because of that") from error

    def fail() -> None:
        try:
            use()
        except ValueError as error:
            if chain == "none":
                raise
            try:
                raise_of(error)
            except RuntimeError as outer:
                if chain != "both":
                    raise
                raise TypeError("the outermost") from outer

    held: list[Any] = []
    alive: list[bool] = []

    def leave(_: Any) -> None:
        alive.extend(group() is not None for group in held)

    monkeypatch.setattr(processes, "_joined", lambda _: Group())
    monkeypatch.setattr(processes, "_leave", leave)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    with pytest.raises(Exception), processes.joined("cpu"):  # noqa: B017, PT011
        fail()
    assert alive == [False] * (1 if chain == "none" else 2)


@pytest.mark.slow
def test_a_command_that_succeeds_holds_no_group() -> None:
    """Else its threads end the process with an abort, after the results are written."""
    pytest.importorskip("typer")
    code = """
        import os, socket, weakref
        import numpy as np
        import torch.distributed as distributed
        from entroselect import greedy_select
        from entroselect.cli import torchrun as processes

        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        os.environ.update(RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        made, new, destroy = [], distributed.new_group, distributed.destroy_process_group

        def new_group(*given, **options):
            group = new(*given, **options)
            made.append(weakref.ref(group))
            return group

        def destroyed():
            destroy()
            print([group() is None for group in made])

        distributed.new_group, distributed.destroy_process_group = new_group, destroyed
        with processes.joined("cpu") as ranks:
            found = greedy_select(np.eye(9), 4, group=ranks)
    """
    assert python("-c", textwrap.dedent(code)).stdout == "[True]\n"


@pytest.mark.parametrize("answers", [True, False])
def test_nccl_is_waited_for_and_given_up(answers: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Work:
        asked = 0

        def is_completed(self) -> bool:
            self.asked += 1
            return answers and self.asked > 3

        def wait(self) -> None:
            assert self.asked > 3

    monkeypatch.setattr(process_group, "SECONDS_TO_SEND", 0.02)
    if answers:
        process_group._finish(Work(), True)
    else:
        with pytest.raises(RuntimeError, match="no answer for"):
            process_group._finish(Work(), True)


@pytest.mark.slow
@pytest.mark.skipif(bool(NO_GPU), reason=f"needs a GPU: {NO_GPU}")
def test_one_process_over_nccl(tmp_path: Path) -> None:
    code = f"""
        import numpy as np, torch, torch.distributed as distributed
        from entroselect import greedy_select

        distributed.init_process_group(
            "nccl", init_method="file://{tmp_path}/meeting", rank=0, world_size=1
        )
        rows = np.random.default_rng(0).standard_normal((3000, 20)).astype("f4")
        found = greedy_select(torch.as_tensor(rows, device="cuda"), 300, group=True)
        assert found.indices.is_cuda
        assert (found.indices.cpu().numpy() == greedy_select(rows, 300).indices).all()
        distributed.destroy_process_group()
        print("equal")
    """
    assert python("-c", textwrap.dedent(code)).stdout == "equal\n"


def test_group_needs_a_process_group() -> None:
    with pytest.raises((ValueError, TypeError), match="group: "):
        nearest_distances(normal(5, 2), group=True)
