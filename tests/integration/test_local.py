"""Local mode: a directory of JSON files that is followed while the program runs."""

import contextlib
import json
import os
import shutil
import socket
import subprocess

import pytest

from harness.backend import Pop3
from harness.clients import RawClient, is_closed
from harness.tproxy import TARGET_LINE, Tproxy, destination
from harness.util import PATIENCE, is_root, until


def served(port: int) -> None:
    with RawClient(port) as client:
        assert client.command(b"STAT").startswith(b"+OK 1 ")
        assert client.command(b"QUIT").startswith(b"+OK")


def complaint(proxy: Tproxy, file: str, start: int = 0) -> str:
    """Waits for the line on the terminal about a file."""
    return proxy.printed.wait(
        lambda line: file in line and not TARGET_LINE.match(line),
        f"a line about {file}",
        start=start,
    )


def test_one_line_for_each_target(program, directory, certificates, backend):
    """Files that exist at the start are served."""
    proxy = Tproxy(program, directory)
    names = [f"target-{number}" for number in range(5)]
    for number, name in enumerate(names):
        proxy.write(destination(name, backend.host, backend.port), file=f"file{number}.json")
    with proxy:
        ports = [proxy.port(name) for name in names]
        assert len(set(ports)) == len(names)
        for port in ports:
            served(port)
        lines = [line for line in proxy.printed.all() if TARGET_LINE.match(line)]
        assert sorted(TARGET_LINE.match(line).group(1) for line in lines) == names


def test_only_loopback_listens(tproxy, backend):
    tproxy.add("mail", backend.host, backend.port)
    line = next(line for line in tproxy.printed.all() if TARGET_LINE.match(line))
    assert TARGET_LINE.match(line).group(2) == "127.0.0.1"


@pytest.mark.parametrize("way", ["renamed", "written in place"])
def test_changed_file_counts_for_new_sessions(tproxy, backends, way):
    old, new = backends(Pop3()), backends(Pop3(messages=(b"Subject: new\r\n\r\n",)))
    port = tproxy.add("mail", old.host, old.port)
    with RawClient(port) as running:
        assert running.command(b"STAT").startswith(b"+OK")
        changed = destination("mail", new.host, new.port)
        if way == "renamed":
            tproxy.write(changed)
        else:
            (tproxy.directory / "mail.json").write_text(json.dumps(changed))

        def at_the_new_server() -> bool:
            with RawClient(port) as client:
                assert client.command(b"STAT").startswith(b"+OK")
                return client.retr(1) == b"Subject: new\r\n\r\n"

        until(at_the_new_server, "the session at the new server")
        assert running.retr(1) == old.script.messages[0]
        assert running.command(b"QUIT") == b"+OK bye"


def test_added_and_removed_files(tproxy, backend):
    one = tproxy.add("one", backend.host, backend.port)
    two = tproxy.add("two", backend.host, backend.port)
    served(one)
    served(two)
    with RawClient(one) as running:
        assert running.command(b"STAT").startswith(b"+OK")
        (tproxy.directory / "one.json").unlink()
        until(lambda: is_closed(one), "the end of the listener")
        assert running.command(b"STAT").startswith(b"+OK"), "a running session goes on for a while"
        assert running.command(b"QUIT") == b"+OK bye"
    served(two)
    again = tproxy.add("one", backend.host, backend.port)
    served(again)


def test_renamed_file_keeps_its_target(tproxy, backend):
    port = tproxy.add("mail", backend.host, backend.port)
    (tproxy.directory / "mail.json").rename(tproxy.directory / "other.json")
    tproxy.add("marker", backend.host, backend.port)
    until(lambda: logs_in_somewhere(tproxy, "mail", port), "the target of the renamed file")


def logs_in_somewhere(proxy: Tproxy, name: str, port: int) -> bool:
    ports = {
        int(m.group(3))
        for line in proxy.printed.all()
        if (m := TARGET_LINE.match(line)) and m.group(1) == name
    }
    for candidate in {port, *ports}:
        with contextlib.suppress(OSError, EOFError):
            with RawClient(candidate) as client:
                if client.command(b"STAT").startswith(b"+OK"):
                    return True
    return False


