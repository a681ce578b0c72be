"""Headers of .npy files, by themselves and in archives: read as NumPy reads them; refused, in one
plain message, where NumPy refuses or would return something that was not meant."""

from __future__ import annotations

import re
import struct
import zipfile

import numpy as np
import pytest

from entroselect import open_pool
from entroselect.cli.inputs import read_selected
from entroselect.io import errors, npz
from entroselect.io.npy import load_npy
from tests.support.processes import python
from tests.support.sources import KINDS, N, check, values

ONES = np.ones((20, 5), "f4")


def write(path, *, header=None, shape=(20, 5), fortran=False, version=1, pad=64, values=None):
    """A file whose header says what it is told to say."""
    text = header or str({"descr": "<f4", "fortran_order": fortran, "shape": shape}).encode()
    if header is None:
        text += b" " * (-(len(text) + 11) % pad) + b"\n"
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    content = ONES.tobytes() if values is None else values
    path.write_bytes(b"\x93NUMPY" + bytes([version, 0]) + length + text + content)
    return path


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("pad", [1, 16, 64, 20096])
def test_headers_of_any_length_are_read(tmp_path, version, pad):
    path = write(tmp_path / "a.npy", version=version, pad=pad)
    assert (open_pool(path).read(0, 20) == 1).all()
    assert (load_npy(path) == 1).all()


def test_headers_that_python_2_wrote(tmp_path):
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (20L, 5L), }\n"
    assert open_pool(write(tmp_path / "a.npy", header=header)).shape == (20, 5)


@pytest.mark.parametrize("shape", [(20, 1), (1, 5), (1, 1), (20, 1, 1)])
def test_one_row_or_one_column_has_no_order(tmp_path, shape):
    given = np.arange(np.prod(shape), dtype="f4")
    path = write(tmp_path / "a.npy", shape=shape, fortran=True, values=given.tobytes())
    assert open_pool(path).read(0, shape[0]).ravel().tolist() == given.tolist()
    assert load_npy(path).tolist() == np.load(path).tolist()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"version": 9}, "version 9.0 of the format is not known"),
        ({"version": 0}, "version 0.0 of the format is not known"),
        ({"shape": (-20, 5)}, r"its shape is \(-20, 5\)"),
        ({"shape": (5, -3, -2)}, r"its shape is \(5, -3, -2\)"),
        ({"shape": (-10, 3)}, r"its shape is \(-10, 3\)"),
        ({"shape": (2**40, 2**40)}, "larger than any file"),
        ({"shape": (2**62, 2)}, "larger than any file"),
        ({"shape": (0, 2**40, 2**40)}, "larger than any file"),
        ({"shape": (2**70, 1)}, "expected lengths that can be"),
        ({"header": b"{'shape': (1" + b"0" * 5000 + b",)}"}, "cut short or damaged"),
        ({"shape": (20.0, 5)}, "expected a tuple of integers"),
        ({"shape": (True, 5)}, "expected a tuple of integers"),
        ({"shape": [20, 5]}, "expected a tuple of integers"),
        ({"shape": (20, 6)}, r"has 528 bytes, its header promises 608"),
        ({"shape": (20, 5), "fortran": True}, "is in Fortran order"),
        ({"shape": (2, 10, 5), "fortran": True}, "is in Fortran order"),
        ({"fortran": 1}, "its fortran_order is 1"),
        ({"header": b"{'descr': '<f4', 'fortran_order': False, 'shape': 3(, })\n"}, "damaged"),
        ({"header": b"  {'descr'\n :'<f4'\n"}, "damaged"),
        ({"header": b"\n  x\n y"}, "damaged"),
        ({"header": b"(" * 9000}, "damaged"),
        ({"header": b"-" * 9000 + b"1"}, "damaged"),
        ({"header": b"[" * 90 + b"]" * 90}, "damaged"),
        ({"header": b"{'shape': (20, 5)}\n"}, "does not say descr, fortran_order and shape"),
        ({"header": b"{1: 2, 'a': 3}\n"}, "does not say descr"),
        ({"header": b"{[]: 2}\n"}, "damaged"),
        ({"header": b"\xff\xfe\x00\n", "version": 3}, "damaged"),
        ({"header": b"{'a': 'b'}" + b"#" * 11_000}, "more than 10000 characters"),
        ({"header": b"{'descr': 3, 'fortran_order': False, 'shape': (2,)}"}, "its descr is 3"),
        ({"header": b"{'descr': '<q9', 'fortran_order': False, 'shape': (2, 1)}"}, "damaged"),
        ({"header": b"{'descr': '|O', 'fortran_order': False, 'shape': (2, 1)}"}, "pickled"),
        ({"header": b"{'descr': [('a', '<f4'), ('b', '|O')], 'fortran_order': False, 'shape':"
                    b" (2, 1)}"}, "pickled"),
    ],
)  # fmt: skip
def test_refused(tmp_path, options, says):
    path = write(tmp_path / "a.npy", **options)
    with pytest.raises(ValueError, match=rf"a\.npy: .*{says}") as caught:
        open_pool(path)
    assert "allow_pickle" not in str(caught.value)  # no advice to load what is never loaded
    if not options.get("fortran"):
        with pytest.raises(ValueError, match=r"a\.npy: "):
            load_npy(path)
    with zipfile.ZipFile(tmp_path / "z.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path, "a.npy")
    if "Fortran" not in says:
        with pytest.raises(ValueError, match=r"z\.npz: ") as caught:
            open_pool(tmp_path / "z.npz")
        assert "allow_pickle" not in str(caught.value)


@pytest.mark.parametrize("keep", [0, 3, 6, 7, 8, 9, 10, 40])
def test_cut_within_the_header(tmp_path, keep):
    path = write(tmp_path / "a.npy")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"a\.npy: (is not a \.npy file|.*ends within its header)"):
        open_pool(path)


