#!/usr/bin/env python3
"""Tests scripts/check-deps: a copy of the tree with one forbidden thing added fails, and the
complaint names it. Prints TAP; needs Python, a C compiler and the objects of `make dev`."""

import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
SCRIPT = TOP / "scripts/check-deps"
OBJECTS = TOP / os.environ.get("B", "build") / "dev/obj"
TREE = runpy.run_path(str(SCRIPT))["Tree"](TOP, OBJECTS)


def calls(name: str, function: str = "") -> str:
    """Returns the text of a function that calls another one."""
    body = f"void {function}(void); {function}();" if function else ""
    return f"void {name}(void); void {name}(void) {{ {body} }}"


# A name, lines to add to files, and a text in the only line of the complaint.
INCLUDES = [
    ("lib does not know core", {"lib/conn.h": '#include "core/token.h"'}, "let lib use core/token"),
    ("pop3 does not know local", {"pop3.c": '#include "local/file.h"'}, "let pop3 use local/file"),
    ("local does not know pop3", {"local/file.c": '#include "pop3.h"'}, "let local use pop3"),
    ("a room is not for others", {"oauth.c": '#include "http/server.h"'}, "oauth use http/server"),
    ("an unknown header", {"pop3.c": '#include "lib/new.h"'}, "lib/new.h, which is not there"),
    ("a ring of headers", {"lib/base.h": '#include "lib/list.h"'}, "ring of lib/base.h lib/list.h"),
    ("a pure file has no loop", {"pop3/login.c": '#include "lib/loop.h"'}, "pop3/login.c"),
    ("a pure header has no clock", {"core/tenant.h": "#  include <time.h>"}, "<time.h>"),
    ("pure files know no sockets", {"pop3/client.c": "#include <sys/socket.h>"}, "<sys/socket.h>"),
    ("only tls knows mbedTLS", {"lib/conn.c": "#include <mbedtls/ssl.h>"}, "<mbedtls/ssl.h>"),
    ("only tls knows psa", {"lib/sys.c": "#include <psa/crypto.h>"}, "<psa/crypto.h>"),
    ("only json knows jsmn", {"local/file.c": "#include <jsmn.h>"}, "<jsmn.h>"),
    ("only sys knows epoll", {"lib/loop.c": "#include <sys/epoll.h>"}, "<sys/epoll.h>"),
    ("no file resolves names in libc", {"lib/dial.c": "#include <netdb.h>"}, "<netdb.h>"),
    ("no file has threads", {"tproxy.c": "#include <pthread.h>"}, "<pthread.h>"),
]
# These have the same form; their files are compiled again.
CALLS = [
    (
        "a call upward",
        {"lib/map.c": calls("up", "pop3_down"), "pop3/hops.c": calls("pop3_down")},
        "lib/map.c: calls pop3_down() of pop3/hops.c: FOLDERS does not let lib use pop3/hops",
    ),
    (
        "a ring of calls",
        {"lib/heap.c": calls("ping", "pong"), "lib/text.c": calls("pong", "ping")},
        "a ring of lib/heap.c lib/text.c: lib/heap.c: calls pong() of lib/text.c; lib/text.c: ca",
    ),
    (
        "a function that its own header does not declare",
        {"lib/map.c": calls("ask", "asked"), "lib/heap.c": calls("asked")},
        "lib/map.c: calls asked() of lib/heap.c, but does not include lib/heap.h",
    ),
    (
        "a pure file calls no file that is not",
        {"lib/heap.c": calls("ask", "asked"), "lib/sys.c": calls("asked")},
        "lib/heap.c: calls asked() of lib/sys.c: a pure file",
    ),
    (
        "a pure file reads no clock",
        {"core/tenant.c": calls("now", "clock")},
        "core/tenant.c: calls clock(): a pure file",
    ),
    (
        "a pure file does no I/O",
        {"core/tenant.c": calls("save", "fsync")},
        "core/tenant.c: calls fsync(): a pure file",
    ),
    (
        "a pure file keeps no state",
        {"core/tenant.c": "int *keep(void); int *keep(void) { static int kept; return &kept; }"},
        "core/tenant.c: has the variable kept",
    ),
    (
        "a function of a room without its folder's prefix",
        {"pop3/hops.c": calls("hops_count")},
        "pop3/hops.c: hops_count must begin with pop3_",
    ),
    ("a function of a face without its prefix", {"http.c": calls("get")}, "http.c: get must begin"),
]
# A row to add to a table of the script, and the complaint.
TABLES = [
    ("folders in a ring", "FOLDERS", "core : lib http", "http in the row of core is neither above"),
    ("a folder that is not used", "FOLDERS", "http : lib lib/new", "http does not use lib/new"),
    ("a pure file that is not there", "PURE", "lib/new", "lib/new is not there: take it out"),
    ("a header that is not included", "SYSTEM", "jsmn.h : lib/json pop3", "take it out"),
]


