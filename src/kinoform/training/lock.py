"""One training at a time in a folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from kinoform.errors import UsageError


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Make the folder if need be, and keep other processes out of it during the block.

    The system ends the hold with the process, however it ends; the file `lock` stays and means nothing by
    itself. Raises UsageError when another holds the folder, and when it is a file or cannot be written.
    """
    lock = FileLock(folder / "lock", timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise UsageError(
            f"another process is training into {folder}; wait until it has ended, or choose another folder",
            code="training_locked",
        ) from None
    except FileExistsError:
        raise UsageError(f"{folder} is a file; choose a folder for the training", code="not_a_folder") from None
    except OSError as failure:
        raise UsageError(
            f"the folder {folder} cannot be written ({failure.strerror or failure}); choose another for the training",
            code="folder_not_writable",
        ) from failure
    try:
        yield
    finally:
        lock.release()