def test_two_arrays_in_one_file(tmp_path):
    with (tmp_path / "two.npy").open("wb") as file:
        np.save(file, np.ones((10, 5)))
        np.save(file, np.zeros((10, 5)))
    with pytest.raises(ValueError, match=r"two\.npy: has 528 bytes left over.*file of its own"):
        open_pool(tmp_path / "two.npy")


@pytest.mark.slow
def test_bytes_that_are_left_over_are_said(tmp_path, caplog):
    path = write(tmp_path / "b.npy", fortran=True, shape=(20, 1))  # of the values of (20, 5)
    assert open_pool(path).shape == (20, 1)
    says = r"b.npy: has 320 bytes left over after its array of shape (20, 1), which are not read"
    assert [says in message for message in caplog.messages] == [True]
    assert load_npy(path).shape == (20, 1)
    assert len(caplog.messages) == 2
    write(tmp_path / "c.npy")
    open_pool(tmp_path / "c.npy")
    assert len(caplog.messages) == 2
    write(path, shape=(20, 4))
    done = python("-m", "entroselect", "entropy", path, code=None)
    assert done.stderr.count("has 80 bytes left over") == 1


def test_a_negative_shard_is_refused(tmp_path):
    write(tmp_path / "a.npy")
    write(tmp_path / "b.npy", shape=(-20, 5))
    write(tmp_path / "c.npy")
    with pytest.raises(ValueError, match=r"b\.npy: .*\(-20, 5\)"):
        open_pool(tmp_path)