def test_name_changed_inside_the_file(tproxy, backend):
    old = tproxy.add("old", backend.host, backend.port)
    start = len(tproxy.printed)
    tproxy.write(destination("new", backend.host, backend.port), file="old.json")
    served(tproxy.port("new", start))
    until(lambda: is_closed(old), "the end of the old target")


def test_directory_of_many(tproxy, backend):
    for number in range(100):
        tproxy.write(destination(f"mail-{number}", backend.host, backend.port))
    ports = [tproxy.port(f"mail-{number}") for number in range(100)]
    assert len(set(ports)) == 100
    for port in ports[::10]:
        served(port)


# --- bad files: the line names the file, the field and the remedy; others are served ---

GOOD = destination("mail", "127.0.0.1", 110)


def without(*fields: str) -> dict:
    return {key: value for key, value in GOOD.items() if key not in fields}


BAD_DESTINATIONS = {
    "Type missing": (without("Type"), "Type"),
    "Type of a web server": ({**GOOD, "Type": "HTTP"}, "Type"),
    "Name missing": (without("Name"), "Name"),
    "Name empty": ({**GOOD, "Name": ""}, "Name"),
    "ProxyType missing": (without("ProxyType"), "ProxyType"),
    "ProxyType unknown": ({**GOOD, "ProxyType": "PrivateLink"}, "ProxyType"),
    "Authentication unknown": ({**GOOD, "Authentication": "SAMLAssertion"}, "Authentication"),
    "user missing": (without("mail.user"), "mail.user"),
    "password missing": (without("mail.password"), "mail.password"),
    "host missing": (without("mail.pop3.host"), "mail.pop3.host"),
    "host empty": ({**GOOD, "mail.pop3.host": ""}, "mail.pop3.host"),
    "host with a blank": ({**GOOD, "mail.pop3.host": "pop 3"}, "mail.pop3.host"),
    "host as URL": ({**GOOD, "mail.pop3.host": "pop3://pop.example.test"}, "mail.pop3.host"),
    "port a word": ({**GOOD, "mail.pop3.port": "pop3"}, "mail.pop3.port"),
    "port zero": ({**GOOD, "mail.pop3.port": "0"}, "mail.pop3.port"),
    "port too large": ({**GOOD, "mail.pop3.port": 65536}, "mail.pop3.port"),
    "protocol imap": (
        {**GOOD, "mail.transport.protocol": "imap", "mail.imap.host": "x"},
        "mail.transport.protocol",
    ),
    "user with a line end": ({**GOOD, "mail.user": "a\r\nDELE 1"}, "mail.user"),
    "password with a line end": ({**GOOD, "mail.password": "a\nDELE 1"}, "mail.password"),
    "password with NUL": ({**GOOD, "mail.password": "a\0b"}, "mail.password"),
    "trust store away": (
        {**GOOD, "mail.pop3.ssl.enable": "true", "TrustStoreLocation": "ca.pem", "certificates": []},
        "TrustStoreLocation",
    ),
    "trust store no certificate": (
        {
            **GOOD,
            "mail.pop3.ssl.enable": "true",
            "TrustStoreLocation": "ca.pem",
            "certificates": [{"Name": "ca.pem", "Content": "bm9uZQ==", "Type": "CERTIFICATE"}],
        },
        "TrustStoreLocation",
    ),
    "value of a wrong kind": ({**GOOD, "mail.user": ["a"]}, "mail.user"),
}


@pytest.mark.parametrize("case", BAD_DESTINATIONS)
def test_bad_destination(tproxy, backend, case):
    bad, field = BAD_DESTINATIONS[case]
    good = tproxy.add("good", backend.host, backend.port)
    tproxy.write(bad, file="bad-file.json")
    said = complaint(tproxy, "bad-file.json")
    assert field in said
    # A remedy is more than the names of file and field.
    assert len(said.replace("bad-file.json", "").replace(field, "")) > 15, said
    assert "DELE" not in said
    logged = tproxy.logs.wait(lambda line: "bad-file.json" in str(line), "the same in the log")
    assert logged["level"].lower() in ("warn", "warning", "error") and field in str(logged)
    served(good)
    start = len(tproxy.printed)
    tproxy.write(destination("mail", backend.host, backend.port), file="bad-file.json")
    served(tproxy.port("mail", start))


