"""lib/json and Python's strict parser must agree on 100,000 generated texts: on the verdict, and on
the value of every accepted text."""

import json
import random
import struct
import subprocess
from pathlib import Path

import pytest
from conftest import seed

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ["tests/tools/json_verdict.c"] + [
    f"lib/{name}.c" for name in ("json", "text", "buf", "fail", "mem")
]
TEXTS = 100_000
MAX_DEPTH = 64  # JSON_MAX_DEPTH


# ---- the reference ----


class Members(list):
    """An object with its members in the order of the text, including duplicates."""


class Number(str):
    """A number as it is written."""


def refuse_constant(name: str):
    raise ValueError(f"{name} is no JSON")


DECODER = json.JSONDecoder(
    strict=True,
    parse_int=Number,
    parse_float=Number,
    parse_constant=refuse_constant,
    object_pairs_hook=Members,
)


def show(value, depth: int = 0) -> str:
    """Returns the form that json_verdict prints. Raises ValueError for a lone surrogate."""
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, Number):
        return f"#{value}"
    if isinstance(value, str):
        return f"'{value.encode().hex()}'"
    if depth == MAX_DEPTH:
        raise ValueError("nested too deeply")
    if isinstance(value, Members):
        inner = "".join(f"{show(k)}{show(v, depth + 1)} " for k, v in value)
        return "{" + inner + "}"
    return "[" + "".join(f"{show(v, depth + 1)} " for v in value) + "]"


def reference(text: bytes) -> str:
    try:
        return show(DECODER.decode(text.decode()))
    except (ValueError, RecursionError):
        return "refused"


# ---- the texts ----

ODD_NUMBERS = """0 -0 00 -00 01 -01 1. .1 -.1 1.0 1.50 0.0 -0.0 1e1 1E1 1e+1 1e-1 1e 1e+ 1.e1 0e0 0e+00 +1 --1 - 1-
    1e400 -1e-400 123456789012345678901234567890 9223372036854775807 9223372036854775808 -9223372036854775808
    0x10 1_0 1,0 NaN nan Infinity -Infinity 1.1.1 1e1e1 1e1.1 \u0661 \uff11""".split()
ODD_STRINGS = [
    *(rf'"\{c}"' for c in "\"\\/bfnrtuUxav0'1 "),
    *(rf'"\u{h}"' for h in "0000 001f 0022 005c 007f 0080 07ff 0800 d7ff d800 dbff".split()),
    *(rf'"\u{h}"' for h in "dc00 dfff e000 fffe ffff FFFF 00e 00g0 +041 0x41 -001".split()),
    r'"\ud83d\udce7"',
    r'"\uDBFF\uDFFF"',
    r'"\ud83d\ud83d"',
    r'"\udce7\ud83d"',
    r'"\ud83dx"',
    r'"\ud83d\n"',
    r'"\ud83d\u0041"',
    '"\u00e9\u20ac\U0001f4e7\u2028\ufeff\x7f"',
    '"\t"',
    '"\n"',
    '"\x00"',
    '"\x1f"',
    "'a'",
    '"',
]
TOKENS = [
    t.encode() for t in ["[", "]", "{", "}", ",", ":", '"', "\\", '""', '"a"', "[]", "{}", '"a":']
]
TOKENS += [
    t.encode() for t in ["null", "true", "false", "nul", "True", " ", "\n", "\t", "\r", "\v", "\f"]
]
TOKENS += [
    t.encode() for t in ["\xa0", "\u2028", "\ufeff", "\x00", "1", "-", ".", "e", "0", "//", "/**/"]
]
TOKENS += [t.encode() for t in ODD_NUMBERS + ODD_STRINGS]
TOKENS += [
    b"\\u",
    b"\\ud800",
    b"\\udc00",
    b"\xff",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
]
TOKENS += [b"\xc3", b"\xe2\x82", b"\xf0\x9f\x93", b"\x80"]


def space(rng: random.Random) -> str:
    return rng.choice(" \t\n\r") * rng.randrange(1, 3) if rng.random() < 0.15 else ""


def string(rng: random.Random) -> str:
    """Returns a valid string. Each character is written in one of its possible ways."""
    out = []
    for _ in range(rng.choice((0, 1, 2, 3, 8))):
        top = rng.choice((0x80, 0x80, 0x80, 0x800, 0x10000, 0x110000))
        code = rng.randrange(top)
        if 0xD800 <= code < 0xE000:
            continue
        if rng.random() < 0.2:
            escaped = json.dumps(chr(code))[1:-1]
            if escaped.startswith("\\u") and rng.random() < 0.5:
                escaped = escaped.upper().replace("\\U", "\\u")
            out.append(escaped)
        elif code >= 0x20 and chr(code) not in '"\\':
            out.append(chr(code))
        else:
            out.append(f"\\u{code:04x}")
    return '"' + "".join(out) + '"'