def test_records_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 2), [("x", "f4"), ("y", "f4")]))
    with pytest.raises(TypeError, match=r"a\.npy: holds records.*structured_to_unstructured"):
        open_pool(tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", np.zeros((3, 2), "M8[s]"))
    with pytest.raises(TypeError, match=r"a\.npy: dtype datetime64.* is not supported"):
        open_pool(tmp_path / "a.npy")


def test_bfloat16_is_stored_as_void(tmp_path):
    """As ml_dtypes, and so JAX, save it."""
    halves = np.arange(20, dtype=np.float32).reshape(5, 4)
    bits = (halves.view(np.uint32) >> 16).astype(np.uint16)
    np.save(tmp_path / "a.npy", bits.view("V2"))
    np.savez(tmp_path / "a.npz", x=bits.view("V2"))
    for name in ("a.npy", "a.npz"):
        source = open_pool(tmp_path / name)
        assert (source.dtype, source.stored) == ("bfloat16", "bfloat16")
        assert (source.read(0, 5) == bits).all()
    np.save(tmp_path / "a.npy", np.zeros((3, 2), "V4"))
    with pytest.raises(TypeError, match=r"a\.npy: dtype void32 is not supported"):
        open_pool(tmp_path / "a.npy")


def test_parts_without_rows_are_left_out(tmp_path):
    np.save(tmp_path / "a.npy", np.array([]))  # what an empty list becomes
    np.save(tmp_path / "b.npy", np.empty((0, 9)))
    np.save(tmp_path / "c.npy", np.ones((4, 3)))
    assert open_pool(tmp_path).shape == (4, 3)
    np.save(tmp_path / "c.npy", np.ones((4, 0)))
    with pytest.raises(ValueError, match=r"c\.npy: empty, shape \(4, 0\)"):
        open_pool(tmp_path)


def test_what_loads_whole_is_what_numpy_loads(tmp_path):
    fortran, cube = np.asfortranarray(ONES * np.arange(5)), np.ones((2, 3, 4), ">i2")
    for given in (ONES, fortran, cube, np.arange(3), np.float64(3), np.empty((0, 3)), ONES == 1):
        np.save(tmp_path / "a.npy", given)
        found, expected = load_npy(tmp_path / "a.npy"), np.load(tmp_path / "a.npy")
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        assert found.tobytes() == expected.tobytes()


def test_selected_is_read_by_the_same_rules(tmp_path):
    np.save(tmp_path / "s.npy", np.array([3, 1]))
    assert read_selected(tmp_path / "s.npy").tolist() == [3, 1]
    np.save(tmp_path / "s.npy", np.empty((0, 4)))
    assert read_selected(tmp_path / "s.npy").shape == (0, 4)
    write(tmp_path / "s.npy", shape=(-3,))
    with pytest.raises(ValueError, match=r"s\.npy: .*\(-3,\)"):
        read_selected(tmp_path / "s.npy")
    write(tmp_path / "s.npy", shape=(101,))
    with pytest.raises(ValueError, match=r"s\.npy: .*its header promises"):
        read_selected(tmp_path / "s.npy")


def test_endings_in_capitals_and_wrong_ones(tmp_path):
    np.save(tmp_path / "a.npy", ONES)
    content = (tmp_path / "a.npy").read_bytes()
    for name in ("A.NPY", "a.bin", "a", "a.npz", "a.parquet"):
        (tmp_path / name).write_bytes(content)
        assert open_pool(tmp_path / name).format == "npy"
    np.savez(tmp_path / "z.npz", x=ONES)
    (tmp_path / "z.npz").rename(tmp_path / "z.npy")
    assert open_pool(tmp_path / "z.npy").key == "x"
    (tmp_path / "shards").mkdir()
    for name in ("0.NPY", "1.npy", ".hidden.npy", "._1.npy"):
        (tmp_path / "shards" / name).write_bytes(content if name[0] != "." else b"no")
    assert open_pool(tmp_path / "shards").shape == (40, 5)


# Archives


def test_an_archive_that_declares_more_than_there_is_memory(tmp_path, monkeypatch):
    """The check stands before the allocation: nothing of that size is ever asked for."""
    np.savez_compressed(tmp_path / "z.npz", x=np.zeros((1 << 10, 1 << 10)))
    monkeypatch.setattr(errors, "available", lambda: 1 << 20)
    monkeypatch.setattr(npz, "filled", None)
    with pytest.raises(ValueError, match=r"z\.npz: entry 'x' takes 8 MiB and 1 MiB of memory are"):
        open_pool(tmp_path / "z.npz")


def test_an_archive_whose_header_and_size_differ(tmp_path):
    header = str({"descr": "<f4", "fortran_order": False, "shape": (1 << 28, 1)}).encode()
    path = write(tmp_path / "a.npy", header=header)
    with zipfile.ZipFile(tmp_path / "z.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path, "x.npy")
    with pytest.raises(ValueError, match=r"z\.npz: .*entry 'x' has .* its header promises 10737"):
        open_pool(tmp_path / "z.npz")


@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2,
                                  zipfile.ZIP_LZMA])  # fmt: skip
