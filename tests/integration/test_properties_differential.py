"""local/properties_file and java.util.Properties must agree on generated texts if there is a JDK:
on the verdict, and on every key and value."""

import random
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from conftest import seed

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ["tests/tools/properties_verdict.c", "local/properties_file.c", "core/properties.c"] + [
    f"lib/{name}.c" for name in ("json", "text", "buf", "fail", "mem")
]
TEXTS = 50_000
PIECES = ["a", "b", "key", "value", "=", ":", " ", "\t", "\f", "\n", "\r", "\r\n", "\\", "\\\n"]
PIECES += ["\\\r\n", "\\\r", "\\\\", "\\=", "\\:", "\\ ", "\\#", "\\!", "#", "!", "\\t", "\\n", "\\q"]
PIECES += ["\\u0041", "\\u00e9", "\\u20AC", "\\uD83D\\uDCE7", "\\uD83D", "\\uDCE7", "\\u12g4", "\\u"]
PIECES += ["\\U0041", "\u00e9", "\u20ac", "\U0001f4e7", "\\\u00e9", "\u0085", "\u2028", "\v"]
PIECES = [piece.encode() for piece in PIECES] + [b"\xe9", b"\\\xe9", b"\xc3"]
PLAIN = [piece for piece in PIECES if b"\\u" not in piece]


def generate(rng: random.Random) -> bytes:
    pieces = PIECES if rng.random() < 0.5 else PLAIN
    return b"".join(rng.choices(pieces, k=rng.randrange(1, 20)))


@pytest.fixture(scope="module")
def properties_verdict(tmp_path_factory) -> Path:
    program = tmp_path_factory.mktemp("properties") / "properties_verdict"
    flags = ["-std=c17", "-D_GNU_SOURCE", "-O1", "-g", "-fsanitize=address,undefined"]
    flags += ["-fno-sanitize-recover=all", "-I."]
    subprocess.run(["cc", *flags, *SOURCES, "-o", program], cwd=ROOT, check=True)
    return program


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> list[str]:
    javac, java = shutil.which("javac"), shutil.which("java")
    if not javac or not java:
        pytest.skip("no JDK at hand; tests/unit/test_properties_file.c has what it said")
    classes = tmp_path_factory.mktemp("classes")
    source = ROOT / "tests/tools/PropertiesVerdict.java"
    subprocess.run([javac, "-d", classes, source], check=True)
    return [java, "-cp", str(classes), "PropertiesVerdict"]


def verdicts(command: list, texts: list[bytes]) -> list[str]:
    sent = b"".join(struct.pack(">I", len(text)) + text for text in texts)
    answer = subprocess.run(command, input=sent, stdout=subprocess.PIPE, check=True)
    return answer.stdout.decode().splitlines()


def without_empty(verdict: str) -> str:
    """Removes empty keys: Java reads one from a lone backslash at a file's end, tproxy does not."""
    return re.sub(r"(^| )(= )+$", r"\1", verdict)


def test_agrees_with_java(properties_verdict, reference):
    rng = random.Random(seed())
    texts = [generate(rng) for _ in range(TEXTS)]
    ours = verdicts([properties_verdict], texts)
    theirs = verdicts(reference, texts)
    assert len(ours) == len(theirs) == len(texts)
    for text, our, their in zip(texts, ours, theirs):
        assert without_empty(our) == without_empty(their), f"seed {seed()}, text {text!r}"
    refused = ours.count("refused")
    assert 0.1 < refused / TEXTS < 0.5, "the texts do not test both sides"
