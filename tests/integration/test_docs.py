"""The documents are true: tree, folders, flags, metrics, targets of make, paths, links and error
texts match the sources, and the commands in them work."""

import json
import os
import re
import runpy
import subprocess
from pathlib import Path

import pytest

from harness.backend import Pop3
from harness.clients import RawClient
from harness.documents import BLOCK, blocks, section, stand_in, text_of
from harness.installation import MANIFESTS
from harness.messages import on_the_wire
from harness.samples import HOME
from harness.tproxy import ROOT, TARGET_LINE, destination
from harness.util import NOBODY, PATIENCE, Feed, free_port, is_root, until

DOCS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
CHECK_DEPS = runpy.run_path(str(ROOT / "scripts/check-deps"))
FOLDERS = [".", *CHECK_DEPS["rows_of"](CHECK_DEPS["FOLDERS"])]


def code_spans(text: str) -> list[str]:
    """Returns the texts in `backquotes`, outside code blocks."""
    return re.findall(r"`([^`\n]+)`", BLOCK.sub("", text))


def rows(text: str) -> list[list[str]]:
    """Returns the cells of all tables, without headings."""
    lines = re.findall(r"^\|(.*)\|$", text, re.MULTILINE)
    table = [[cell.strip() for cell in line.split("|")] for line in lines]
    rules = {i for i, row in enumerate(table) if row[0] == "---"}
    return [row for i, row in enumerate(table) if not {i, i + 1} & rules]


def first_cells(text: str) -> list[str]:
    """Returns the code in the first column of the tables."""
    found = re.findall(r"^\| (`[^|]*?) \|", text, re.MULTILINE)
    return [span for row in found for span in re.findall(r"`([^`]+)`", row)]


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


def test_table_of_folders_is_that_of_check_deps():
    (table,) = blocks("docs/architecture.md", "folders")
    rows_of = CHECK_DEPS["rows_of"]
    assert rows_of(table) == rows_of(CHECK_DEPS["FOLDERS"])


def test_walks_go_down():
    """Each file is called by one above it, and calls none above it, not even through others."""
    tree = CHECK_DEPS["Tree"](ROOT, ROOT / "build/dev/obj")
    tree.read_symbols()
    walks = blocks("docs/architecture.md", "walk")
    assert len(walks) == 3
    for walk in walks:
        above: list[str] = []
        for file in (line.split()[0] for line in walk.splitlines()):
            assert not CHECK_DEPS["reachable"](tree.uses, file) & set(above), file
            assert not above or any(file in tree.uses[other] for other in above), file
            above.append(file)


def test_reading_order_covers_all_layers():
    """The tour in the README starts with headers and leads through all layers."""
    tour = code_spans(section("README.md", "The source in reading order"))
    assert {"lib/loop.h", "pop3/session.c", "lib/relay.c", "tproxy.c"} <= set(tour)
    assert tour.index("lib/base.h") < tour.index("pop3/session.c") < tour.index("tproxy.c")


# --- paths and links ---

# tproxy/NAME is also an annotation.
CODE = [folder for folder in FOLDERS if folder not in (".", "tproxy")]
LOOKS_LIKE_A_PATH = re.compile(
    rf"^(?:(?:{'|'.join(CODE)}|tests|docs|scripts|bench|examples|manifests|\.ci)/[\w./*-]*"
    r"|tproxy/\w+\.[ch]"
    r"|[\w-]+\.(?:c|h|md|py)|LICENSE|Makefile)$"
)


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_paths_exist(path):
    text = path.read_text(encoding="utf-8")
    spans = [span for span in code_spans(text) if LOOKS_LIKE_A_PATH.match(span)]
    # `lib/conn` is a module: lib/conn.c, lib/conn.h or both.
    missing = [
        span
        for span in spans
        if not any(ROOT.glob(span.rstrip("/"))) and not any(ROOT.glob(f"{span}.[ch]"))
    ]
    assert not missing


def anchors(path: Path) -> set[str]:
    """Returns the anchors that GitHub makes of the headings."""
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