BAD_TEXTS = {
    "empty": "",
    "not JSON": "Name=mail\nType=MAIL\n",
    "cut off": json.dumps(GOOD)[:-20],
    "missing comma": '{"Name": "mail" "Type": "MAIL"}',
    "trailing comma": '{"Name": "mail", "Type": "MAIL",}',
    "an array": "[]",
    "a string": '"mail"',
    "duplicate key": '{"Name": "mail", "Name": "other"}',
    "two documents": json.dumps(GOOD) + json.dumps(GOOD),
    "not UTF-8": None,
    "huge": '{"Name": "' + "x" * (3 << 20) + '"}',
    "deep": "[" * 100000,
}


@pytest.mark.parametrize("case", BAD_TEXTS)
def test_bad_json(tproxy, backend, case):
    good = tproxy.add("good", backend.host, backend.port)
    if case == "not UTF-8":
        aside = tproxy.directory.parent / "aside"
        aside.write_bytes(b'{"Name": "\xff\xfe"}')
        aside.chmod(0o644)
        aside.rename(tproxy.directory / "bad-file.json")
    else:
        tproxy.write_text(BAD_TEXTS[case], "bad-file.json")
    complaint(tproxy, "bad-file.json")
    tproxy.logs.wait(lambda line: "bad-file.json" in str(line), "the same in the log")
    served(good)
    start = len(tproxy.printed)
    tproxy.write(destination("mail", backend.host, backend.port), file="bad-file.json")
    served(tproxy.port("mail", start))


def test_place_of_a_syntax_error_is_told(tproxy):
    tproxy.write_text('{\n  "Name": "mail",\n  "Type" "MAIL"\n}\n', "bad-file.json")
    assert "3" in complaint(tproxy, "bad-file.json").replace("bad-file.json", "")


def test_good_file_that_turns_bad(tproxy, backend):
    """A file that becomes invalid is refused or keeps its last good content, and its password is
    sent nowhere else. Corrected it is served."""
    port = tproxy.add("mail", backend.host, backend.port)
    served(port)
    start = len(tproxy.printed)
    tproxy.write_text("{", "mail.json")
    complaint(tproxy, "mail.json", start)
    start = len(tproxy.printed)
    tproxy.write(destination("mail", backend.host, backend.port))
    until(lambda: logs_in_somewhere(tproxy, "mail", port), "the corrected file")


@pytest.mark.skipif(not is_root(), reason="the proxy runs as the owner of the files")
def test_unreadable_file(tproxy, backend):
    good = tproxy.add("good", backend.host, backend.port)
    aside = tproxy.directory.parent / "aside"
    aside.write_text(json.dumps(GOOD))
    aside.chmod(0o600)
    aside.rename(tproxy.directory / "bad-file.json")
    assert "ermission" in complaint(tproxy, "bad-file.json")
    served(good)


CR_YAML = """
# a resource
apiVersion: destination.connectivity.api.sap/v1
kind: Destination
metadata:
  name: {cr}
spec:
  destinationRef:
    name: {name}
"""


@pytest.mark.parametrize("name", ["cr.yaml", "a resource.yml"])
def test_yaml_file_names_the_command_that_converts_it(tproxy, backend, name):
    """A YAML file is reported with the command that converts it. The command works without a
    cluster, and tproxy reads its output."""
    tproxy.add("mail", backend.host, backend.port)
    tproxy.write_text(CR_YAML.format(cr="other", name="mail"), name)
    said = complaint(tproxy, name)
    command = said[said.index("kubectl ") :]
    assert command.startswith("kubectl patch --local --type=merge -p '{}' -o json -f ")
    if not shutil.which("kubectl"):
        pytest.skip("no kubectl at hand")
    subprocess.run(command, shell=True, check=True, env={**os.environ, "KUBECONFIG": "/dev/null"})
    served(tproxy.port("other"))
    tproxy.printed.wait(
        lambda line: name in line and "in order again" in line, "the end of the complaint"
    )