class Copy:
    """A copy of the sources and objects that keeps their times."""

    def __init__(self, top: Path):
        self.top, self.objects = top, top / "build/dev/obj"
        objects = TREE.objects_of_sources()
        for file in TREE.files:
            self.copy(TOP / file, top / file)
        for made in objects.values():
            for path in (made, made.with_suffix(".d")):
                self.copy(path, self.objects / path.relative_to(OBJECTS))

    @staticmethod
    def copy(path: Path, to: Path) -> None:
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, to)

    def object(self, file: str) -> Path:
        return self.objects / Path(file).with_suffix(".o")

    def add(self, file: str, line: str) -> None:
        path = self.top / file
        times = path.stat()
        path.write_text(f"{path.read_text()}\n{line}\n")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    def compile(self, file: str) -> None:
        command = ["cc", "-std=c17", "-D_GNU_SOURCE", "-I.", "-c", file, "-o", self.object(file)]
        subprocess.run(command, cwd=self.top, check=True)

    def restore(self, file: str) -> None:
        self.copy(TOP / file, self.top / file)
        if file.endswith(".c"):
            self.copy(OBJECTS / Path(file).with_suffix(".o"), self.object(file))

    def complaint(self, script: Path = SCRIPT) -> list[str]:
        done = subprocess.run(
            [sys.executable, script, self.top],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        return done.stdout.decode().splitlines() if done.returncode != 0 else []


def verdict(lines: list[str], expected: str) -> str:
    """Returns nothing if the only complaint is the expected one, otherwise the complaints. That the
    functions of the cases are in no header is a complaint of its own."""
    lines = [line for line in lines if expected in line or "but does not include" not in line]
    if len(lines) == 1 and expected in lines[0]:
        return ""
    return "\n".join(lines) or "no complaint"


def run(copy: Copy):
    """Yields the name of each case and its error."""
    yield "the tree as it is", "\n".join(copy.complaint())
    for cases, compiled in ((INCLUDES, False), (CALLS, True)):
        for name, added, expected in cases:
            for file, line in added.items():
                copy.add(file, line)
                if compiled:
                    copy.compile(file)
            yield name, verdict(copy.complaint(), expected)
            for file in added:
                copy.restore(file)

    script, text = copy.top / "check-deps", SCRIPT.read_text()
    for name, table, row, expected in TABLES:
        # The last row with a name counts.
        script.write_text(re.sub(rf'(\n{table} = """.*?)"""', rf'\1{row}\n"""', text, 1, re.DOTALL))
        yield name, verdict(copy.complaint(script), expected)

    (copy.top / "lib/text.h").touch()
    yield "an object that is older", verdict(copy.complaint()[:1], "make check-deps")
    copy.restore("lib/text.h")
    copy.object("pop3.c").unlink()
    yield "an object that is missing", verdict(copy.complaint(), "pop3.o is missing or older")
    copy.restore("pop3.c")
    copy.copy(TOP / "pop3.c", copy.top / "lib/new.c")
    yield "an unknown file", verdict(copy.complaint(), "new.o is missing")


def main() -> int:
    with tempfile.TemporaryDirectory() as directory:
        results = list(run(Copy(Path(directory))))
    print(f"1..{len(results)}")
    for number, (name, wrong) in enumerate(results, 1):
        print(f"{'not ok' if wrong else 'ok'} {number} - {name}")
        for line in wrong.splitlines():
            print(f"# {line}")
    return 1 if any(wrong for _, wrong in results) else 0


if __name__ == "__main__":
    sys.exit(main())
