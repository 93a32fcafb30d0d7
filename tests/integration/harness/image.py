"""The container image, and the program in its own file tree, as a container runtime starts it."""

import json
import subprocess
import tarfile
from pathlib import Path

from harness.tproxy import Program

# In a mount namespace of its own: $1 becomes the root, with the mounts "PLACE FROM" up to "--" in
# it, all of it read-only; then the rest is run there as the user $2, without a way to more rights.
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
        # Pythons that know filters warn where none is named.
        tar.extractall(place, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))


class Image:
    """An OCI archive, unpacked into `directory`."""

    def __init__(self, archive: Path, directory: Path):
        assert archive.exists(), f"{archive} is not there: run make image"
        self.archive = archive
        self._layout = directory / "layout"
        unpack(archive, self._layout)
        (entry,) = json.loads((self._layout / "index.json").read_text())["manifests"]
        manifest = json.loads(self._blob(entry).read_text())
        self.name = entry["annotations"]["org.opencontainers.image.ref.name"]
        self.config = json.loads(self._blob(manifest["config"]).read_text())["config"]
        self.layers = [self._blob(layer) for layer in manifest["layers"]]
        self.root = directory / "root"
        for layer in self.layers:
            unpack(layer, self.root)
        directory.chmod(0o755)
        self.root.chmod(0o755)

    def _blob(self, descriptor: dict) -> Path:
        return self._layout / "blobs" / descriptor["digest"].replace(":", "/")

    def files(self) -> list[tarfile.TarInfo]:
        """All that the image consists of."""
        found = []
        for layer in self.layers:
            with tarfile.open(layer) as tar:
                found += tar.getmembers()
        return found

    def command(self, mounts: dict[str, Path]) -> list[str]:
        """What stands before a command of the image to run it there, as root, which takes the
        user of the image. `mounts`: what else is seen, by its place there. The process keeps its
        id."""
        words = []
        for place, source in {"/proc": Path("/proc"), **mounts}.items():
            # The runtime makes the places before the root becomes read-only.
            inside = self.root / place.lstrip("/")
            if source.is_dir():
                inside.mkdir(parents=True, exist_ok=True)
            else:
                inside.parent.mkdir(parents=True, exist_ok=True)
                inside.touch()
            words += [place, str(source)]
        unshare = ["unshare", "--mount", "sh", "-c", SETUP, "sh"]
        return [*unshare, str(self.root), self.config["User"], *words, "--"]


class Container(Program):
    """The program of an image, or another one in it, in place of the binary that was built."""

    def __init__(
        self, image: Image, mounts: dict[str, Path], path: str = "", **environment: str
    ):
        self.path = Path(path or image.config["Entrypoint"][0])
        self.wrapper = tuple(image.command(mounts))
        self._environment = environment

    def spawn(self, *arguments: str, uid: int | None = None, **options) -> subprocess.Popen:
        """The image says as whom it runs."""
        return super().spawn(*arguments, uid=0, env=self._environment, **options)
