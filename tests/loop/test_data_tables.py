"""Images and labels in columns of parquet."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("diffusers")

from tests.support.images import load, png, refusal


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., str]:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")

    def write(metadata: dict[str, Any] | None = None, **columns: Any) -> str:
        made = pa.table(columns)
        if metadata:
            made = made.replace_schema_metadata({"huggingface": json.dumps(metadata)})
        pq.write_table(made, tmp_path / "t.parquet")
        return str(tmp_path / "t.parquet")

    return write


IMAGES = [{"bytes": png(i), "path": None} for i in range(4)]

BYTES = [png(i) for i in range(4)]


def labels_of(source: str, **options: Any) -> tuple[list[int] | None, tuple[str, ...]]:
    images, _ = load(source, **options)
    assert images.pixels[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert images.classes == len(images.names)
    return None if images.labels is None else images.labels.tolist(), images.names


def test_labels_of_any_kind(table: Callable[..., str]) -> None:
    pa = pytest.importorskip("pyarrow")
    for values, names in (
        (pa.array(["dog", "cat"] * 2), ("cat", "dog")),
        (pa.array(["dog", "cat"] * 2, pa.large_string()), ("cat", "dog")),
        (pa.array(["dog", "cat"] * 2, pa.string_view()), ("cat", "dog")),
        (pa.array(["dog", "cat"] * 2).dictionary_encode(), ("cat", "dog")),
        (pa.array([True, False] * 2), ("False", "True")),
        (pa.array([10**9, 0] * 2), ("0", "1000000000")),
        (pa.array([5, -1] * 2, pa.int8()), ("-1", "5")),
        (pa.array([2**64 - 1, 2**63] * 2, pa.uint64()), (str(2**63), str(2**64 - 1))),
        (pa.array([2**63, 0] * 2, pa.uint64()), ("0", str(2**63))),
        (pa.array([2.0, 1.0] * 2), ("1", "2")),
    ):
        assert labels_of(table(image=IMAGES, label=values)) == ([1, 0, 1, 0], names)
    for values in (
        pa.array([0.5, 1.0] * 2),
        pa.array([float("nan"), 1.0] * 2),
        pa.array([[1], [2]] * 2),
        pa.array([1, 2] * 2, pa.timestamp("s")),
    ):
        assert "column label: labels must be integers, strings or booleans, got" in refusal(
            table(image=IMAGES, label=values)
        )


def test_the_column_of_labels(table: Callable[..., str]) -> None:
    ids, marks = [139, 285, 632, 724], [0, 1, 0, 1]
    assert labels_of(table(image_id=ids, image=IMAGES, label=marks)) == ([0, 1] * 2, ("0", "1"))
    for name in ("Label", "labels", "class", "target", "y", "fine_label"):
        assert labels_of(table(image_id=ids, image=IMAGES, **{name: marks}))[0] == [0, 1, 0, 1]
    source = table(image=IMAGES, image_id=ids, width=[8] * 4)
    images, said = load(source)
    assert images.labels is None
    assert said == [
        "columns of which none is called label or the like (data.label_column chooses one): 2 "
        "(first: image_id)"
    ]
    assert labels_of(source, label_column="image_id")[1] == ("139", "285", "632", "724")
    source = table(image=IMAGES, fine_label=marks, coarse_label=[0] * 4)
    assert refusal(source) == (
        "fine_label, coarse_label could hold labels; choose one with data.label_column"
    )
    assert labels_of(source, label_column="fine_label")[0] == marks
    assert "there is no 'nope'" in refusal(source, label_column="nope")
    assert refusal(table(image=IMAGES, label=[0, 1, None, 1])).startswith("row 2: has no label")


def test_declared_classes_keep_their_numbers(table: Callable[..., str]) -> None:
    feature = {"names": ["ant", "bee", "cow"], "_type": "ClassLabel"}
    declared = {"info": {"features": {"animal": feature, "image": {"_type": "Image"}}}}
    source = table(declared, image=IMAGES, animal=[0, 2, 2, 0], id=[1, 2, 3, 4])
    assert labels_of(source) == ([0, 2, 2, 0], ("ant", "bee", "cow"))
    message = refusal(table(declared, image=IMAGES, animal=[0, -1, 2, 0]))
    assert message == "column animal: row 1: label -1 is not one of the 3 declared classes"
    assert labels_of(table({"info": "odd"}, image=IMAGES, label=[0] * 4))[1] == ("0",)


def test_the_column_of_images(table: Callable[..., str]) -> None:
    pa = pytest.importorskip("pyarrow")
    for kind in (pa.binary(), pa.large_binary(), pa.binary_view()):
        assert labels_of(table(picture=pa.array(BYTES, kind)))[0] is None
    assert labels_of(table(picture=pa.array(BYTES).dictionary_encode()))[0] is None
    other = BYTES[::-1]
    for name in ("thumb", "label"):
        images, said = load(table(image=IMAGES, **{name: other}))
        assert images.labels is None
        assert said == [f"columns of bytes beside the images, passed over: 1 (first: {name})"]
    source = table(left=IMAGES, right=IMAGES)
    assert refusal(source).startswith("left, right could hold images; choose one with data.image")
    assert labels_of(source, image_column="right")[0] is None
    assert "no column of encoded images; it holds image (string)" in refusal(
        table(image=["a.png"] * 4)
    )


def test_rows_without_an_image_are_named(table: Callable[..., str]) -> None:
    rows = [*IMAGES[:3], {"bytes": None, "path": "a/b.png"}]
    assert refusal(table(image=rows)).startswith("row 3: holds a path (a/b.png) and not the image")
    for nothing in ({"bytes": None, "path": None}, None):
        assert refusal(table(image=[*IMAGES[:3], nothing])).startswith("row 3: has no image")
    assert refusal(table(image=[*BYTES[:3], b"GIF89a"])).startswith("row 3: not an image")


def test_damaged_parquet(table: Callable[..., str]) -> None:
    source = Path(table(image=IMAGES, label=[0, 1, 0, 1]))
    whole = source.read_bytes()
    for cut in (0, 3, 100, len(whole) // 2, len(whole) - 1):
        source.write_bytes(whole[:cut])
        assert refusal(str(source)).startswith("t.parquet: cannot be read")
