"""Files and folders: written whole or not at all, and read without trusting their size or their text."""

import contextlib
import hashlib
import json
import os
import re
import zipfile
from pathlib import Path

import numpy as np

# --- writing ---------------------------------------------------------------------------------------


def replace_file(file: Path, content: bytes) -> None:
    """Writes `file`, or replaces it, in one rename once the disk holds the content. An OSError names it."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(file)
    except OSError as error:  # that of a full disk names no file
        raise OSError(error.errno, error.strerror, str(file)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def commit_folder(temporary: Path, place: Path) -> Path:
    """Renames a finished folder to `place`, or to `place`.2, .3, ... where that is taken; nothing is ever replaced."""
    flush(temporary)
    target, number = place, 1
    while True:
        try:
            if not os.path.lexists(target):
                temporary.rename(target)
                flush(target.parent, files=False)
                return target
        except OSError:
            if not os.path.lexists(target):
                raise  # not because another process was faster
        number += 1
        target = place.with_name(f"{place.name}.{number}")


def flush(folder: Path, files: bool = True) -> None:
    """Has the disk hold the files before the rename that makes them count, and then the rename itself."""
    for path in [*(folder.iterdir() if files else []), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


# --- reading ---------------------------------------------------------------------------------------


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(value: object) -> str:
    """SHA-256 of a JSON-plain value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def unpack(file: Path, *forms: dict[str, int]) -> dict[str, np.ndarray]:
    """The arrays of an npz file by name, if they are those of one of `forms`, {"name.npy": most bytes}.

    Sizes are checked before anything is unpacked: 2 MB may hold 2 GB. Raises ValueError.
    """
    with zipfile.ZipFile(file) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
    limits = next((form for form in forms if set(form) == set(sizes)), {})
    if not limits or any(sizes[name] > limit + 4096 for name, limit in limits.items()):
        raise ValueError(f"{file.name} holds {sizes} bytes; expected one of {forms}")
    with np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays}


def plain_text(text: str) -> str:
    """Without terminal escapes and control characters, which a file or a notebook could use to forge lines."""
    text = re.sub(r"\x1b(\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|.)", "", text)
    return "".join(c for c in text if c in "\n\t" or c.isprintable())