def test_yaml_of_the_cockpit(tproxy):
    tproxy.write_text("Name: mail\nType: MAIL\n", "mail.yaml")
    said = complaint(tproxy, "mail.yaml")
    assert "export the destination from the BTP cockpit as JSON" in said and "kubectl" not in said


def test_two_files_with_one_name(tproxy, backends):
    first, second = backends(Pop3()), backends(Pop3())
    port = tproxy.add("mail", first.host, first.port)
    tproxy.write(destination("mail", second.host, second.port), file="zweite.json")
    assert "mail" in complaint(tproxy, "zweite.json").replace("zweite.json", "")
    served(port)
    assert second.connections() == 0


PASSED_OVER = ["README", "README.md", ".hidden.json", "mail.json~", ".mail.json.swp", "#m.json#"]
PASSED_OVER += ["mail.json.bak", "LICENSE", "ca.pem"]


def test_other_files_are_passed_over(program, directory, backend):
    """Files that are never meant as destinations are ignored."""
    proxy = Tproxy(program, directory)
    for name in PASSED_OVER:
        proxy.write_text("no destination", name)
    (proxy.directory / "sub").mkdir()
    (proxy.directory / ".git").mkdir()
    with proxy:
        served(proxy.add("mail", backend.host, backend.port))
        shown = "\n".join(proxy.printed.all())
        assert not [name for name in [*PASSED_OVER, "sub", ".git"] if f"/{name}:" in shown]


NAMED = {
    "mail.json.txt": "rename it to mail.json",
    "mail.txt": "rename it: to mail.json if it holds JSON",
    "mail.xml": "rename it: to mail.json if it holds JSON",
    "destinations.zip": "unpack it here",
    "notes": "is neither JSON nor a properties file",
}


def test_files_that_could_be_meant_are_named(program, directory, backend):
    """Files that may be meant as destinations are each reported once, with a remedy; the other
    files are served."""
    proxy = Tproxy(program, directory)
    for name in NAMED:
        proxy.write_text("buy milk\n", name)
    with proxy:
        served(proxy.add("mail", backend.host, backend.port))
        for name, remedy in NAMED.items():
            assert remedy in complaint(proxy, f"/{name}: ")
            assert sum(f"/{name}: " in line for line in proxy.printed.all()) == 1


def test_empty_directory_says_so(program, directory, backend):
    with Tproxy(program, directory) as proxy:
        said = proxy.printed.wait(lambda line: "holds no destination" in line, "the complaint")
        assert said.startswith(f"{proxy.directory}: ") and "BTP cockpit" in said
        served(proxy.add("mail", backend.host, backend.port))
        proxy.printed.wait(lambda line: line.endswith(": in order again"), "its end")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["bad-file.json", "bad-file"])
def test_utf_16_is_called_so(tproxy, backend, name, encoding):
    """A file in UTF-16 is reported with the name that Windows uses, Unicode."""
    good = tproxy.add("good", backend.host, backend.port)
    text = json.dumps(GOOD) if name.endswith(".json") else properties_text(GOOD)
    tproxy.write_bytes(text.encode(encoding), name)
    assert "is UTF-16: save it as UTF-8" in complaint(tproxy, name)
    served(good)


# --- properties files, the older export of the cockpit ---


def properties_text(fields: dict) -> str:
    """Returns the text that java.util.Properties.store writes."""

    def escaped(text: str) -> str:
        text = "".join("\\" + c if c in "\\:=#!" else c for c in text)
        return "".join(c if ord(c) < 127 else f"\\u{ord(c):04X}" for c in text)

    head = "#mail.password=<< Existing password/certificate removed on export >>\n#\n"
    lines = [f"{key}={escaped(str(value))}\n" for key, value in fields.items()]
    return head + "#Thu Mar 05 09:12:44 UTC 2026\n" + "".join(lines)