def test_tests_that_are_named_exist():
    """docs/security.md names an existing test for each check."""
    named = re.findall(r"`(\w+)::(test_\w+)`", text_of("docs/security.md"))
    assert len(named) > 40
    files = {file for file, _ in named}
    paths = {file: [*(ROOT / "tests").glob(f"*/test_{file}.py")] for file in files}
    sources = {file: "".join(path.read_text() for path in found) for file, found in paths.items()}
    missing = [f"{file}::{name}" for file, name in named if f"def {name}(" not in sources[file]]
    assert not missing
    for row in rows(text_of("docs/security.md")):
        assert "::" in row[-1], f"no test is named for: {row[0]}"


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
            if re.fullmatch(r"[a-z][a-z0-9-]*", word)
        }
    assert said == there
    table = first_cells(section("README.md", "Building and testing"))
    assert {cell.removeprefix("make ") for cell in table} - {"make"} == there


# --- what the controller says and writes ---


def test_reasons():
    """Every reason of the condition Available has its remedy."""
    source = text_of("core/destination.c")
    verdicts = source[source.index("reasons[][2]") : source.index("verdict_reason")]
    there = set(re.findall(r'\[VERDICT_\w+\] =\s+\{"([\w-]+)"', verdicts))
    controller = text_of("controller/reconcile.c")
    prefix = re.search(r'define REASON_PREFIX "(.*)"', controller).group(1)
    writers = controller + text_of("controller/services.c") + text_of("controller/plan.c")
    for call in re.findall(r'plan_failure\([^,]+,\s+((?:REASON_PREFIX )?"[^,]+),', writers):
        there.add(call.replace("REASON_PREFIX", f'"{prefix}"').replace('" "', "").strip('"'))
    assert len(there) > 12, "the sources are no longer understood"
    said = first_cells(section("docs/troubleshooting.md", "The condition Available"))
    assert sorted(said) == sorted(there)


def test_status_of_the_configuration():
    """The document has all states, and all conditions with their reasons."""
    config, status = text_of("configuration/config.c"), text_of("configuration/proxy_status.c")
    states = set(re.findall(r'\[CONFIG_\w+\] = "(\w+)"', config))
    reasons = {
        reason
        for part in re.findall(
            r"\.reason = [^\n]*|^static const char \*reason_of.*?^}", status, re.M | re.S
        )
        for reason in re.findall(r'"(\w+)"', part)
    }
    types = set(re.findall(r'\.type = "(\w+)"', status))
    text = section("docs/troubleshooting.md", "The TransparentProxy object")
    said = [re.findall(r"`(\w+)`", cell) for row in rows(text) for cell in row[:2]]
    assert {word for words in said for word in words} == states | reasons | types


def test_keys_without_effect():
    """The document has all keys without an effect, with the values that cause no remark."""
    source = text_of("configuration/config.c")
    for name, value in re.findall(r'#define (\w+) ("config[\w.]+")', source):
        source = source.replace(f'{name} "', value[:-1])
    there = {
        key: json.loads(f'"{same}"') if same else ""
        for key, same in re.findall(r'\{"([\w.-]+)", (?:NULL|"((?:[^"\\]|\\.)*)")\},', source)
    }
    for key in re.findall(r'ignore\(r, place, "([\w.]+)", NULL\)', source):
        there[f"config.integration.destinationService.instances[].{key}"] = ""
    said = {
        key: same.strip("`")
        for keys, same, _ in rows(section("docs/configuration.md", "Keys without effect"))
        for key in re.findall(r"`([^`]+)`", keys)
    }
    assert said == there


def test_labels_of_what_is_written():
    there = set(re.findall(r'#define LABEL_\w+ "(.*?)"', text_of("cluster/labels.h")))
    assert there <= set(code_spans(section("docs/operations.md", "What it writes")))


def test_pages_of_the_admin_port():
    there = re.findall(r'\{"(/\w+)", \w+, \w+\}', text_of("admin/pages.c"))
    assert first_cells(section("docs/operations.md", "Admin port")) == there


def test_texts_of_readyz():
    """The document has all texts of /readyz."""
    kinds = re.findall(r'\[FOLLOW_\w+\] = "(.*?)"', text_of("controller/watches.c"))
    others = re.findall(r'\*why = "(.*?)"', text_of("configuration/configuration.c"))
    others += re.findall(r'\*why = [^;]*"(.*?)"', text_of("controller/health.c"))
    there = {f"waiting for {what}" for what in kinds + others} | {"shutting down"}
    assert set(first_cells(section("docs/troubleshooting.md", "The pod is not ready"))) == there


