"""Where the servers' files lie: below LOCAL_DIR, or elsewhere when their account cannot get there."""

import importlib.metadata
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path

from mailer_project.local.process import Account, LocalServiceError, may

NOTE = "place"  # the file in LOCAL_DIR that names the other place
OTHER_PLACES = (Path("/var/lib"), Path("/var/tmp"), Path("/tmp"))  # noqa: S108 - mkdtemp makes a private name
REQUIREMENTS = "mailer_project/local/requirements.txt"


def make_directory(path: Path) -> Path:
    """Create a directory others may pass through, with its missing parents; what exists is left as it is."""
    missing = [each for each in (path, *path.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir()
        each.chmod(0o755)  # whatever the umask: the servers' account must get through
    return path.resolve()


def server_home(directory: Path, name: str, account: Account | None) -> Path:
    """The server's directory: `directory`/`name`, or one in another place if the account cannot reach that.

    The other place is noted in `directory`, so that the next start finds the data. No existing
    directory's permissions are changed.
    """
    home = make_directory(_reachable(make_directory(directory), account) / name)
    if account is not None:
        os.chown(home, account.uid, account.gid)
    elif home.stat().st_uid != os.geteuid():
        raise LocalServiceError(f"{home} belongs to another user; delete it, or set LOCAL_DIR elsewhere.")
    home.chmod(0o700)
    return home


def _reachable(directory: Path, account: Account | None) -> Path:
    if may(account, "-x", directory):
        return directory
    note = directory / NOTE
    if note.exists() and may(account, "-x", Path(note.read_text().strip())):
        return Path(note.read_text().strip())
    place = _other_place(account)
    note.write_text(f"{place}\n")
    return place


def _other_place(account: Account | None) -> Path:
    for parent in OTHER_PLACES:
        if os.access(parent, os.W_OK) and may(account, "-x", parent):
            place = Path(tempfile.mkdtemp(prefix="mailer-local-", dir=parent))
            place.chmod(0o755)
            return place
    raise LocalServiceError(f"Found no place for the servers' files in {', '.join(map(str, OTHER_PLACES))}.")


def empty(directory: Path, keep: Collection[str] = ()) -> None:
    """Delete what is in the directory, and the other place if it names one."""
    note = directory / NOTE
    if note.exists():
        shutil.rmtree(note.read_text().strip(), ignore_errors=True)
    for path in directory.iterdir():
        if path.name in keep:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def remove(directory: Path) -> None:
    """Delete the directory with everything in it, and the other place if it names one."""
    empty(directory)
    directory.rmdir()


def wheel(package: str, distribution: str) -> Path:
    """The directory of an installed wheel's package, without importing it; LocalServiceError if missing."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise LocalServiceError(f"{distribution} is not installed: pip install -r {REQUIREMENTS}.")
    return Path(found.origin).parent


def usable_copy(sources: list[Path], program: Path, home: Path, account: Account | None, label: str) -> Path:
    """The program's path as the account can run it: where it is, or in a copy of `sources` in `home`."""
    if may(account, "-x", program):
        return program
    root = sources[0].parent
    copy = home / label
    if not copy.exists():
        _copy(sources, copy, account)
    return copy / program.relative_to(root)


def _copy(sources: list[Path], target: Path, account: Account | None) -> None:
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    for source in sources:
        shutil.copytree(source, partial / source.name, symlinks=True)
    for path in (partial, *partial.rglob("*")):
        if account is not None:
            os.chown(path, account.uid, account.gid, follow_symlinks=False)
    partial.rename(target)  # only a whole copy ever has the final name


def version(distribution: str) -> str:
    """The installed version of a distribution."""
    return importlib.metadata.version(distribution)