@pytest.mark.parametrize("file", ["mail", "mail.properties", "another-name"])
def test_properties_file(tproxy, backends, file):
    """A properties file is served; its password has to be escaped."""
    server = backends(Pop3(password="p\u00e4ss:=#! \\"))
    fields = destination("mail", server.host, server.port)
    fields["mail.password"] = server.script.password
    tproxy.write_text(properties_text(fields), file)
    served(tproxy.port("mail"))
    assert b"p\xc3\xa4ss" not in tproxy.everything_said()


PROPERTIES_FORMS = {
    "ISO-8859-1": lambda text: text.encode("latin-1"),
    "UTF-8": lambda text: text.encode(),
    "byte order mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "line ends of Windows": lambda text: text.replace("\n", "\r\n").encode(),
    "colons and blanks": lambda text: text.replace("=", " : ").encode(),
    "continued": lambda text: text.replace("example.com", "exa\\\n    mple.com").encode(),
}


@pytest.mark.parametrize("form", PROPERTIES_FORMS)
def test_forms_of_properties(tproxy, backends, form):
    server = backends(Pop3(user="robot\u00e4@example.com"))
    fields = destination("mail", server.host, server.port)
    text = "".join(f"{key}={value}\n" for key, value in fields.items() if key != "mail.user")
    text += "mail.user=robot\u00e4@example.com\n"
    tproxy.write_bytes(PROPERTIES_FORMS[form](text), "mail")
    served(tproxy.port("mail"))


def test_export_without_its_password(tproxy, backend):
    """The cockpit leaves secrets out. Neither the exported file nor one whose placeholder is used
    as the password causes a login."""
    fields = destination("mail", backend.host, backend.port)
    placeholder = "<< Existing password/certificate removed on export >>"
    del fields["mail.password"]
    text = properties_text(fields)
    tproxy.write_text(f"#mail.password={placeholder}\n{text}", "mail")
    assert "mail.password" in complaint(tproxy, "/mail: ")
    start = len(tproxy.printed)
    tproxy.write_text(f"{text}mail.password={placeholder}\n", "mail")
    said = complaint(tproxy, "/mail: ", start)
    assert "mail.password: the BTP cockpit leaves this value out of an export" in said
    tproxy.write_text(f"{text}mail.password=Scripted-Pa55word\n", "mail")
    served(tproxy.port("mail"))
    assert backend.connections() == 1


def test_half_written_properties(tproxy, backend):
    """A properties file may end anywhere: while a part of a destination is missing the last good
    version stays, and the complete file takes effect."""
    text = properties_text(destination("mail", backend.host, backend.port))
    tproxy.write_text(text, "mail")
    port = tproxy.port("mail")
    start = len(tproxy.printed)
    tproxy.write_text(text[: text.index("mail.p")], "mail")
    assert "the last good version stays in force" in complaint(tproxy, "/mail: ", start)
    served(port)
    tproxy.write_text(text, "mail")
    tproxy.printed.wait(lambda line: line.endswith("/mail: in order again"), "the healing")
    served(port)


def test_properties_become_json_and_go(tproxy, backends):
    old, new = backends(Pop3()), backends(Pop3())
    tproxy.write_text(properties_text(destination("mail", old.host, old.port)), "mail")
    port = tproxy.port("mail")
    served(port)
    tproxy.write_text(json.dumps(destination("mail", new.host, new.port)), "mail")

    def at_the_new_server() -> bool:
        served(port)
        return new.connections() > 0

    until(at_the_new_server, "the session at the new server")
    (tproxy.directory / "mail").unlink()
    until(lambda: is_closed(port), "the end of the target")


def test_json_and_properties_of_one_name(tproxy, backends):
    first, second = backends(Pop3()), backends(Pop3())
    tproxy.write_text(properties_text(destination("mail", first.host, first.port)), "mail")
    port = tproxy.port("mail")
    tproxy.write(destination("mail", second.host, second.port))
    said = complaint(tproxy, "mail.json")
    assert 'Name: "mail" is taken by the file mail; give it another name' in said
    served(port)
    assert second.connections() == 0


