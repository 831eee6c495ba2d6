"""Files survive what disks, kills and strangers do to them (the hostile cases 74 to 80)."""

import hashlib
import json
import os
import pickle
import stat
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from failing_files import failing, input_output_error, no_space

from gradcore import files
from gradcore.files import Format, read_arrays, write_arrays, write_atomically

FORM = Format("example", 3)
VALUES = {"text": 'naïve ✓ \\ " \n', "numbers": [1, -2.5, 1e-320, 2**62], "deep": {"a": [None, True, {}]}}
ARRAYS = {
    "0.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
    "scalar": np.float64(np.pi),
    "empty": np.zeros((0, 3), np.int32),
    "nan": np.array([np.nan, -0.0, np.inf]),
    "names/../with \\ and ✓": np.array([True, False]),
}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a file, named oddly ✓ '\"$.safetensors"
    write_arrays(path, FORM, VALUES, ARRAYS)
    return path


def assert_good(path, arrays=ARRAYS):
    contents = read_arrays(path, FORM)
    assert contents.version == FORM.version
    assert set(contents.arrays) == set(arrays)
    for name, array in arrays.items():
        found = contents.arrays[name]
        assert (found.dtype, found.shape, found.tobytes()) == (array.dtype, array.shape, array.tobytes())
    return contents.values


