"""The container image, and the program in the image's file tree, started as a container runtime
starts it."""

import json
import subprocess
import tarfile
from pathlib import Path

from harness.tproxy import Program

# Enters a mount namespace. $1 becomes the root, with the mounts "PLACE FROM" up to "--" in it, all
# of it read-only. The rest of the arguments is then run as the user $2, who cannot get more rights.
SETUP = """
set -e
root=$1 user=$2
shift 2
mount --bind "$root" "$root"
while [ "$1" != -- ]; do
    mount --bind "$2" "$root$1"
    mount -o remount,bind,ro "$root$1"
    shift 2
done
shift
mount -o remount,bind,ro "$root"
exec setpriv --no-new-privs --bounding-set=-all,+sys_chroot,+setuid,+setgid \
    chroot --userspec="$user" --groups= "$root" "$@"
"""


def unpack(archive: Path, place: Path) -> None:
    with tarfile.open(archive) as tar:
        # A Python that has filters warns if none is given.
        tar.extractall(place, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))


class FileTree:
    """A directory that becomes the root of a process. `config` is what an image says of the
    process: Entrypoint, User, Env."""

    def __init__(self, root: Path, config: dict):
        self.root = root
        self.config = config

    def command(self, mounts: dict[str, Path], user: str = "") -> list[str]:
        """Returns the words to put before a command so that it runs in the image, as the image's
        user or another one (UID:GID); only root may do that. `mounts` maps places in the image to
        outside files. The process keeps its id."""
        words = []
        for place, source in {"/proc": Path("/proc"), **mounts}.items():
            # The places are created before the root becomes read-only, as a runtime does.
            inside = self.root / place.lstrip("/")
            if source.is_dir():
                inside.mkdir(parents=True, exist_ok=True)
            else:
                inside.parent.mkdir(parents=True, exist_ok=True)
                inside.touch()
            words += [place, str(source)]
        unshare = ["unshare", "--mount", "sh", "-c", SETUP, "sh"]
        return [*unshare, str(self.root), user or self.config["User"], *words, "--"]


class Image(FileTree):
    """An OCI archive that is unpacked into `directory`."""

    def __init__(self, archive: Path, directory: Path):
        assert archive.exists(), f"{archive} is not there: run make image"
        self.archive = archive
        self._layout = directory / "layout"
        unpack(archive, self._layout)
        (entry,) = json.loads((self._layout / "index.json").read_text())["manifests"]
        manifest = json.loads(self._blob(entry).read_text())
        self.name = entry["annotations"]["org.opencontainers.image.ref.name"]
        config = json.loads(self._blob(manifest["config"]).read_text())["config"]
        super().__init__(directory / "root", config)
        self.layers = [self._blob(layer) for layer in manifest["layers"]]
        for layer in self.layers:
            unpack(layer, self.root)
        directory.chmod(0o755)
        self.root.chmod(0o755)

    def _blob(self, descriptor: dict) -> Path:
        return self._layout / "blobs" / descriptor["digest"].replace(":", "/")

    def files(self) -> list[tarfile.TarInfo]:
        """Returns everything in the image."""
        found = []
        for layer in self.layers:
            with tarfile.open(layer) as tar:
                found += tar.getmembers()
        return found


class Container(Program):
    """The program in an image, or another one in it, instead of the binary that was built."""

    def __init__(
        self, image: Image, mounts: dict[str, Path], path: str = "", **environment: str
    ):
        self.path = Path(path or image.config["Entrypoint"][0])
        self.wrapper = tuple(image.command(mounts))
        self._environment = environment

    def spawn(self, *arguments: str, uid: int | None = None, **options) -> subprocess.Popen:
        """Starts the program. Its user is that of the image."""
        return super().spawn(*arguments, uid=0, env=self._environment, **options)