TOO_LONG = "is too long or contains control characters`"

# The places of numbers (N) in the documents, and the constants that they repeat.
FIGURES = [
    ("docs/operations.md", "access tokens that are remembered | N,", "oauth.c", "TOKENS_MAX"),
    ("docs/operations.md", "are remembered | 4096, N KiB each;", "core/token.h", "TOKEN_MAX"),
    ("docs/operations.md", "comes with the destination | until N seconds", "core/token.h", "TOKEN_MARGIN"),
    ("docs/operations.md", "service key names | until N seconds", "core/token.h", "TOKEN_MARGIN"),
    ("docs/operations.md", "KiB each; answers of N KiB", "oauth/answer.h", "TOKEN_ANSWER_MAX"),
    ("docs/operations.md", "service that are remembered | N;", "dest.c", "ANSWERS_MAX"),
    ("docs/operations.md", "16384; N MiB each when", "dest/answer.h", "DEST_ANSWER_MAX"),
    ("docs/operations.md", "connections to each | N,", "http/origins.h", "HTTP_ORIGINS_MAX"),
    ("docs/operations.md", "each | 64, N |", "http/origins.h", "HTTP_ORIGIN_CONNECTIONS"),
    ("docs/operations.md", "requests wait, more than N:", "http.h", "HTTP_WAITING_MAX"),
    ("docs/operations.md", "may still read why | N,", "pop3.c", "REFUSED_MAX"),
    ("docs/operations.md", "files of local mode | N,", "local/directory.h", "LOCAL_FILES_MAX"),
    ("docs/operations.md", "1 MiB each; N that are only named", "local/directory.h", "LOCAL_OTHERS_MAX"),
    ("docs/operations.md", "answer of the API server | N,", "controller/queue.h", "RUNNING_MAX"),
    ("docs/operations.md", "server | 24, N of one", "controller/queue.h", "RUNNING_OF_SPACE_MAX"),
    ("docs/operations.md", "conditions at a time | N,", "controller/queue.h", "READING_MAX"),
    ("docs/operations.md", "time | 64, N of one", "controller/queue.h", "READING_OF_SPACE_MAX"),
    ("docs/operations.md", "namespace, N of one resource", "controller/queue.h", "READING_OF_ONE_MAX"),
    ("docs/operations.md", "watches apart | N |", "k8s/client.c", "REQUESTS_MAX"),
    ("docs/operations.md", "Destination service | N |", "configuration/config.h", "CONFIG_INSTANCES_MAX"),
    ("docs/operations.md", "service key | N KiB an entry", "core/service_key.c", "ENTRY_MAX"),
    ("docs/operations.md", "KiB an entry, N octets", "core/service_key.c", "FIELD_MAX"),
    ("docs/operations.md", "a resource | N KiB |", "core/custom_resource.h", "CR_CONDITIONS_MAX"),
    ("docs/operations.md", "during login | N octets", "pop3/login.h", "POP3_BACKEND_LINE_MAX"),
    ("docs/operations.md", "on one connection | N KiB;", "lib/conn.h", "CONN_QUEUE_MAX"),
    ("docs/operations.md", "the memory, N |", "tproxy/limits.c", "LOANS_MAX"),
    ("docs/operations.md", "not used again for N minutes", "controller/settings.h", "CONTROLLER_PORT_REST"),
    ("docs/operations.md", "stays in force for N seconds", "configuration/configuration.h", "CONFIGURATION_GRACE"),
    ("docs/operations.md", "up to every N minutes, unless", "core/repairs.h", "REPAIRS_MOST"),
    ("docs/operations.md", "Cleanup has N requests", "tproxy/removal.h", "REMOVAL_CALLS_MAX"),
    ("docs/configuration.md", "the same, for N seconds;", "configuration/configuration.h", "CONFIGURATION_GRACE"),
    ("docs/configuration.md", "At most N instances", "configuration/config.h", "CONFIG_INSTANCES_MAX"),
    ("docs/configuration.md", "each may have N octets", "core/service_key.c", "FIELD_MAX"),
    ("docs/destinations.md", "At most N files are read", "local/directory.h", "LOCAL_FILES_MAX"),
    ("docs/destinations.md", "at most N others are named", "local/directory.h", "LOCAL_OTHERS_MAX"),
    ("docs/architecture.md", "8 of one resource and N of all", "controller/queue.h", "READING_MAX"),
    ("docs/architecture.md", "same time, N of one resource", "controller/queue.h", "READING_OF_ONE_MAX"),
    ("docs/architecture.md", "their own, N operations", "controller/queue.h", "RUNNING_OF_SPACE_MAX"),
    ("docs/architecture.md", "operations and N readings", "controller/queue.h", "READING_OF_SPACE_MAX"),
    ("docs/architecture.md", "pauses that double up to N minutes", "core/repairs.h", "REPAIRS_MOST"),
    ("docs/architecture.md", "queued, at most N KiB", "lib/conn.h", "CONN_QUEUE_MAX"),
    ("docs/architecture.md", "end, N listeners are closed", "pop3.c", "END_A_TURN"),
    ("docs/pop3.md", "too long` | N octets are possible", "pop3/sasl.c", "RESPONSE_MAX"),
    ("docs/pop3.md", f"user {TOO_LONG} | N octets", "pop3/sasl.h", "SASL_USER_MAX"),
    ("docs/pop3.md", f"code {TOO_LONG} | N octets", "pop3/sasl.h", "SASL_SECRET_MAX"),
    ("docs/pop3.md", "a line of more than N octets", "pop3/login.h", "POP3_BACKEND_LINE_MAX"),
    ("docs/pop3.md", "more than N lines;", "pop3/login.c", "CAPA_LINES_MAX"),
]
UNITS = {"KiB": 1024, "MiB": 1024 * 1024, "minutes": 60}