def made(path, header, data=b"", *, length=None, sign=True):
    """Write a file with any header, dict or bytes, with the checksum that belongs to it."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    prefix = (len(text) if length is None else length).to_bytes(8, "little") + text
    if sign:
        digest = hashlib.sha256(prefix + data).hexdigest().encode()
        prefix = prefix.replace(b"0" * 64, digest)
    path.write_bytes(prefix + data)
    return path


def described(version=FORM.version, name=FORM.name, values=None, **arrays):
    about = {"sha256": "0" * 64, "format": name, "version": version, "values": values or {}}
    return {"__metadata__": {"gradcore": json.dumps(about)}, **arrays}


def place(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_what_is_written_is_read(path):
    assert assert_good(path) == VALUES


def test_the_files_of_this_module_s_own_tests_are_read_so_that_refusals_mean_something(tmp_path):
    good = made(tmp_path / "good", described(x=place("F32", [2], 0, 8)), b"\0" * 8)
    assert read_arrays(good, FORM).arrays["x"].tolist() == [0, 0]


def test_safetensors_itself_reads_the_file(path):
    safetensors = pytest.importorskip("safetensors.numpy")
    assert np.array_equal(safetensors.load_file(path)["0.weight"], ARRAYS["0.weight"])


def test_the_same_contents_make_the_same_bytes(path, tmp_path):
    write_arrays(tmp_path / "again", FORM, VALUES, ARRAYS)
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    "view",
    [
        np.asfortranarray, lambda a: a[::2, ::3], lambda a: a[::-1], lambda a: a.T,
        lambda a: np.broadcast_to(a[0], (5, 6)), lambda a: a.astype(">f8"), lambda a: a.astype(np.float16),
        lambda a: np.frombuffer(b"x" + a.tobytes(), np.uint8)[1:].view(np.float64),
    ],
    ids=["fortran", "strided", "reversed", "transposed", "broadcast", "big_endian", "half", "misaligned"],
)  # fmt: skip
def test_arrays_of_any_layout_come_back_equal(tmp_path, view):
    array = view(np.arange(24.0).reshape(4, 6))
    write_arrays(tmp_path / "a", FORM, {}, {"x": array})
    found = read_arrays(tmp_path / "a", FORM).arrays["x"]
    assert np.array_equal(found, array)
    assert found.dtype == array.dtype.newbyteorder("=")


@pytest.mark.parametrize(
    "array",
    [np.array([1 + 2j]), np.array(["a"]), np.array([None]), np.zeros(1, "f4,i4"), np.zeros(1, "M8[s]")],
)
def test_what_cannot_be_kept_is_refused_before_anything_is_written(path, array):
    with pytest.raises(TypeError, match=r"array 'x' of dtype .* cannot be kept"):
        write_arrays(path, FORM, {}, {"x": array})
    assert_good(path)


@pytest.mark.parametrize(
    ("values", "kind"), [({"x": np.nan}, ValueError), ({"x": np.inf}, ValueError), ({"x": b""}, TypeError)]
)
def test_values_that_are_no_json_are_refused(path, values, kind):
    with pytest.raises(kind, match="array"):
        write_arrays(path, FORM, values, {})
    assert_good(path)


def test_too_long_a_description_is_refused_when_it_is_written(path):
    with pytest.raises(ValueError, match="too many layers for one file"):
        write_arrays(path, FORM, {"x": "a" * files.HEADER_LIMIT}, {})
    assert_good(path)


# --- 74: damage


def test_a_truncated_file_is_refused(path, rng):
    whole = path.read_bytes()
    for size in [*range(min(1024, len(whole))), *rng.integers(0, len(whole), 100)]:
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"safetensors (is|was)"):
            read_arrays(path, FORM)


def test_every_flipped_bit_is_found(path, rng):
    arrays = {"x": rng.standard_normal(1000)}
    write_arrays(path, FORM, {}, arrays)
    whole = bytearray(path.read_bytes())
    header = 8 + int.from_bytes(whole[:8], "little")
    bits = [*range(8 * header), *rng.integers(8 * header, 8 * len(whole), 1000)]
    for bit in bits:
        whole[bit // 8] ^= 1 << bit % 8
        path.write_bytes(whole)
        with pytest.raises(ValueError, match="safetensors"):
            read_arrays(path, FORM)
        whole[bit // 8] ^= 1 << bit % 8
    path.write_bytes(whole)
    assert_good(path, arrays)


def test_what_is_no_file_is_said_by_the_system(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"):
        read_arrays(tmp_path / "absent", FORM)
    with pytest.raises(IsADirectoryError):
        read_arrays(tmp_path, FORM)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe is not a regular file"):
        read_arrays(tmp_path / "pipe", FORM)


def test_an_empty_file_and_no_path_are_said(tmp_path):
    (tmp_path / "empty").touch()
    with pytest.raises(ValueError, match="empty is empty"):
        read_arrays(tmp_path / "empty", FORM)
    with pytest.raises(TypeError, match="path of a file"):
        read_arrays(3, FORM)
    with pytest.raises(ValueError, match="path is empty"):
        write_arrays("", FORM, {}, {})


# --- 75: headers that lie


GOOD = described(x=place("F32", [2], 0, 8))
TEXT = json.dumps(GOOD).encode()
LIES = {
    "length 2^63": (TEXT, {"length": 1 << 63}),
    "length -1": (TEXT, {"length": (1 << 64) - 1}),
    "length past the end": (TEXT, {"length": len(TEXT) + 9}),
    "no header": (b"", {}),
    "one byte": (b"{", {}),
    "not JSON": (b"{" * 40, {}),
    "a list": (b"[1, 2]", {}),
    "deep nesting": (b"[" * 200_000, {}),
    "deep objects": (b'{"a":' * 200_000, {}),
    "not UTF-8": (TEXT.replace(b"example", b"ex\xffmple"), {}),
    "NaN": (TEXT.replace(b"[2]", b"NaN"), {}),
    "infinity": (TEXT.replace(b"[2]", b"[1e999]"), {}),
    "a name twice": (TEXT[:-1] + b', "x": ' + json.dumps(place("F32", [2], 0, 8)).encode() + b"}", {}),
    "shape product overflow": (described(x=place("F32", [1 << 40, 1 << 40], 0, 8)), {}),
    "shape larger than its data": (described(x=place("F32", [1 << 40], 0, 8)), {}),
    "negative shape": (described(x=place("F32", [-2], 0, 8)), {}),
    "shape of text": (described(x=place("F32", ["2"], 0, 8)), {}),
    "offsets past the end": (described(x=place("F32", [4], 0, 16)), {}),
    "offsets negative": (described(x=place("F32", [2], -8, 0)), {}),
    "offsets reversed": (described(x=place("F32", [2], 8, 0)), {}),
    "offsets overlapping": (described(x=place("U8", [6], 0, 6), y=place("U8", [2], 4, 6)), {}),
    "offsets with a hole": (described(x=place("U8", [2], 0, 2), y=place("U8", [2], 6, 8)), {}),
    "offsets of floats": (described(x=place("F32", [2], 0.0, 8.0)), {}),
    "offsets missing": (described(x={"dtype": "F32", "shape": [2]}), {}),
    "offsets huge": (described(x=place("F32", [2], 0, 10**30), y=place("F32", [2], 10**30, 8)), {}),
    "ten arrays sharing one place": (described(**{f"x{i}": place("U8", [8], 0, 8) for i in range(10)}), {}),
    "array without a description": (described(x=3), {}),
    "unknown dtype": (described(x=place("F128", [2], 0, 8)), {}),
    "dtype that gradcore never writes": (described(x=place("BF16", [4], 0, 8)), {}),
    "nothing of gradcore": ({"x": place("F32", [2], 0, 8)}, {}),
    "no description": ({"__metadata__": {"gradcore": "{}"}, "x": place("F32", [2], 0, 8)}, {}),
    "metadata that are no mapping": ({"__metadata__": [], "x": place("F32", [2], 0, 8)}, {}),
    "description that is no mapping": ({"__metadata__": {"gradcore": "[]"}}, {}),
    "no checksum": (TEXT.replace(b"0" * 64, b""), {}),
    "a wrong checksum": (TEXT, {"sign": False}),
    "version 0": (described(version=0, x=place("F32", [2], 0, 8)), {}),
    "version True": (described(version=True, x=place("F32", [2], 0, 8)), {}),
}  # fmt: skip


def assert_refused_cheaply(path):
    """A refusal takes less than a second of work, and less than 100 MB."""
    begin = time.process_time()
    with pytest.raises(ValueError, match=path.name):
        read_arrays(path, FORM)
    assert time.process_time() - begin < 1
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=path.name):
            read_arrays(path, FORM)
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("lie", LIES)
def test_a_header_that_lies_is_refused_at_once_and_without_much_memory(tmp_path, lie):
    header, how = LIES[lie]
    assert_refused_cheaply(made(tmp_path / "liar", header, b"\0" * 8, **how))


@pytest.mark.parametrize("unit", [b"{},", b'"ab",', b'{"":0},'])
def test_the_largest_header_that_is_looked_into_is_cheap_and_a_giant_one_is_not_read(tmp_path, unit):
    text = b"[" + unit * (files.HEADER_LIMIT // len(unit) - 1) + b"0]"
    assert_refused_cheaply(made(tmp_path / "large", text))
    with open(tmp_path / "giant", "wb") as file:
        file.write((100_000_000).to_bytes(8, "little") + text)
        file.truncate(100_000_008)
    assert_refused_cheaply(tmp_path / "giant")


def test_trailing_bytes_are_refused_however_many(path):
    os.truncate(path, 1 << 40)  # sparse
    with pytest.raises(ValueError, match="cut off, or something added"):
        read_arrays(path, FORM)


# --- 76: files of others


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("bomb went off",)


def test_files_of_others_are_refused_by_name_and_nothing_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "npz", x=np.zeros(1 << 20))
    os.rename(tmp_path / "npz.npz", tmp_path / "npz")
    np.save(tmp_path / "npy", np.array([Bomb()], object), allow_pickle=True)
    os.rename(tmp_path / "npy.npy", tmp_path / "npy")
    for protocol in (2, 4, 5):
        (tmp_path / f"pickle{protocol}").write_bytes(pickle.dumps(Bomb(), protocol))
    for name, said in [("npz", "zip archive"), ("npy", "NumPy array"), ("pickle2", "a pickle"),
                       ("pickle4", "a pickle"), ("pickle5", "a pickle")]:  # fmt: skip
        with pytest.raises(ValueError, match=f"{name} is not a file that gradcore wrote.*{said}"):
            read_arrays(tmp_path / name, FORM)
    (tmp_path / "pickle0").write_bytes(pickle.dumps(Bomb(), 0))
    with pytest.raises(ValueError, match="is not a file that gradcore wrote"):
        read_arrays(tmp_path / "pickle0", FORM)
    assert not (tmp_path / "bomb went off").exists()


def test_a_file_of_safetensors_without_our_description_is_refused_with_a_way_out(tmp_path):
    path = made(
        tmp_path / "foreign", {"__metadata__": {"format": "pt"}, "w": place("F32", [2], 0, 8)}, b"\0" * 8
    )
    with pytest.raises(ValueError, match=r"was not written by gradcore.*set_parameters"):
        read_arrays(path, FORM)


# --- 77: disks and kills


def raised_by(call, *args):
    try:
        call(*args)
    except OSError as error:
        return error
    return None


@pytest.mark.parametrize("how", [no_space, input_output_error])
def test_whichever_call_fails_the_old_file_or_the_new_one_is_there_whole(path, how):
    new = {"x": np.arange(5.0)}
    failed = []
    for nth in range(1, 100):
        write_arrays(path, FORM, VALUES, ARRAYS)
        with failing(nth, how) as state:
            error = raised_by(write_arrays, path, FORM, VALUES, new)
        if error is None:
            break
        assert error.filename == str(path)
        assert ("No space left" if how is no_space else "Input/output error") in str(error)
        assert_good(path, new if "written, but" in str(error) else ARRAYS)
        assert os.listdir(path.parent) == [path.name]
        failed.append(state.failed)
    # the new file is made, its header and data written and synced; it is renamed; the folder is opened and synced
    assert failed == ["open", "write", "write", "fsync", "replace", "open", "fsync"]
    assert_good(path, new)


def test_a_write_that_takes_only_a_part_is_continued(path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:7]))
    write_arrays(path, FORM, VALUES, ARRAYS)
    assert_good(path)


KILLED = """
import os, sys, time, traceback
sys.path[:0] = [{tests!r}]
from failing_files import failing, killed
import numpy as np
from gradcore.files import Format, write_arrays
path, form = sys.argv[1], Format("example", 3)
new = {{"x": np.arange(200_000.0)}}
def child(nth, delay):
    pid = os.fork()
    if pid:
        if delay is not None:
            time.sleep(delay)
            os.kill(pid, 9)
        _, status = os.waitpid(pid, 0)
        return os.WIFSIGNALED(status)
    try:
        while True:
            with failing(nth, killed):
                write_arrays(path, form, {{}}, new)
            if delay is None:
                break
    except BaseException:
        traceback.print_exc()
    os._exit(0)