def test_damaged_archives_name_the_file(tmp_path, kind):
    """zlib.error, LZMAError, EOFError, BadZipFile, OSError, struct.error, NotImplementedError."""
    path = tmp_path / "z.npz"
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w", kind) as archive, archive.open("x.npy", "w") as entry:
        np.save(entry, rng.integers(0, 9, (200, 5)))
    good, refused = path.read_bytes(), []
    for place in [*range(0, 120, 3), *rng.integers(120, len(good) - 22, 120).tolist(),
                  *range(len(good) - 80, len(good))]:  # fmt: skip
        damaged = bytearray(good)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            open_pool(path)
        except (ValueError, TypeError) as error:
            refused.append(str(error))
    assert len(refused) > 100
    assert all(each.startswith(f"{path}: ") and "allow_pickle" not in each for each in refused)


def test_archives_of_other_things(tmp_path):
    with zipfile.ZipFile(tmp_path / "z.npz", "w") as archive:
        archive.writestr("read.me", "hello")
        archive.writestr("folder/", "")
    with pytest.raises(ValueError, match=r"z\.npz: entry 'read\.me': is not a \.npy file"):
        open_pool(tmp_path / "z.npz")
    with zipfile.ZipFile(tmp_path / "z.npz", "w") as archive:
        pass
    with pytest.raises(ValueError, match=r"z\.npz: holds no array"):
        open_pool(tmp_path / "z.npz")
    np.savez(tmp_path / "z.npz", x=np.array([[{}]], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"z\.npz: holds pickled Python objects under 'x'"):
        open_pool(tmp_path / "z.npz", key="x")
    np.savez(tmp_path / "z.npz", x=np.asfortranarray(ONES * np.arange(5)))
    assert open_pool(tmp_path / "z.npz").read(3, 4).tolist() == [[0, 1, 2, 3, 4]]


# Names


def test_names_never_reach_a_terminal_as_commands(tmp_path):
    folder = tmp_path / "a\x1b[2Jb\udcff\u202ec"
    folder.mkdir()
    with pytest.raises(ValueError, match="holds no") as caught:
        open_pool(folder)
    message = str(caught.value)
    assert re.search(r"a\\x1b\[2Jb\\xff\\u202ec: ", message)
    message.encode()
    np.save(folder / "x.npy", ONES)
    source = open_pool(folder)
    assert source.name.isprintable()
    assert open_pool(folder / "x.npy").read(0, 20).all()


@pytest.mark.slow
def test_a_name_that_is_not_utf_8_on_the_command_line(tmp_path):
    name = tmp_path / "caf\udce9.npy"
    np.save(name, np.arange(5.0))
    done = python("-m", "entroselect", "entropy", name, code=1)
    assert "Traceback" not in done.stderr
    assert "caf\\xe9.npy" in done.stderr.replace("\n", "")


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b"])
def test_names_that_no_file_can_have(name):
    with pytest.raises(ValueError, match="no such file"):
        open_pool(name)


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    path = write(tmp_path / "a.npy")

    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "open", refuse)
    with pytest.raises(ValueError, match=r"a\.npy: cannot be read: Permission denied"):
        open_pool(path)


@pytest.mark.parametrize("dtype", [*KINDS[:-1], ">f4", ">f8", ">i2", ">f2"])
def test_npy(tmp_path, dtype):
    given = values(dtype)
    np.save(tmp_path / "x.npy", given)
    check(open_pool(tmp_path / "x.npy"), given)
    with (tmp_path / "2.npy").open("wb") as file:
        np.lib.format.write_array(file, given, version=(2, 0))
    check(open_pool(str(tmp_path / "2.npy")), given)


def test_more_dimensions_are_flattened(tmp_path):
    images = values("|u1", N, 12).reshape(N, 2, 3, 2)
    np.save(tmp_path / "x.npy", images)
    source = open_pool(tmp_path / "x.npy")
    check(source, images.reshape(N, -1))
    assert source.describe()["shape"] == [N, 2, 3, 2]


def test_npz(tmp_path):
    given = values("<f4")
    np.savez_compressed(tmp_path / "x.npz", a=given, b=np.arange(3))
    check(open_pool(tmp_path / "x.npz", key="a"), given)
    with pytest.raises(ValueError, match=r"x\.npz: holds several arrays.*key.*a \(211, 7\), b"):
        open_pool(tmp_path / "x.npz")
