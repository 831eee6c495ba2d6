"""Files that survive: written whole or not at all, and read with suspicion.

A file is a safetensors file whose metadata hold one JSON text under ``gradcore``: the format's name and version, plain
values, and a SHA-256 over the whole file (safetensors has no checksum; neither does it refuse a name given twice).
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import math
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradcore.errors import check_path

Array = NDArray[Any]
Buffer = bytes | memoryview

# What a hostile header can cost to parse stays below 100 MB; a network of 5000 layers needs a third of this.
HEADER_LIMIT = 2 << 20

METADATA, OURS = "__metadata__", "gradcore"

_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip

# What people hand over by mistake; none of it is looked into.
_FOREIGN = {
    b"PK": "a zip archive (.npz, or a PyTorch file)",
    b"\x93NUMPY": "a NumPy array (.npy)",
    b"\x80\x02": "a pickle",
    b"\x80\x04\x95": "a pickle",
    b"\x80\x05\x95": "a pickle",
    b"\x89HDF": "an HDF5 file",
    b"\x1f\x8b": "a gzip file",
}

_NO_LENGTH = "its first 8 bytes are not the length of a header"
_DIGEST = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Format:
    """What a file holds, by name, and the newest version that this gradcore writes and reads."""

    name: str
    version: int


class Contents(NamedTuple):
    """What was read: the version it was written in, plain values, and arrays by name."""

    version: int
    values: dict[str, Any]
    arrays: dict[str, Array]


def write_arrays(
    path: str | os.PathLike[str], form: Format, values: Mapping[str, Any], arrays: Mapping[str, Array]
) -> None:
    """Write plain values and arrays to a file that replaces an older one only when all of it is on the disk.

    Parameters
    ----------
    path : path
        A link is followed; the mode of a file that is there stays.
    form : Format
    values : mapping of str
        Text, numbers, True, False, None, and lists and mappings (with keys of text) of those. JSON has no NaN and no
        infinity: such numbers belong into arrays.
    arrays : mapping of str to ndarray
        Real numbers or booleans, of any layout and byte order.

    Raises
    ------
    OSError
        No space, no permission, no such folder, …; what was at `path` before is still there.
    TypeError, ValueError
        Something that the format cannot hold; nothing was written.

    Examples
    --------
    >>> import tempfile
    >>> path, form = Path(tempfile.mkdtemp(), "a.safetensors"), Format("example", 1)
    >>> write_arrays(path, form, {"why": "to see"}, {"x": np.arange(3.0)})
    >>> read_arrays(path, form)
    Contents(version=1, values={'why': 'to see'}, arrays={'x': array([0., 1., 2.])})
    """
    write_atomically(path, _encoded(check_path("path", path), form, values, arrays))


def read_arrays(path: str | os.PathLike[str], form: Format) -> Contents:
    """Read what `write_arrays` wrote, and refuse everything else.

    Nothing of a file is run, and nothing is taken on trust: its sizes are compared with the file's before memory is
    asked for, and every bit is under the checksum. (That finds accidents. Who wants to deceive can write a right one:
    the caller checks what the values mean.)

    Raises
    ------
    OSError
        The file cannot be opened.
    ValueError
        It is not such a file, of another kind, of a newer version, or damaged; the message says which.
    """
    path = check_path("path", path)
    if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():  # (of a folder, open says what is wrong)
        raise ValueError(f"{path} is not a regular file")
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        prefix = file.read(8)
        length = int.from_bytes(prefix, "little")
        if len(prefix) < 8 or not 2 <= length <= size - 8:
            raise _not_ours(path, prefix)
        if length > HEADER_LIMIT:
            raise _not_ours(path, prefix, f"its header claims {length} bytes, more than {HEADER_LIMIT}")
        prefix += file.read(length)
        header = _strict_json(path, prefix[8:])
        about = _about(path, header, form)
        if _data_size(path, header) != size - 8 - length:
            raise _damaged(path, "its size is not what its header says; it was cut off, or something added")
        data = file.read(size - 8 - length)
    digest = about["sha256"].encode()
    if prefix.count(digest) != 1 or _checksum(prefix.replace(digest, b"0" * 64), data) != about["sha256"]:
        raise _damaged(path, "its checksum does not fit")
    return Contents(about["version"], about["values"], _decoded(path, prefix + data, header))


def write_atomically(path: str | os.PathLike[str], chunks: Iterable[Buffer]) -> None:
    """Write bytes to a file so that, whatever happens, it is afterwards the old one or the new one, whole.

    They go to a new file in the same folder, onto the disk (fsync), and take the name in one step (rename). What a
    killed process has left of such a file is removed by the next one that writes to the same path.
    """
    path = check_path("path", path)
    target = Path(os.path.realpath(path))
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        mode = None
    if mode is not None and not stat.S_ISREG(mode):
        kind = IsADirectoryError if stat.S_ISDIR(mode) else FileExistsError
        raise kind(errno.EISDIR if stat.S_ISDIR(mode) else errno.EEXIST, "not a regular file", str(path))
    try:
        _remove_litter(target)
        with _partial(target) as (descriptor, partial):
            if mode is not None:
                os.fchmod(descriptor, stat.S_IMODE(mode))
            for chunk in chunks:
                _write_all(descriptor, chunk)
            os.fsync(descriptor)
            os.replace(partial, target)
    except OSError as error:
        said = f"{error.strerror or error}: not written, and what was there is unchanged"
        raise OSError(error.errno, said, str(path)) from error
    try:
        _sync_folder(target.parent)
    except OSError as error:
        said = f"{error.strerror or error}: written, but a loss of power now may bring the older file back"
        raise OSError(error.errno, said, str(path)) from error


def _write_all(descriptor: int, chunk: Buffer) -> None:
    rest = memoryview(chunk)
    while len(rest):
        # (Linux writes at most 2 GB at a time)
        rest = rest[os.write(descriptor, rest[: 1 << 30]) :]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _partial_prefix(target: Path) -> str:
    # short, however long the name: a file name has at most 255 bytes
    return f".{target.name[:40]}.{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:8]}-"


@contextmanager
def _partial(target: Path) -> Iterator[tuple[int, Path]]:
    """Make a new file beside the target, locked while it is written, and removed if it does not become the target."""
    while True:
        partial = target.with_name(f"{_partial_prefix(target)}{secrets.token_hex(4)}.partial")
        descriptor = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666)
        try:
            with suppress(OSError):  # a file system without locks: then nobody removes litter on it either
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if not os.fstat(descriptor).st_nlink:
                continue  # taken for litter in the moment before it was locked
            yield descriptor, partial
            return
        except BaseException:
            with suppress(OSError):
                os.unlink(partial)
            raise
        finally:
            os.close(descriptor)


def _remove_litter(target: Path) -> None:
    """Remove what killed processes left of earlier writes to the same target: it is no longer locked."""
    prefix = _partial_prefix(target)
    with suppress(OSError):
        for name in os.listdir(target.parent):
            if not (name.startswith(prefix) and name.endswith(".partial")):
                continue
            with suppress(OSError), open(target.with_name(name), "rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(file.name)


def _encoded(
    path: Path, form: Format, values: Mapping[str, Any], arrays: Mapping[str, Array]
) -> tuple[Buffer, Buffer]:
    """Return the header and the data of a file."""
    import gradcore

    safetensors = _safetensors()
    placeholder = secrets.token_hex(32)  # so that nothing else in the file looks like it
    about = {
        "sha256": placeholder,
        "format": form.name,
        "version": form.version,
        "written_by": f"gradcore {gradcore.__version__}",
        "values": values,
    }
    try:
        text = json.dumps(about, allow_nan=False, separators=(",", ":"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}; put such numbers into an array") from None
    except TypeError as error:
        raise TypeError(f"{path}: {error}; plain values and arrays can be kept") from None
    raw = safetensors.numpy.save(
        {name: _plain(name, array) for name, array in arrays.items()}, metadata={OURS: text}
    )
    end = 8 + int.from_bytes(raw[:8], "little")
    if end > 8 + HEADER_LIMIT:
        raise ValueError(
            f"{path}: the description of {len(arrays)} arrays takes {end - 8} bytes, "
            f"a file has room for {HEADER_LIMIT}: this network has too many layers for one file"
        )
    data = memoryview(raw)[end:]
    prefix = raw[:end].replace(placeholder.encode(), b"0" * 64)
    digest = _checksum(prefix, data).encode()
    return raw[:end].replace(placeholder.encode(), digest), data


def _plain(name: str, array: Array) -> Array:
    """Return an array as the saver needs it, in C order: of views it writes wrong bytes (safetensors#825)."""
    array = np.asarray(array)
    if array.dtype.newbyteorder("<") not in map(np.dtype, _DTYPES.values()):
        raise TypeError(
            f"array {name!r} of dtype {array.dtype} cannot be kept: real numbers and booleans can"
        )
    return np.asarray(array, array.dtype.newbyteorder("="), order="C")


def _decoded(path: Path, raw: bytes, header: Mapping[str, Any]) -> dict[str, Array]:
    safetensors = _safetensors()
    try:
        found = dict(safetensors.deserialize(raw))
    except safetensors.SafetensorError as error:
        raise _damaged(path, str(error)) from None
    arrays = {}
    for name in header:  # in the order of the file: the library gives them in any
        if name == METADATA:
            continue
        part = found[name]
        if part["dtype"] not in _DTYPES:
            raise ValueError(
                f"{path}: array {name!r} has dtype {part['dtype']}, which gradcore does not write"
            )
        kept = np.frombuffer(part["data"], _DTYPES[part["dtype"]]).reshape(part["shape"])
        arrays[name] = kept.astype(kept.dtype.newbyteorder("="), copy=False)
    return arrays


def _checksum(prefix: Buffer, data: Buffer) -> str:
    """SHA-256 of a file in which the checksum itself is 64 zeros."""
    digest = hashlib.sha256(prefix)
    digest.update(data)
    return digest.hexdigest()


def _about(path: Path, header: Any, form: Format) -> dict[str, Any]:
    """Return what the file says of itself, checked but for the checksum."""
    metadata = header.get(METADATA) if isinstance(header, dict) else None
    text = metadata.get(OURS) if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise ValueError(
            f"{path} was not written by gradcore: it says nothing of an architecture; "
            "arrays of another library go into a network by set_parameters"
        )
    about = _strict_json(path, text.encode("utf-8", "surrogatepass"))
    wanted = {"sha256": str, "format": str, "version": int, "values": dict}
    if not isinstance(about, dict) or any(type(about.get(key)) is not kind for key, kind in wanted.items()):
        raise _damaged(path, "its description is not one")
    if about["format"] != form.name:
        raise ValueError(f"{path} holds a {about['format']!r}, not a {form.name!r}")
    if about["version"] > form.version:
        raise ValueError(
            f"{path} was written by {about.get('written_by', 'a newer gradcore')} in version {about['version']} of "
            f"the format; this gradcore reads up to {form.version}: upgrade it"
        )
    if about["version"] < 1 or not _DIGEST.fullmatch(about["sha256"]):
        raise _damaged(path, "its description is not one")
    result: dict[str, Any] = about
    return result


def _data_size(path: Path, header: Mapping[str, Any]) -> int:
    """Return how many bytes of data the header describes."""
    total = 0
    for name, part in header.items():
        if name == METADATA:
            continue
        offsets = part.get("data_offsets") if isinstance(part, dict) else None
        if not isinstance(offsets, list) or len(offsets) != 2 or any(type(o) is not int for o in offsets):
            raise _damaged(path, f"array {name!r} has no place in it")
        total += offsets[1] - offsets[0]
    return total


def _strict_json(path: Path, text: bytes) -> Any:
    """Parse JSON in which no name comes twice and every number is one."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            raise ValueError("a name comes twice in it")
        return result

    def finite(number: str) -> float:
        if not math.isfinite(float(number)):
            raise ValueError(f"{number} in it is no finite number")
        return float(number)

    try:
        return json.loads(
            text.decode("utf-8"), object_pairs_hook=unique, parse_float=finite, parse_constant=finite
        )
    except RecursionError:
        raise _not_ours(path, text, "its header is nested too deeply") from None
    except ValueError as error:  # of JSON, of UTF-8, and ours
        raise _not_ours(path, text, f"its header cannot be read: {error}") from None


def _not_ours(path: Path, start: bytes, why: str = _NO_LENGTH) -> ValueError:
    if not start:
        return ValueError(f"{path} is empty")
    for magic, name in _FOREIGN.items():
        if start.startswith(magic):
            why = f"it looks like {name}, which gradcore neither reads nor runs"
    return ValueError(f"{path} is not a file that gradcore wrote, or it is damaged: {why}")


def _damaged(path: Path, why: str) -> ValueError:
    return ValueError(f"{path} is damaged: {why}; take an older file, or write it anew")


def _safetensors() -> Any:
    """Import the library on use."""
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError("saving and loading need safetensors: pip install safetensors") from error
    return safetensors