# at every call, and at 50 times that nobody chose
stopped = [child(nth, None) for nth in range(1, 9)]
print(stopped.index(False), [child(0, 0.0004 * i) for i in range(50)].count(True), child(3, None))
"""


def test_kill_9_never_costs_the_file_and_the_next_save_cleans_up(path):
    source = KILLED.format(tests=str(Path(__file__).parent))
    done = subprocess.run([sys.executable, "-c", source, path], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["7", "50", "True"], done.stderr
    assert len(os.listdir(path.parent)) == 2  # the last one left something
    contents = read_arrays(path, FORM)
    assert np.array_equal(contents.arrays["x"], np.arange(200_000.0))
    write_arrays(path, FORM, VALUES, ARRAYS)
    assert os.listdir(path.parent) == [path.name]
    assert_good(path)


def test_a_file_that_is_being_written_is_nobody_s_litter(path):
    def slowly():
        yield b"first "
        write_atomically(path, [b"another save, from beginning to end"])
        yield b"second"

    write_atomically(path, slowly())
    assert path.read_bytes() == b"first second"
    assert os.listdir(path.parent) == [path.name]


def test_no_folder_no_permission_and_a_folder_in_the_way_are_said(path, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No such file or directory.*absent"):
        write_arrays(tmp_path / "absent" / "a", FORM, {}, {})
    with pytest.raises(IsADirectoryError):
        write_arrays(tmp_path, FORM, {}, {})
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileExistsError, match="not a regular file"):
        write_arrays(tmp_path / "pipe", FORM, {}, {})
    if os.geteuid():  # the superuser may do anything
        tmp_path.chmod(0o500)
        with pytest.raises(PermissionError, match="unchanged"):
            write_arrays(path, FORM, {}, {})
        tmp_path.chmod(0o700)


def test_a_link_stays_a_link_and_the_mode_stays(path, tmp_path):
    path.chmod(0o640)
    link = tmp_path / "link"
    link.symlink_to(path.name)
    write_arrays(link, FORM, {}, {})
    assert link.is_symlink()
    assert read_arrays(path, FORM).arrays == {}
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_new_file_gets_the_mode_that_the_umask_gives(tmp_path):
    before = os.umask(0o027)
    try:
        write_arrays(tmp_path / "new", FORM, {}, {})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640


def test_names_as_long_and_as_odd_as_the_system_allows(tmp_path):
    for name in ["x" * 255, "é" * 127, "new\nline", "-rf", " ", "%s{0}", os.fsdecode(b"\xff\xfe not UTF-8")]:
        write_arrays(tmp_path / name, FORM, VALUES, ARRAYS)
        assert_good(tmp_path / name)
    with pytest.raises(OSError, match="File name too long"):
        write_arrays(tmp_path / ("x" * 256), FORM, {}, {})


# --- 79, 80: two writers, other versions


def test_of_many_writers_one_wins_whole(path):
    arrays = [{"x": np.full(20_000, float(i))} for i in range(4)]

    def write(mine):
        for _ in range(10):
            write_arrays(path, FORM, {}, mine)

    threads = [threading.Thread(target=write, args=(mine,)) for mine in arrays]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        found = read_arrays(path, FORM).arrays
        if "x" in found:
            assert (found["x"] == found["x"][0]).all()
    for thread in threads:
        thread.join()
    assert os.listdir(path.parent) == [path.name]


def test_a_newer_version_is_refused_and_an_older_one_is_told_to_the_caller(path):
    with pytest.raises(ValueError, match=r"version 3 of the format; this gradcore reads up to 2: upgrade"):
        read_arrays(path, Format("example", 2))
    assert read_arrays(path, Format("example", 4)).version == 3


def test_a_file_of_another_kind_is_refused_by_name(path):
    with pytest.raises(ValueError, match="holds a 'example', not a 'network'"):
        read_arrays(path, Format("network", 1))
