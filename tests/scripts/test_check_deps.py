#!/usr/bin/env python3
"""scripts/check-deps finds what it is there for: a copy of the tree with one forbidden thing added
must fail, and say where. Prints TAP; needs nothing but Python."""

import runpy
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
SCRIPT = TOP / "scripts/check-deps"
FOLDERS = runpy.run_path(str(SCRIPT))["FOLDERS"]

# What is done to the copy: a file, a line added to it, and what the complaint must contain.
CASES = [
    ("lib does not know core", "lib/text.c", '#include "core/token.h"', "lib/text may not"),
    ("the dialogue with the client does no I/O", "pop3/client.c", "#include <sys/socket.h>", "<sys/socket.h>"),
    ("that with the server has no loop", "pop3/login.c", '#include "lib/loop.h"', "may not include lib/loop"),
    ("core has no clock", "core/destination.h", "#  include <time.h>", "<time.h>"),
    ("pop3 does not know local", "pop3.c", '#include "local/file.h"', "not include local/file"),
    ("local does not know pop3", "local/file.c", '#include "pop3.h"', "may not include pop3"),
    ("only tls knows mbedTLS", "lib/conn.c", "#include <mbedtls/ssl.h>", "<mbedtls/ssl.h>"),
    ("and psa", "lib/sys.c", "#include <psa/crypto.h>", "<psa/crypto.h>"),
    ("only json knows jsmn", "local/file.c", "#include <jsmn.h>", "<jsmn.h>"),
    ("only sys knows epoll", "lib/loop.c", "#include <sys/epoll.h>", "<sys/epoll.h>"),
    ("nobody resolves names in libc", "lib/dial.c", "#include <netdb.h>", "<netdb.h>"),
    ("threads", "tproxy.c", "#include <pthread.h>", "<pthread.h>"),
    ("an unknown header", "pop3.c", '#include "lib/unheard_of.h"', "lib/unheard_of.h is not"),
    ("an unknown file", "lib/unheard_of.c", "#include <stddef.h>", "lib/unheard_of.c: not in the"),
]


def check(top: Path, script: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, script, top], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    return done.returncode, done.stdout.decode()


def copy_tree(to: Path) -> None:
    for folder in FOLDERS:
        (to / folder).mkdir(parents=True, exist_ok=True)
        for path in (TOP / folder).glob("*.[ch]"):
            shutil.copy(path, to / folder / path.name)


def run_case(script: Path, file: str, line: str, complaint: str) -> str:
    """Empty if the complaint came, else what came instead."""
    with tempfile.TemporaryDirectory() as directory:
        top = Path(directory)
        copy_tree(top)
        with open(top / file, "a", encoding="utf-8") as out:
            out.write(f"\n{line}\n")
        status, output = check(top, script)
    if status != 0 and complaint in output and len(output.splitlines()) == 1:
        return ""
    return f"status {status}: {output}"


def main() -> int:
    results = []
    status, output = check(TOP, SCRIPT)
    results.append(("the tree as it is", "" if status == 0 else output))
    for name, file, line, complaint in CASES:
        results.append((name, run_case(SCRIPT, file, line, complaint)))

    with tempfile.TemporaryDirectory() as directory:
        circular = Path(directory) / "check-deps"
        text = SCRIPT.read_text()
        circular.write_text(text.replace("lib/base        :", "lib/base        : lib/text", 1))
        status, output = check(TOP, circular)
        good = status != 0 and "a circle: lib/base -> lib/text -> lib/base" in output
        results.append(("a circle in the table", "" if good else f"status {status}: {output}"))

    print(f"1..{len(results)}")
    for number, (name, wrong) in enumerate(results, 1):
        print(f"{'not ok' if wrong else 'ok'} {number} - {name}")
        for line in wrong.splitlines():
            print(f"# {line}")
    return 1 if any(wrong for _, wrong in results) else 0


if __name__ == "__main__":
    sys.exit(main())