def test_removed_directory(tproxy, backend):
    """Without the directory there are no targets, and the program continues."""
    port = tproxy.add("mail", backend.host, backend.port)
    (tproxy.directory / "mail.json").unlink()
    tproxy.directory.rmdir()
    until(lambda: is_closed(port), "the end of the target")
    assert tproxy.http("/healthz")[0] == 200


# --- values that the cockpit writes in other ways ---

EQUIVALENT = {
    "number as port": lambda d: {**d, "mail.pop3.port": int(d["mail.pop3.port"])},
    "no Authentication": lambda d: {k: v for k, v in d.items() if k != "Authentication"},
    "no protocol": lambda d: {k: v for k, v in d.items() if k != "mail.transport.protocol"},
    "boolean": lambda d: {**d, "mail.pop3.auth": True, "mail.pop3.starttls.enable": False},
    "unknown properties": lambda d: {**d, "mail.pop3.from": "x", "Description": "y", "mail.z": "1"},
    "byte order mark or blanks": lambda d: d,
    "answer of the service": lambda d: {"destinationConfiguration": d, "owner": {"x": 1}},
}


@pytest.mark.parametrize("case", EQUIVALENT)
def test_equivalent_forms(tproxy, backend, case):
    form = EQUIVALENT[case](destination("mail", backend.host, backend.port))
    text = json.dumps(form)
    tproxy.write_text("\n\t " + text + "\r\n " if case.startswith("byte") else text, "mail.json")
    served(tproxy.port("mail"))


# --- ports ---


def test_ports_come_from_the_range(make_tproxy, backend, reserve_ports):
    """Ports in the range that others use are skipped; if none is left, a line says so."""
    with contextlib.ExitStack() as stack:
        first = reserve_ports(3)
        stack.enter_context(socket.create_server(("127.0.0.1", first + 1)))
        tproxy = make_tproxy("--target-ports", f"{first}-{first + 2}")
        ports = [tproxy.add(f"mail-{n}", backend.host, backend.port) for n in range(2)]
        assert sorted(ports) == [first, first + 2]
        tproxy.write(destination("mail-2", backend.host, backend.port))
        said = tproxy.logs.wait(
            lambda line: "mail-2" in str(line)
            and "port" in str(line).lower()
            and line["level"].lower() in ("warn", "warning", "error"),
            "that no port is left",
        )
        assert str(first) in str(said)
        for port in ports:
            served(port)


def test_port_stays_over_a_change(tproxy, backends):
    old, new = backends(Pop3()), backends(Pop3())
    port = tproxy.add("mail", old.host, old.port)
    tproxy.write(destination("mail", new.host, new.port))

    def reaches_the_new_server() -> bool:
        served(port)
        return new.connections() > 0

    until(reaches_the_new_server, "the changed destination at the same port")


def test_ports_stay_over_a_restart(program, directory, backend, reserve_ports):
    """The ports stay the same after a restart, so that an application's configuration stays
    valid."""
    first = reserve_ports(4)
    seen = []
    for run in range(2):
        (directory / str(run)).mkdir()
        proxy = Tproxy(program, directory / str(run), "--target-ports", f"{first}-{first + 3}")
        for name in ("b", "a", "c"):
            proxy.write(destination(name, backend.host, backend.port))
        with proxy:
            seen.append([proxy.port(name) for name in ("a", "b", "c")])
    assert seen[0] == seen[1] == [first, first + 1, first + 2]


# --- the command line ---


def test_help_names_every_flag(program):
    run = program.run("--help")
    assert run.returncode == 0 and run.stderr == ""
    for flag in (
        *["--local", "--listen", "--target-ports", "--admin", "--log-level", "--log-format"],
        *["--ca-file", "--resolv-conf", "--hosts", "--control", "--drain-delay", "--grace"],
        *["--login-timeout", "--answer-timeout", "--idle-timeout", "--max-sessions"],
        *["--kube-url", "--kube-credentials", "--namespace", "--cluster-domain", "--claim"],
        *["--leader-elect", "--leader-elect-lease-duration", "--leader-elect-renew-deadline"],
        *["--leader-elect-retry-period", "--leader-elect-resource-name"],
        *["--allow-loopback", "--version", "--help", "log-level"],
    ):
        assert flag in run.stdout, flag
    assert all(len(line) <= 100 for line in run.stdout.splitlines())


