"""The documents are true: tree, include table, flags, metrics, targets of make, paths, links and
error texts are those of the sources, and the commands in them work."""

import importlib.machinery
import importlib.util
import os
import re
import subprocess
from pathlib import Path

import pytest

from harness.backend import Pop3
from harness.clients import RawClient
from harness.documents import BLOCK, blocks, section, stand_in, text_of
from harness.messages import on_the_wire
from harness.tproxy import ROOT, TARGET_LINE
from harness.util import PATIENCE, Feed

DOCS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
FOLDERS = (".", "core", "lib")


def code_spans(text: str) -> list[str]:
    """What stands in `backquotes`, outside blocks."""
    return re.findall(r"`([^`\n]+)`", BLOCK.sub("", text))


def first_cells(text: str) -> list[str]:
    """The code in the first column of the tables."""
    rows = re.findall(r"^\| (`[^|]*?) \|", text, re.MULTILINE)
    return [span for row in rows for span in re.findall(r"`([^`]+)`", row)]


# --- sources ---


def test_tree_is_that_of_the_sources():
    (tree,) = blocks("docs/architecture.md", "tree")
    named, folder = [], Path(".")
    for line in tree.splitlines():
        if not line.startswith(" "):
            folder = Path(".")
        if heading := re.match(r"(\w+)/ ", line):
            folder = Path(heading.group(1))
            continue
        named += [folder / file for file in re.split(r"  +", line.strip())[0].split()]
    files = {
        path.relative_to(ROOT) for where in FOLDERS for path in (ROOT / where).glob("*.[ch]")
    }
    assert sorted(set(named)) == sorted(named), "a file is named twice"
    assert set(named) == files


def test_include_table_is_that_of_check_deps():
    loader = importlib.machinery.SourceFileLoader("check_deps", str(ROOT / "scripts/check-deps"))
    spec = importlib.util.spec_from_loader("check_deps", loader)
    check_deps = importlib.util.module_from_spec(spec)
    loader.exec_module(check_deps)
    modules, _ = check_deps.read_table(check_deps.TABLE)
    there = {name: module.includes for name, module in modules.items()}

    text = section("docs/architecture.md", "Who may include whom")
    prose = " ".join(text.split())
    words = set(re.findall(r"`([^`]+)`", re.search(r"\*Words\* are (.*?);", prose).group(1)))
    more = re.search(r"\*Plumbing\* is the words and (.*?)\.", prose).group(1)
    sets = {"words": words, "plumbing": words | set(re.findall(r"`([^`]+)`", more))}
    said = {}
    for left, right in re.findall(r"^\| (`.*?) \| (.*?) \|$", text, re.MULTILINE):
        includes = set(re.findall(r"`([^`]+)`", right))
        for name, members in sets.items():
            includes |= members if name in right else set()
        said.update({module: includes for module in re.findall(r"`([^`]+)`", left)})
    assert said == there


def test_reading_order_reaches_the_heart():
    """The tour in the README starts with headers and leads through all layers."""
    tour = code_spans(section("README.md", "The source in reading order"))
    assert {"lib/loop.h", "session.c", "lib/relay.c", "tproxy.c"} <= set(tour)
    assert tour.index("lib/base.h") < tour.index("session.c") < tour.index("tproxy.c")


# --- paths and links ---

LOOKS_LIKE_A_PATH = re.compile(
    r"^(?:(?:lib|core|tests|docs|scripts|bench|examples|manifests|\.ci)/[\w./*-]*"
    r"|[\w-]+\.(?:c|h|md|py)|LICENSE|Makefile)$"
)


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_paths_exist(path):
    text = path.read_text(encoding="utf-8")
    spans = [span for span in code_spans(text) if LOOKS_LIKE_A_PATH.match(span)]
    # Modules, too: `lib/conn` is lib/conn.c, lib/conn.h or both.
    missing = [
        span
        for span in spans
        if not any(ROOT.glob(span.rstrip("/"))) and not any(ROOT.glob(f"{span}.[ch]"))
    ]
    assert not missing


