"""What runs in each worker of a selection that Ray starts; `entroselect/ray.py` is the caller."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import torch
import torch.distributed as distributed
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from entroselect import _settings
from entroselect.io.arrow import first_null, missing_id
from entroselect.io.tables import open_frame
from entroselect.results import Selection, on_host
from entroselect.scale.process_group import ProcessGroup

# The longest wait for another worker. One that does not join or does not answer is noticed by the
# caller, which ends all of them.
_WAIT = timedelta(days=30)


class RayWorker:
    """One process of the group, as an actor."""

    def __init__(self, rank: int, size: int, each: dict[str, int]) -> None:
        self._rank, self._size, self._on_gpu = rank, size, each["GPU"] > 0
        self._store: Any = None
        _settings.set_threads(each["CPU"])

    def listen(self) -> tuple[str, int]:
        """On the first worker: the address under which the others find it."""
        host = ray.util.get_node_ip_address()
        self._store = TCPStore(host, 0, self._size, True, _WAIT, wait_for_workers=False)
        return host, self._store.port

    def select(
        self,
        address: tuple[str, int],
        first: int,
        tables: list[Any],
        shared: tuple[Callable[..., Selection], str, str | None, dict[str, Any]],
    ) -> Any:
        """Joins the others and runs the selection; the picks among the own rows, as a table."""
        operation, column, id_column, options = shared
        with self._joined(address).shared_errors():
            limited = options.get("memory_limit") is not None
            n, rows = self._rows(first, tables, column, id_column, limited)
        found = operation(rows, group=True, **options)
        picks = on_host(found.indices)
        places = np.flatnonzero((picks >= first) & (picks < first + n))
        own = {"id": picks[places], "order": places, "distance": on_host(found.distances)[places]}
        if found.thresholds is not None:
            own["threshold"] = on_host(found.thresholds)[places]
        if id_column is not None:
            own["id"] = _plain(_table(tables).column(id_column)).take(own["id"] - first)
        return pa.table(own)

    def _joined(self, address: tuple[str, int]) -> ProcessGroup:
        """The group of all workers."""
        store = self._store or TCPStore(*address, self._size, False, _WAIT)
        distributed.init_process_group(
            "nccl" if self._on_gpu else "gloo",
            store=store,
            rank=self._rank,
            world_size=self._size,
            timeout=_WAIT,
        )
        return ProcessGroup(True)

    def _rows(
        self, first: int, tables: list[Any], column: str, id_column: str | None, limited: bool
    ) -> tuple[int, Any]:
        """(how many rows, the rows): out of Ray's object store, so that it can spill its blocks to
        disk, unless there is a memory limit."""
        table = _table(tables)
        if id_column is not None and table.column(id_column).null_count:
            raise missing_id("dataset", first + first_null(table.column(id_column)))
        try:
            source = open_frame(table, column, None)
            if limited and not self._on_gpu:
                return source.n, source
            rows = source.rows("dataset")
        except (ValueError, TypeError) as error:
            where = f"{error} (counted from row {first} of the dataset on)"
            raise type(error)(where) from error
        if not self._on_gpu:
            return rows.n, rows
        return rows.n, torch.as_tensor(rows.values, device="cuda")


def _table(tables: list[Any]) -> Any:
    """The rows behind references to Arrow tables."""
    return pa.concat_tables(ray.get(tables), promote_options="default")  # for ids all missing


def _plain(ids: Any) -> Any:
    """Ids that are not coded by a dictionary, which would differ between the workers."""
    return ids.cast(ids.type.value_type) if pa.types.is_dictionary(ids.type) else ids
