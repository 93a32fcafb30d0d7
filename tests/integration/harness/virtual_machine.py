"""A small virtual machine: Debian's kernel and a file system in memory with Python and a few files.
Tests use it for features that their machine may lack, such as control groups of version 2. QEMU
emulates the processor, so no rights are needed; the only network is loopback."""

import os
import stat
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[3]

PYTHON = Path("/usr/bin/python3")
KERNEL = ROOT / "scripts/vm-kernel.sh"

# no_timer_check: when the machine under QEMU is busy, its timer interrupts come too late for the
# kernel's check of the hardware, and the kernel gives up.
OPTIONS = "console=ttyS0 quiet panic=-1 loglevel=1 mitigations=off no_timer_check"

# The parts of Python's library that no guest needs.
SKIPPED = {"test", "idlelib", "lib2to3", "tkinter", "turtledemo", "ensurepip", "distutils",
           "pydoc_data", "unittest", "__pycache__", "dist-packages"}

INIT = """#!/usr/bin/python3
import ctypes, os, runpy, sys, traceback
libc = ctypes.CDLL(None, use_errno=True)
for kind, at in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("tmpfs", "/tmp"),
                 ("cgroup2", "/sys/fs/cgroup")]:
    if libc.mount(b"none", at.encode(), kind.encode(), 0, None) != 0:
        print("cannot mount", kind, os.strerror(ctypes.get_errno()))
try:
    sys.argv = {arguments!r}
    sys.path.insert(0, "/guest")
    runpy.run_path(sys.argv[0], run_name="__main__")
except BaseException:
    traceback.print_exc(file=sys.stdout)
sys.stdout.flush()
os.sync()
libc.reboot(0x4321FEDC)
"""


class Archive:
    """An initial file system in the kernel's format ("newc" of cpio)."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.names: set[str] = set()

    def _entry(self, name: str, mode: int, data: bytes) -> None:
        raw = name.encode() + b"\0"
        fields = [len(self.names) + 1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(raw), 0]
        head = b"070701" + b"".join(b"%08x" % field for field in fields) + raw
        self.parts += [head, b"\0" * (-len(head) % 4), data, b"\0" * (-len(data) % 4)]
        self.names.add(name)

    def directory(self, path: str) -> None:
        name = path.strip("/")
        if name and name not in self.names:
            self.directory(os.path.dirname(name))
            self._entry(name, stat.S_IFDIR | 0o755, b"")

    def file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        name = path.strip("/")
        if name not in self.names:
            self.directory(os.path.dirname(name))
            self._entry(name, stat.S_IFREG | mode, data)

    def copy(self, source: Path, path: str | None = None) -> None:
        mode = 0o755 if os.access(source, os.X_OK) else 0o644
        self.file(path or str(source), source.read_bytes(), mode)

    def libraries_of(self, program: Path) -> None:
        """Adds the libraries that the dynamic linker will load."""
        listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False)
        for word in listed.stdout.split():
            if word.startswith("/"):
                self.copy(Path(word))

    def whole(self) -> bytes:
        self._entry("TRAILER!!!", 0, b"")
        return b"".join(self.parts)


def add_python(archive: Archive) -> None:
    library = Path(subprocess.run([PYTHON, "-c", "import os; print(os.path.dirname(os.__file__))"],
                                  capture_output=True, text=True, check=True).stdout.strip())
    archive.copy(PYTHON.resolve(), str(PYTHON))
    archive.libraries_of(PYTHON)
    for directory, below, files in os.walk(library):
        below[:] = [name for name in below if name not in SKIPPED]
        for name in files:
            path = Path(directory) / name
            archive.copy(path)
            if path.suffix == ".so":
                archive.libraries_of(path)


def run(guest: Path, arguments: list[str], files: dict[str, Path], memory: int = 1024,
        timeout: int = 300) -> str:
    """Runs a Python program as the machine's first process. `files` maps paths in the machine to
    our files; `memory` is in MiB. Returns the program's output."""
    archive = Archive()
    for path in ("/proc", "/sys", "/dev", "/tmp", "/guest"):
        archive.directory(path)
    add_python(archive)
    for path, source in files.items():
        archive.copy(source, path)
    main = f"/guest/{guest.name}"
    archive.copy(guest, main)
    archive.file("/init", INIT.replace("{arguments!r}", repr([main, *arguments])).encode(), 0o755)
    kernel = subprocess.run([KERNEL], capture_output=True, text=True, check=True).stdout.strip()
    image = os.memfd_create("initrd")
    with open(image, "wb", closefd=False) as f:
        f.write(archive.whole())
    try:
        ran = subprocess.run(
            ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2",
             "-m", str(memory), "-nographic", "-no-reboot", "-nodefaults", "-serial", "stdio",
             "-kernel", kernel, "-initrd", f"/proc/self/fd/{image}",
             "-append", OPTIONS],
            capture_output=True, text=True, errors="replace", timeout=timeout, check=True,
            pass_fds=[image], stdin=subprocess.DEVNULL)
    finally:
        os.close(image)
    return ran.stdout