def anchors(path: Path) -> set[str]:
    """As GitHub makes them of headings."""
    text = BLOCK.sub("", path.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    text = BLOCK.sub("", path.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if re.match(r"https?://", target):
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


def test_readme_links_all_documents():
    links = set(re.findall(r"\]\((docs/\w+\.md)\)", text_of("README.md")))
    assert links == {str(path.relative_to(ROOT)) for path in DOCS if path.parent != ROOT}


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_no_machine_is_named(path):
    found = re.findall(r"(?<![\w.])/(?:work|root|home)\b\S*", path.read_text(encoding="utf-8"))
    assert not found


# --- make ---


def test_targets_of_make():
    done = subprocess.run(
        ["make", "-s", "-C", str(ROOT), "help"], capture_output=True, text=True, check=True
    )
    there = set(re.findall(r"^  make ([\w-]+)", done.stdout, re.MULTILINE))
    said = set()
    for path in DOCS:
        text = path.read_text(encoding="utf-8")
        commands = code_spans(text) + re.findall(r"^    (make .*)$", text, re.MULTILINE)
        said |= {
            word
            for command in commands
            if command.startswith("make ")
            for word in re.sub(r'#.*|".*?"', "", command).split()[1:]
            if re.fullmatch(r"[a-z][a-z-]*", word)
        }
    assert said == there


# --- the running program ---


@pytest.fixture
def help_text(program) -> str:
    return program.run("--help").stdout


@pytest.mark.one_build
def test_flags(help_text):
    there = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", help_text))
    said = {cell.split()[0] for cell in first_cells(section("docs/operations.md", "Flags"))}
    assert said == there


@pytest.mark.one_build
def test_defaults_of_flags(help_text):
    """Where --help gives a default in its last parentheses, the document has it, too."""
    rows = re.findall(
        r"^\| `(--[\w-]+) [^`]*` \| `?([^|`]*)`? \|", text_of("docs/operations.md"), re.MULTILINE
    )
    said = dict(rows)
    for flag, value in re.findall(r"^  (--[\w-]+) .*?\(([^ )]+)\)", help_text, re.MULTILINE):
        assert said[flag] == value, flag


@pytest.mark.one_build
def test_metrics(tproxy):
    _, page = tproxy.http("/metrics")
    there = set(re.findall(r"^# TYPE (\w+) ", page, re.MULTILINE))
    kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)$", page, re.MULTILINE))
    rows = re.findall(
        r"^\| `(tp\w*)` \| (\w+) \|", section("docs/operations.md", "Metrics"), re.MULTILINE
    )
    assert {name for name, _ in rows} == there
    assert dict(rows) == kinds


@pytest.mark.one_build
def test_classes_of_failure(tproxy):
    _, page = tproxy.http("/metrics")
    there = set(re.findall(r'^tproxy_logins_total\{result="(\w+)"\}', page, re.MULTILINE))
    said = first_cells(section("docs/operations.md", "Classes of failure"))
    assert set(said) == there - {"ok"}


@pytest.mark.one_build
def test_fields_and_results_of_the_summary(tproxy, backend):
    port = tproxy.add("mine", backend.host, backend.port)
    with RawClient(port) as client:
        client.send(b"STAT\r\nQUIT\r\n")
        client.rest()
    line = tproxy.summary("mine")
    text = section("docs/operations.md", "Logs")
    (example,) = [body for body in BLOCK.findall(text) if "session ended" in body[1]]
    assert re.findall(r'"(\w+)":', example[1]) == list(line)

    source = text_of("session.c")
    there = set(re.findall(r'session_end\(\w+, "([^"]+)"\)', source))
    there |= set(re.findall(r'\[RELAY_\w+\] = "([^"]+)"', source))
    table = text[text.index("| result | meaning |") :]
    assert set(first_cells(table)) == there


# --- texts ---

# Functions that are given a text for a client, and the class of failure before it.
SAYS = re.compile(
    r"\b(error_set|die|fail|fail_reply|say|bad_command|tls_judge_complain)\(([^\"();]*?)"
    r'((?:"(?:[^"\\\n]|\\.)*"\s*)+)'
)
SPEAKERS = (
    "pop3.c session.c core/pop3_proto.c core/pop3_login.c lib/conn.c lib/dial.c lib/dns.c lib/tls.c"
    " lib/tls_roots.c oauth.c dest.c core/token.c core/token_answer.c core/dest_answer.c"
).split()
# They end the start of the program, or come only of a system that is out of something.
NOT_SHOWN = re.compile(r"no usable CA|CA certificates|port %u|FAIL_INTERNAL")
CONVERSION = re.compile(r"%(?:\.\*|0?\.?\d+)?[lz]*[dugsX]|%%")
# What stands for something in the document; numbers may be computed, and dots are for more.
PLACEHOLDER = re.compile(
    r"\b(?:HOST|DIR|NAMES?|ADDRESS|ISSUER|FILE|DATE|REASON|WHAT|PORT|CODE|TEXT|N)\b"
    r"|\.\.\.|\d+|\"\+OK\"|\(SERVFAIL\)|\bit\b|TLS handshake|a loopback address"
)


def literals(code: str) -> str:
    """C string literals, one behind the other, as the text they mean."""
    pieces = re.findall(r'"((?:[^"\\\n]|\\.)*)"', code)
    return re.sub(r"\\(.)", lambda m: {"r": "\r", "n": "\n"}.get(m[1], m[1]), "".join(pieces))


def fixed_parts(text: str) -> list[str]:
    """What is left of a format without its conversions: pieces of which a reader knows it again."""
    parts = CONVERSION.split(text.strip())
    return [part.strip() for part in parts if re.search(r"[a-z]{3}", part)]


def spoken() -> list[tuple[str, str]]:
    found = []
    for file in SPEAKERS:
        for function, before, code in SAYS.findall(text_of(file)):
            text = literals(code)
            if NOT_SHOWN.search(before + text):
                continue
            if function in ("say", "bad_command") and not text.startswith("-ERR"):
                continue
            found.append((file, text))
    return found


def test_every_error_is_explained():
    said = " ".join(section("docs/pop3.md", "Every error").split())
    texts = spoken()
    assert len(texts) > 40, "the sources are no longer understood"
    missing = [
        f"{file}: {text}"
        for file, text in texts
        if not all(part in said for part in fixed_parts(text.replace("\r\n", "")))
    ]
    assert not missing


def test_every_explained_error_exists():
    paths = [p for where in FOLDERS for p in (ROOT / where).glob("*.c")]
    # Conversions away, adjacent literals together.
    sources = " ".join(
        literals(run.group())
        for path in paths
        for run in re.finditer(r'(?:"(?:[^"\\\n]|\\.)*"\s*)+', path.read_text(encoding="utf-8"))
    )
    flat = " ".join(CONVERSION.sub(" ", sources).split())
    missing = []
    for cell in first_cells(section("docs/pop3.md", "Every error")):
        parts = PLACEHOLDER.split(cell)
        for part in (part.strip(' ":;,()') for part in parts):
            if len(part) > 3 and " ".join(part.split()) not in flat:
                missing.append(f"{cell}: {part}")
    assert not missing


# --- commands ---


@pytest.mark.one_build
def test_one_minute(program, directory, backend, certificates):
    """The commands of the README, with another mail server, serve that mailbox."""
    (commands,) = blocks("README.md", "sh")
    server = Pop3(
        user="robot@example.com",
        password="change-me",
        tls=certificates.server_context(certificates.good),
    )
    backend.script = server
    host = '"mail.pop3s.host": "pop.example.com"'
    assert host in commands
    commands = commands.replace(
        host, f'"mail.pop3s.host": "{backend.host}", "mail.pop3s.port": "{backend.port}"'
    )
    extra = f"--target-ports 0 --admin off --control off --ca-file {certificates.ca_file}"
    stand_in(directory, "build/tproxy", f'exec {program.path} "$@" {extra}')
    printed = Feed()
    process = subprocess.Popen(
        ["bash", "-euc", commands],
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        for line in process.stdout:
            printed.add(line.decode().rstrip())
            if line.endswith(b" ready\n"):
                break
        found = TARGET_LINE.match(printed.all()[-1])
        assert found and found.group(1) == "mine", printed.all()
        with RawClient(int(found.group(3))) as client:
            assert client.multi(b"list")
            assert client.command(b"retr 1").startswith(b"+OK")
            assert client.lines() == on_the_wire(server.messages[0]).splitlines()[:-1]
            assert client.command(b"quit").startswith(b"+OK")
    finally:
        os.killpg(process.pid, 15)
        process.wait(PATIENCE)
        process.stdout.close()


@pytest.mark.one_build
def test_commands_of_operations(tproxy, directory):
    """They speak of the default ports and names; here others are put in their place."""
    stand_in(directory, "bin/tproxy", f'exec {tproxy.program.path} "$@" --control {tproxy.control}')
    address = f'"$(echo "$2" | sed s/:9494/:{tproxy.admin_port()}/)"'
    stand_in(directory, "bin/curl", f'PATH=${{PATH#*:}}; exec curl "$1" -f {address}')
    user = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
    for commands in blocks("docs/operations.md", "sh"):
        done = subprocess.run(
            ["bash", "-euc", commands],
            cwd=directory,
            env={**os.environ, "PATH": f"{directory}/bin:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            **user,
        )
        assert done.returncode == 0, f"{commands}\n{done.stderr}"


@pytest.mark.one_build
@pytest.mark.parametrize(
    "number, dialogue",
    list(
        enumerate(
            block
            for block in blocks("docs/pop3.md", "")
            if re.match("[CS]:", block) and "-ERR" not in block
        )
    ),
)
def test_dialogues(tproxy, backend, number, dialogue):
    """The transcripts in docs/pop3.md, line by line. Where the mail server answers only the status
    counts, for its text is its own."""
    backend.script = Pop3(messages=(b"Subject: one\r\n\r\nfirst\r\n",))
    with RawClient(tproxy.add("mine", backend.host, backend.port)) as client:
        for line in dialogue.splitlines():
            side, text = line[:2], line[3:]
            if side == "C:":
                client.send(text.encode() + b"\r\n")
            elif " ready" in text:
                assert re.fullmatch(r"\+OK tproxy [0-9a-f]{16} ready", client.greeting.decode())
            elif text.startswith("+OK"):
                assert client.line().startswith(b"+OK"), line
            else:
                assert client.line().decode().rstrip() == text
