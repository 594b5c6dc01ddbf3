"""Reading files that strangers named: regular ones only, and no longer than they may be."""

import errno
import os
import stat

from storage.bad_sample import BadSample


def read_regular_file(path: str | os.PathLike[str], *, limit_bytes: int, follow_links: bool = False) -> bytes:
    """The bytes of a regular file of at most `limit_bytes`.

    Raises BadSample for a link (unless followed), a pipe, a device, a folder, an empty and an oversized file; what is
    seen and what is read are the same open file. A missing or unreadable file is the world's failure and raises
    OSError.
    """
    name = os.path.basename(path)
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # opening a pipe that nobody writes to must not wait
    try:
        descriptor = os.open(path, flags if follow_links else flags | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise BadSample("file.link", f"{name} is a symbolic link; put the file itself in its place") from None
        if error.errno == errno.ENXIO:  # a socket, or a device without a driver
            raise BadSample("file.not_regular", f"{name} is not a regular file; remove it") from None
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise BadSample("file.not_regular", f"{name} is not a regular file; remove it")
        if status.st_size > limit_bytes:
            raise BadSample("file.too_large", f"{name} has {status.st_size} bytes; at most {limit_bytes} are expected")
        content = os.read(descriptor, status.st_size + 1)
        if len(content) != status.st_size:  # an interrupted or a growing file: read on to its end, whatever that is now
            content = _read_on(descriptor, content, limit_bytes)
    finally:
        os.close(descriptor)
    if not content:
        raise BadSample("file.empty", f"{name} is empty; copy it again")
    if len(content) > limit_bytes:
        raise BadSample("file.too_large", f"{name} has more than the {limit_bytes} bytes that are expected")
    return content


def _read_on(descriptor: int, content: bytes, limit_bytes: int) -> bytes:
    while len(content) <= limit_bytes:
        more = os.read(descriptor, limit_bytes + 1 - len(content))
        if not more:
            break
        content += more
    return content