def constant(file: str, name: str) -> int:
    """Returns the value of the constant; a time is in seconds."""
    found = re.search(rf"(?:#define {name} |\b{name} = )([^,}}/\n]+)", text_of(file))
    assert found, f"{file} has no constant {name}"
    value = re.sub(r"SECONDS\(([\d *]+)\)", r"\1", found[1]).strip()
    assert re.fullmatch(r"[\d *()]+", value), f"{file}: {name} is {value}"
    return eval(value)  # only digits, stars and parentheses


@pytest.mark.parametrize("document, words, file, name", FIGURES, ids=lambda part: str(part)[:40])
def test_figures_are_those_of_the_sources(document, words, file, name):
    text = " ".join(text_of(document).split())
    before, after = words.split("N", 1)
    found = re.findall(re.escape(before) + r"(\d+)" + re.escape(after), text)
    assert found, f"{document} does not say: {words}"
    unit = UNITS.get(after.split()[0].strip(";,") if after.split() else "", 1)
    assert {int(number) * unit for number in found} == {constant(file, name)}


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
def test_flags_of_cleanup(program):
    there = set(re.findall(r"^  (--[a-z-]+)", program.run("cleanup", "--help").stdout, re.MULTILINE))
    said = {cell.split()[0] for cell in first_cells(section("docs/operations.md", "Cleanup"))}
    assert said == there


@pytest.mark.one_build
def test_flags_of_check(program):
    there = set(re.findall(r"^  (--[a-z-]+)", program.run("check", "--help").stdout, re.MULTILINE))
    said = {cell.split()[0] for cell in first_cells(section("docs/operations.md", "Check"))}
    assert said - {"ok", "wrong", "unknown", "ignored"} == there