def test_version(program):
    run = program.run("--version")
    assert run.returncode == 0 and run.stderr == ""
    assert run.stdout.startswith("tproxy ") and run.stdout.count("\n") == 1


BAD_FLAGS = {
    "unknown flag": (["--no-such-flag"], "--no-such-flag"),
    "unknown command": (["dance"], "dance"),
    "value missing": (["--local"], "--local"),
    "level": (["--local", "/tmp", "--log-level", "loud"], "loud"),
    "format": (["--local", "/tmp", "--log-format", "xml"], "xml"),
    "address": (["--local", "/tmp", "--listen", "nowhere"], "nowhere"),
    "range reversed": (["--local", "/tmp", "--target-ports", "20-10"], "20-10"),
    "range of words": (["--local", "/tmp", "--target-ports", "a-b"], "a-b"),
    "range too high": (["--local", "/tmp", "--target-ports", "1-65536"], "65536"),
    "admin": (["--local", "/tmp", "--admin", "9494"], "9494"),
    "seconds": (["--local", "/tmp", "--idle-timeout", "soon"], "soon"),
    "negative": (["--local", "/tmp", "--grace", "-1"], "-1"),
    "sessions": (["--local", "/tmp", "--max-sessions", "0"], "--max-sessions"),
    "claim": (["--local", "/tmp", "--claim", "some"], "some"),
    "two modes": (["--local", "/tmp", "--kube-url", "http://127.0.0.1:1"], "--kube-url"),
    "local election": (["--local", "/tmp", "--leader-elect"], "--leader-elect"),
    "renew deadline": (["--leader-elect-renew-deadline", "15"], "renew-deadline must be less"),
    "retry period": (["--leader-elect-retry-period", "9"], "must be more than 1.2 times"),
    "lease duration": (["--leader-elect-lease-duration", "601"], "601"),
    "credentials": (
        ["--kube-url", "http://127.0.0.1:1", "--kube-credentials", "/no/such/directory"],
        "/no/such/directory",
    ),
    "directory": (["--local", "/no/such/directory"], "/no/such/directory"),
    "file as directory": (["--local", "/etc/passwd"], "/etc/passwd"),
    "CA file": (["--local", "/tmp", "--ca-file", "/no/such/ca.pem"], "/no/such/ca.pem"),
    "CA file of another kind": (["--local", "/tmp", "--ca-file", "/etc/passwd"], "/etc/passwd"),
}


@pytest.mark.parametrize("case", BAD_FLAGS)
def test_bad_command_line(program, case):
    """A message names the mistake, and the exit code is not 0."""
    arguments, culprit = BAD_FLAGS[case]
    process = program.spawn(*arguments)
    try:
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode not in (0, 97, 98) and process.returncode > 0
    assert culprit in err.decode(), err.decode()


def test_no_arguments(program):
    """Without arguments the program runs in cluster mode. Outside of a pod it names the ways to
    run."""
    run = program.run()
    assert run.returncode == 2
    assert "this is not a pod of a cluster" in run.stderr
    assert "--kube-url URL" in run.stderr and "--local DIR" in run.stderr
    assert run.stdout == "" and run.stderr.count("\n") == 1


def test_admin_port_in_use(program, directory):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (directory / "d").mkdir()
        run = program.run(
            *["--local", str(directory / "d"), "--admin", f"127.0.0.1:{port}"],
            *["--control", f"tproxy-test-admin-{os.getpid()}"],
        )
    assert run.returncode > 0
    assert str(port) in run.stderr and "in use" in run.stderr.lower()


def test_admin_can_be_off(make_tproxy, backend):
    tproxy = make_tproxy("--admin", "off")
    served(tproxy.add("mail", backend.host, backend.port))
    assert not any(line.startswith("admin") and ":" in line for line in tproxy.printed.all())