def number(rng: random.Random) -> str:
    text = rng.choice(("", "-")) + str(rng.choice((0, 1, 7, rng.randrange(1 << 70))))
    if rng.random() < 0.3:
        text += "." + "".join(rng.choices("0123456789", k=rng.randrange(1, 5)))
    if rng.random() < 0.3:
        text += rng.choice("eE") + rng.choice(("", "+", "-")) + str(rng.randrange(500))
    return text


def value(rng: random.Random, budget: int) -> str:
    kind = rng.randrange(8) if budget > 0 else rng.randrange(4)
    if kind == 0:
        text = rng.choice(("null", "true", "false"))
    elif kind == 1:
        text = number(rng)
    elif kind in (2, 3):
        text = string(rng)
    else:
        inner = [value(rng, budget - 2) for _ in range(rng.randrange(4))]
        if kind in (4, 5):
            text = "[" + (",".join(inner) or space(rng)) + "]"
        else:
            members = (f"{space(rng)}{string(rng)}{space(rng)}:{v}" for v in inner)
            text = "{" + (",".join(members) or space(rng)) + "}"
    return space(rng) + text + space(rng)


def mutated(rng: random.Random, text: bytes) -> bytes:
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(text) + 1)
        change = rng.randrange(7)
        if change == 0 and at < len(text):
            text = text[:at] + bytes([text[at] ^ 1 << rng.randrange(8)]) + text[at + 1 :]
        elif change == 1:
            text = text[:at] + bytes([rng.randrange(256)]) + text[at:]
        elif change in (2, 3):
            text = text[:at] + rng.choice(TOKENS) + text[at:]
        elif change == 4:
            text = text[:at] + text[at + rng.randrange(1, 4) :]
        elif change == 5:
            text = text[:at]
        else:
            span = text[at : at + rng.randrange(1, 12)]
            other = rng.randrange(len(text) + 1)
            text = text[:other] + span + text[other:]
    return text


def nested(rng: random.Random) -> bytes:
    """Returns a text with about the greatest depth."""
    kinds = [rng.choice((("[", "]"), ('{"a":', "}"))) for _ in range(rng.randrange(60, 69))]
    opening, closing = "".join(k[0] for k in kinds), "".join(k[1] for k in reversed(kinds))
    return f"{opening}0{closing}".encode()


def generate(rng: random.Random) -> bytes:
    kind = rng.random()
    if kind < 0.30:
        return value(rng, 6).encode()
    if kind < 0.80:
        return mutated(rng, value(rng, 5).encode())
    if kind < 0.88:
        odd = rng.choice(ODD_NUMBERS + ODD_STRINGS)
        return (
            rng.choice(("%s", "[%s]", '{"a":%s}', "[0,%s]", "{%s:0}")).replace("%s", odd).encode()
        )
    if kind < 0.99:
        return b"".join(rng.choices(TOKENS, k=rng.randrange(1, 8)))
    return nested(rng)


# ---- the comparison ----


@pytest.fixture(scope="module")
def json_verdict(tmp_path_factory) -> Path:
    program = tmp_path_factory.mktemp("json") / "json_verdict"
    flags = ["-std=c17", "-D_GNU_SOURCE", "-O1", "-g", "-fsanitize=address,undefined"]
    flags += ["-fno-sanitize-recover=all", "-I."]
    subprocess.run(["cc", *flags, *SOURCES, "-o", program], cwd=ROOT, check=True)
    return program


def test_agrees_with_python(json_verdict):
    rng = random.Random(seed())
    texts = [generate(rng) for _ in range(TEXTS)]
    sent = b"".join(struct.pack("<I", len(text)) + text for text in texts)
    answer = subprocess.run([json_verdict], input=sent, stdout=subprocess.PIPE, check=True)
    verdicts = answer.stdout.decode().splitlines()
    assert len(verdicts) == len(texts)
    for text, verdict in zip(texts, verdicts):
        assert verdict == reference(text), f"seed {seed()}, text {text!r}"
    refused = verdicts.count("refused")
    print(f"seed {seed()}: {refused} of {TEXTS} refused")
    assert 0.25 < refused / TEXTS < 0.75, "the texts do not test both sides"