@pytest.mark.one_build
def test_defaults_of_flags(help_text):
    """A default in the last parentheses of --help is also in the document."""
    rows = re.findall(
        r"^\| `(--[\w-]+) [^`]*` \| `?([^|`]*)`? \|",
        section("docs/operations.md", "Flags"),
        re.MULTILINE,
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
def test_metrics_of_the_kubernetes_api(installation, cluster_tproxy):
    installation.configure(metrics={"prometheus": {"enabled": True}})
    until(lambda: cluster_tproxy.http("/metrics")[0] == 200, "the metrics to be served")
    _, page = cluster_tproxy.http("/metrics")
    there = dict(re.findall(r"^# TYPE (tproxy_kube\w+) (\w+)$", page, re.MULTILINE))
    text = section("docs/operations.md", "Metrics of the Kubernetes API")
    assert {name.strip("`"): kind for name, kind, _ in rows(text)} == there


@pytest.mark.one_build
def test_metrics_of_the_election(installation, make_cluster_tproxy):
    installation.configure(metrics={"prometheus": {"enabled": True}})
    proxy = make_cluster_tproxy(installation, "--leader-elect", "").ready()
    until(lambda: proxy.http("/metrics")[0] == 200, "the metrics to be served")
    _, page = proxy.http("/metrics")
    there = dict(re.findall(r"^# TYPE (tproxy_leader\w*) (\w+)$", page, re.MULTILINE))
    text = section("docs/operations.md", "Metrics of the election")
    assert {name.strip("`"): kind for name, kind, _ in rows(text)} == there


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

    source = text_of("pop3/session.c")
    there = set(re.findall(r'\b(?:session_end|leave)\(\w+, "([^"]+)"\)', source))
    there |= set(re.findall(r'\[RELAY_\w+\] = "([^"]+)"', source))
    table = text[text.index("| result | meaning |") :]
    assert set(first_cells(table)) == there


# --- texts ---

# Functions that take a text for a client; the class of failure comes before it.
SAYS = re.compile(
    r"\b(error_set|die|fail|login_fail|login_fail_reply|say|bad_command|tls_judge_complain)\(([^\"();]*?)"
    r'((?:"(?:[^"\\\n]|\\.)*"\s*)+)'
)
SPEAKERS = (
    "pop3.c pop3/session.c pop3/session_login.c pop3/client.c pop3/login.c lib/conn.c lib/dial.c"
    " lib/dns.c lib/socks5.c lib/tls.c lib/tls_chain.c lib/tls_judge.c oauth.c dest.c core/token.c"
    " oauth/answer.c dest/answer.c"
).split()
# These errors end the start of the program, or occur only if the system lacks a resource, or are
# only for those who check files or probe a mailbox.
NOT_SHOWN = re.compile(
    r"no usable CA|CA certificates|port %u|FAIL_INTERNAL"
    r"|is not asked$|no mailbox %s|add --again|there are too many sessions"
)
CONVERSION = re.compile(r"%(?:\.\*|0?\.?\d+)?[lz]*[dugsX]|%%")
# Words of the document that stand for something else. Numbers may be computed, and dots stand for
# more text.
PLACEHOLDER = re.compile(
    r"\b(?:HOST|DIR|NAMES?|NAMESPACE|ADDRESS|ISSUER|FILE|DATE|REASON|WHAT|PORT|CODE|TEXT|N)\b"
    r"|\b(?:FIELD|KEY)\b|^Secret\b"
    r"|\.\.\.|\d+|\"\+OK\"|\(SERVFAIL\)|\bit\b|(?:the )?TLS handshake|a loopback address"
)


def literals(code: str) -> str:
    """Returns the text of adjacent C string literals."""
    pieces = re.findall(r'"((?:[^"\\\n]|\\.)*)"', code)
    return re.sub(r"\\(.)", lambda m: {"r": "\r", "n": "\n"}.get(m[1], m[1]), "".join(pieces))


def fixed_parts(text: str) -> list[str]:
    """Returns the parts of a format between its conversions by which a reader recognises it."""
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


@pytest.mark.parametrize(
    "name, heading", [("docs/pop3.md", "Every error"), ("docs/troubleshooting.md", "The Secret")]
)
def test_every_explained_error_exists(name, heading):
    paths = [p for where in FOLDERS for p in (ROOT / where).glob("*.c")]
    # Removes conversions and joins adjacent literals.
    sources = " ".join(
        literals(run.group())
        for path in paths
        for run in re.finditer(r'(?:"(?:[^"\\\n]|\\.)*"\s*)+', path.read_text(encoding="utf-8"))
    )
    flat = " ".join(CONVERSION.sub(" ", sources).split())
    missing = []
    for cell in first_cells(section(name, heading)):
        parts = PLACEHOLDER.split(cell)
        for part in (part.strip(' ":;,()') for part in parts):
            if len(part) > 3 and " ".join(part.split()) not in flat:
                missing.append(f"{cell}: {part}")
    assert not missing


# --- commands ---


@pytest.mark.one_build
def test_one_minute(program, directory, backend, certificates):
    """The commands of the README serve a mailbox; the test uses another mail server."""
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
    """The commands work; the test replaces the default ports and names in them."""
    stand_in(directory, "bin/tproxy", f'exec {tproxy.program.path} "$@" --control {tproxy.control}')
    address = f'"$(echo "$2" | sed s/:9494/:{tproxy.admin_port()}/)"'
    stand_in(directory, "bin/curl", f'PATH=${{PATH#*:}}; exec curl "$1" -f {address}')
    user = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if is_root() else {}
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
    """The transcripts in docs/pop3.md are true line by line. Where the mail server answers, only
    the status is compared."""
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


# There are no nodes, so the program answers what kubectl would ask of the pod.
KUBECTL = """
case $1 in
logs) exec cat {log} ;;
exec) while [ "$1" != -- ]; do shift; done; shift 2; exec {tproxy} "$@" --control {control} ;;
get) [ "$2" = --raw ] && exec curl -fsS "http://127.0.0.1:{port}/${{3##*/}}" ;;
esac
exec {kubectl} "$@"
"""


@pytest.fixture
def orders(installation, cluster_tproxy) -> str:
    """The namespace of the documents, with the sample of a Destination resource."""
    name = "example-dest-pop3"
    installation.service.destinations[name] = destination(name, "127.0.0.1", 110)
    installation.kube.kubectl("create", "namespace", "orders")
    sample = MANIFESTS / "samples/destination.yaml"
    installation.kube.kubectl("apply", "-n", "orders", "-f", str(sample))
    installation.available("orders", name)
    return "orders"


def run_commands(installation, directory: Path, commands: str) -> str:
    """Runs the commands in the top directory of the repository."""
    done = subprocess.run(
        ["bash", "-euc", commands],
        cwd=ROOT,
        env={
            **os.environ,
            "HOME": str(directory),
            "KUBECONFIG": str(installation.kube.kubeconfig),
            "PATH": f"{directory}/bin:{installation.kube.programs}:{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, f"{commands}\n{done.stderr}"
    return done.stdout


@pytest.mark.one_build
def test_commands_of_troubleshooting(installation, cluster_tproxy, orders, directory):
    log = directory / "log"
    log.write_bytes(cluster_tproxy.everything_said())
    user = f"setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups " if is_root() else ""
    script = KUBECTL.format(
        log=log,
        tproxy=user + str(cluster_tproxy.program.path),
        control=cluster_tproxy.control,
        port=cluster_tproxy.admin_port(),
        kubectl=installation.kube.programs / "kubectl",
    )
    stand_in(directory, "bin/kubectl", script)
    for commands in blocks("docs/troubleshooting.md", "sh"):
        output = run_commands(installation, directory, commands)
        assert "ConfigurationSuccessful" in output or "describe" not in commands


def test_removing(program, installation, cluster_tproxy, orders, directory):
    """The commands for a machine with the binary remove what is ours; those before and after them
    are for kubectl alone (test_manifests.py), and the Job has a test in test_cluster_cleanup.py."""
    text = section("docs/install.md", "Removing")
    (commands,) = [body for word, body in BLOCK.findall(text) if "build/tproxy cleanup" in body]
    cluster_tproxy.__exit__(None)
    assert installation.ours() and installation.condition(orders, "example-dest-pop3")
    stand_in(directory, "build/tproxy", f'exec {program.path} "$@"')
    commands = commands.replace("build/tproxy", f"{directory}/build/tproxy")
    port = str(free_port())
    lines = run_commands(installation, directory, commands.replace("8001", port)).splitlines()
    assert f"would delete Service {HOME}/example-dest-pop3" in lines
    assert f"deleted Service {HOME}/example-dest-pop3" in lines
    assert not installation.ours()
    assert not installation.condition(orders, "example-dest-pop3")
