"""`tproxy check` says what tproxy would make of files. Its verdict is compared with what the
running program says about the same directory."""

import base64
import json
import subprocess
from pathlib import Path

import pytest
from test_local import BAD_DESTINATIONS, BAD_TEXTS, GOOD, NAMED, PASSED_OVER, properties_text
from test_local_objects import REFUSED

from harness.destination_service import key_secret
from harness.installation import INSTANCE, destination_cr, transparent_proxy
from harness.samples import (
    DESTINATIONS,
    HOME,
    MAIL_DESTINATIONS,
    MAIL_WITHOUT_AUTHENTICATION,
    MISPRINT,
    TENANTS,
    TRANSPARENT_PROXIES,
)
from harness.tproxy import ROOT, Tproxy, destination

NAME = "example-dest-pop3"
UNREAD = "cannot be read: "

# Nobody answers there, so that the running program cannot read a destination of the service either.
KEY = {
    "clientid": "client",
    "clientsecret": "Scripted-Pa55word",
    "url": "http://provider.localhost:9",
    "identityzone": "provider",
    "uri": "http://127.0.0.1:9",
}
PLAIN = [
    destination(NAME, "127.0.0.1", 110),
    destination("example-dest-pop3s", "127.0.0.1", 995, **{"mail.transport.protocol": "pop3s"}),
]


class Files:
    """A directory of files, for both: tproxy check and tproxy --local."""

    def __init__(self, proxy: Tproxy):
        self.proxy = proxy
        self.path = proxy.directory

    def text(self, text: str | bytes, file: str) -> None:
        content = text if isinstance(text, bytes) else text.encode()
        (self.path / file).write_bytes(content)
        (self.path / file).chmod(0o644)

    def add(self, *contents: dict) -> None:
        """Writes each into a file of its own."""
        for content in contents:
            number = len(list(self.path.iterdir()))
            self.text(json.dumps(content), f"{number:03}.json")

    def check(self, *arguments: str) -> subprocess.CompletedProcess:
        return self.proxy.program.run("check", *arguments)

    def judged(self) -> dict:
        """Returns what `check --json` says about the directory."""
        done = self.check("--json", str(self.path))
        assert done.stderr == ""
        result = json.loads(done.stdout)
        assert done.returncode == (result["verdict"] == "wrong")
        assert "Pa55word" not in done.stdout
        return result

    def agreed(self) -> dict:
        """Compares the verdict with the lines of the running program, each one in both directions.
        Returns the verdict."""
        result = self.judged()
        expected = {line for file in result["files"] for line in lines_of(file)}
        with self.proxy as proxy:
            for line in sorted(expected, key=str):
                proxy.printed.wait(lambda said, line=line: shown(said) == line, f"the line {line}")
            self.text("{", "zzz-last.json")
            proxy.printed.wait(lambda said: "zzz-last.json" in said, "the last file")
            said = {shown(line) for line in proxy.printed.all() if not line.startswith("(admin)")}
        assert {line for line in said if "zzz-last.json" not in str(line)} == expected
        return result


def lines_of(file: dict) -> list:
    """Returns what the running program has to say about the file, in the form of `shown`."""
    lines: list = []
    if "kind" not in file and file["verdict"] == "wrong":
        lines.append(f"{file['file']}: {file['remark']}")
    elif "remark" in file and file["kind"] == "TransparentProxy":
        lines.append(f"TransparentProxy {file['name']}: {file['remark']}")
    for problem in file.get("problems", []):
        lines.append(f"TransparentProxy {file['name']}: {problem}")
    for target in file["targets"]:
        good = target["verdict"] == "ok"
        assert good == (target["reason"] == "ConfigurationSuccessful")
        lines.append((target["name"], "ready" if good else only_ours(target["message"])))
        assert (UNREAD in target["message"]) == (target["verdict"] == "unknown")
    return lines


def targets_of(result: dict, verdict: str) -> list[dict]:
    targets = [target for file in result["files"] for target in file["targets"]]
    return [target for target in targets if target["verdict"] == verdict]


def only_ours(message: str) -> str:
    """Returns the message without the words of a server, which check does not ask."""
    return message.split(UNREAD)[0]


def shown(line: str) -> str | tuple[str, str]:
    """Returns a line of the terminal; for the row of a target its name and its state."""
    name, _, rest = line.partition(" ")
    where, _, text = rest.strip().partition(" ")
    if where == "-" or where.startswith("127.0.0.1:"):
        return name, only_ours(text.strip())
    return line


@pytest.fixture
def files(program, directory) -> Files:
    return Files(Tproxy(program, directory))


# --- the same verdict ---


def renamed(samples: dict) -> list[dict]:
    """Returns the samples with a name for each, as several have the same."""
    return [
        {**sample, "metadata": {**sample["metadata"], "name": f"{sample['metadata']['name']}-{n}"}}
        for n, sample in enumerate(samples.values())
    ]


SURROUNDINGS = {
    "nothing": [],
    "plain destinations": PLAIN,
    "a service": [transparent_proxy(INSTANCE), key_secret(INSTANCE, HOME, KEY, "key")],
    "a service for tenants": [
        transparent_proxy(INSTANCE, tenantMode="shared"),
        key_secret(INSTANCE, HOME, KEY, "key"),
    ],
    "a service without its key": [transparent_proxy(INSTANCE)],
    "a wrong configuration": [transparent_proxy(INSTANCE, tenantMode="both"), *PLAIN],
}


@pytest.mark.parametrize("surroundings", SURROUNDINGS)
def test_every_resource_of_the_samples(files, surroundings):
    files.add(*renamed(DESTINATIONS), *SURROUNDINGS[surroundings])
    files.text(json.dumps(MISPRINT), "misprint.json")
    result = files.agreed()
    verdicts = {file["verdict"] for file in result["files"] if file.get("kind") == "Destination"}
    assert verdicts == {
        "nothing": {"wrong"},
        "plain destinations": {"ok", "wrong"},
        "a service": {"unknown", "wrong"},
        "a service for tenants": {"unknown", "wrong"},
        "a service without its key": {"wrong"},
        "a wrong configuration": {"unknown"},
    }[surroundings]


@pytest.mark.parametrize("sample", TRANSPARENT_PROXIES)
def test_every_configuration_of_the_samples(files, sample):
    files.add(TRANSPARENT_PROXIES[sample], *PLAIN)
    files.agreed()


MAILS = [
    {**sample, "Name": f"sample-{n}"}
    for n, sample in enumerate([*MAIL_DESTINATIONS.values(), MAIL_WITHOUT_AUTHENTICATION])
]


def test_every_mail_destination_of_the_samples(files):
    """A TransparentProxy object names the Connectivity Proxy for those on premise."""
    files.add(*MAILS, TRANSPARENT_PROXIES["Connectivity Proxy"])
    good = {target["name"]: target for target in targets_of(files.agreed(), "ok")}
    assert set(good) == {sample["Name"] for sample in MAILS}
    for sample in MAILS:
        shown, protocol = good[sample["Name"]]["mailbox"], sample["mail.transport.protocol"]
        assert shown["host"] == sample[f"mail.{protocol}.host"]
        assert shown["port"] == int(sample[f"mail.{protocol}.port"])
        assert shown["tls"] == ("implicit" if protocol == "pop3s" else "none")
        assert shown["authentication"] == sample.get("Authentication", "BasicAuthentication")
        assert ("token" in shown) == shown["authentication"].startswith("OAuth2")


def test_mail_destinations_without_a_connectivity_proxy(files):
    files.add(*MAILS)
    far = {sample["Name"] for sample in MAILS if sample["ProxyType"] == "OnPremise"}
    assert {target["name"] for target in targets_of(files.agreed(), "wrong")} == far


@pytest.mark.parametrize("sample", MAIL_DESTINATIONS)
def test_every_mail_destination_as_properties(files, sample):
    files.text(properties_text(MAIL_DESTINATIONS[sample]), "example-dest")
    files.agreed()


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


# Secrets for the service key, each wrong in its own way, with words of the complaint.
BAD_SECRETS: dict[str, tuple[dict, str]] = {
    "no such entry": ({"data": {"other": encoded(json.dumps(KEY))}}, '"key"'),
    "no entries": ({}, '"key"'),
    "not Base64": ({"data": {"key": "%%%"}}, '"key"'),
    "no text": ({"data": {"key": 7}}, '"key"'),
    "not JSON": ({"stringData": {"key": "clientid=client"}}, '"key"'),
    "an array": ({"stringData": {"key": "[]"}}, '"key"'),
    "empty": ({"stringData": {"key": ""}}, '"key"'),
    **{
        f"without {field}": (
            {"stringData": {"key": json.dumps({k: v for k, v in KEY.items() if k != field})}},
            f'"{field}"',
        )
        for field in ("clientid", "clientsecret", "url", "uri")
    },
    "no URL": ({"stringData": {"key": json.dumps({**KEY, "url": "here"})}}, '"url"'),
    "a number": ({"stringData": {"key": json.dumps({**KEY, "clientid": 7})}}, '"clientid"'),
}


@pytest.mark.parametrize("bad", BAD_SECRETS)
def test_wrong_secrets(files, bad):
    """What is wrong with a Secret is said of the TransparentProxy object that names it."""
    members, word = BAD_SECRETS[bad]
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": INSTANCE}, **members}
    files.add(transparent_proxy(INSTANCE), secret, destination_cr("mail", "apps", NAME))
    proxy, named, _ = files.agreed()["files"]
    assert (proxy["verdict"], named["verdict"]) == ("wrong", "ok")
    (problem,) = proxy["problems"]
    assert word in problem, problem


def test_wrong_files(files):
    """More than thirty files are wrong, each in its own way."""
    for number, (bad, _) in enumerate(BAD_DESTINATIONS.values()):
        files.text(json.dumps(bad), f"bad-{number}.json")
        texts = {name: value for name, value in bad.items() if isinstance(value, str)}
        files.text(properties_text(texts), f"properties-{number}")
    texts = {name: text for name, text in BAD_TEXTS.items() if text is not None}
    for number, text in enumerate(texts.values()):
        files.text(text, f"text-{number}.json")
    files.text(b'{"Name": "\xff\xfe"}', "not-utf-8.json")
    files.text(json.dumps(GOOD).encode("utf-16"), "utf-16.json")
    for number, (refused, _) in enumerate(REFUSED.values()):
        files.text(json.dumps(refused), f"refused-{number}.json")
    for name in NAMED:
        files.text("buy milk\n", name)
    files.text("apiVersion: v1\nkind: Destination\n", "cr.yaml")
    result = files.agreed()
    wrong = [file for file in result["files"] if file["verdict"] == "wrong"]
    assert len(wrong) > 30 and all("remark" in file for file in wrong)
    fields = [field for _, field in BAD_DESTINATIONS.values()]
    remarks = {Path(file["file"]).name: file["remark"] for file in wrong}
    for number, field in enumerate(fields):
        assert field in remarks[f"bad-{number}.json"]


def test_what_depends_on_other_files(files):
    """Mistakes that no file has alone: names that are taken, tenants, on-premise systems."""
    files.add(*PLAIN, {**PLAIN[0], "mail.user": "other"})
    files.add(destination_cr("example-dest-pop3s", "apps", NAME))
    files.add(destination_cr("lost", "apps", "lost"), destination_cr("star", "apps", "*"))
    tenants = destination_cr("tenants", "apps", NAME)
    tenants["metadata"]["annotations"] = {TENANTS: '["not a label"]'}
    files.add(tenants)
    files.add(destination("on-premise", "mail", 110, ProxyType="OnPremise"))
    files.add(transparent_proxy("b", name="b"), transparent_proxy("a", name="a"))
    files.add(transparent_proxy("c", name="c", home="elsewhere"))
    result = files.agreed()
    good = {target["name"]: target.get("remark") for target in targets_of(result, "ok")}
    assert set(good) == {NAME, "example-dest-pop3s", "tenants"}
    assert "is ignored: config.tenantMode is dedicated" in good.pop("tenants")
    assert set(good.values()) == {None}


@pytest.mark.parametrize("example", [path.name for path in (ROOT / "examples").iterdir()])
def test_examples(files, example):
    for path in (ROOT / "examples" / example).iterdir():
        files.text(path.read_bytes(), path.name)
    result = files.agreed()
    ignored = [Path(file["file"]).name for file in result["files"] if file["verdict"] == "ignored"]
    assert ignored == []


# --- the command ---


def test_files_on_the_command_line(files):
    """Files are judged together, from wherever they come. A file whose name local mode would pass
    over is ignored, and this is said."""
    files.add(PLAIN[0], destination_cr("mail", "apps", NAME))
    for name in PASSED_OVER:
        files.text("no destination", name)
    paths = sorted(str(path) for path in files.path.iterdir())
    result = json.loads(files.check("--json", *paths, paths[0]).stdout)
    assert sorted(file["file"] for file in result["files"]) == paths
    verdicts = {Path(file["file"]).name: file["verdict"] for file in result["files"]}
    assert verdicts == {"000.json": "ok", "001.json": "ok", **{n: "ignored" for n in PASSED_OVER}}
    alone = json.loads(files.check("--json", str(files.path / "001.json")).stdout)
    assert alone["verdict"] == "wrong"
    assert alone["files"][0]["targets"][0]["reason"].endswith("ReferencedDestination-NotFound")


def test_lines_for_people(files):
    files.add(
        destination(
            "mine",
            "pop.example.com",
            995,
            **{"mail.transport.protocol": "pop3s", "mail.pop3s.ssl.trust": "other.example.com"},
        ),
        destination(
            "token",
            "outlook.office365.com",
            110,
            Authentication="OAuth2ClientCredentials",
            mail__pop3__starttls__enable="true",
            tokenServiceURL="https://login.example.com/tenant/token?secret=Pa55word",
            clientId="an-id",
            clientSecret="Scripted-Pa55word",
        ),
        {**GOOD, "mail.pop3.port": "pop3", "Name": "wrong"},
    )
    done = files.check(str(files.path))
    assert done.returncode == 1 and done.stderr == "" and "Pa55word" not in done.stdout
    lines = done.stdout.replace(f"{files.path}/", "").splitlines()
    assert lines[:5] == [
        "000.json: ok: destination mine",
        "  mine: ok",
        "    pop3s at pop.example.com, port 995, directly",
        "    TLS from the first byte; TLS 1.2 or 1.3; a trusted certificate for pop.example.com",
        "    logs in as robot, with the password of the destination (BasicAuthentication), by "
        "AUTH PLAIN, else USER and PASS",
    ]
    assert "    STLS if the server offers it, clear text otherwise; " in "\n".join(lines)
    assert (
        "    the token comes from https://login.example.com by the grant client_credentials for "
        'the client "an-id"' in lines
    )
    assert any(line.startswith("    warning: ") for line in lines)
    assert lines[-2].startswith("002.json: wrong: mail.pop3.port: ")
    assert lines[-1] == "3 files: 2 ok, 1 wrong, 0 unknown, 0 ignored"


def test_lines_in_the_documents(files):
    text = (ROOT / "docs/operations.md").read_text()
    wanted = text.split("$ tproxy check mailboxes\n")[1].split("```")[0]
    text = (ROOT / "README.md").read_text()
    files.text(text.split("cat >mailboxes/mine.json <<'END'\n")[1].split("END\n")[0], "mine.json")
    done = files.check(str(files.path))
    assert done.stdout.replace(str(files.path), "mailboxes") == wanted


def test_what_is_connected_to(files):
    files.add(
        destination(
            "mine",
            "erp",
            110,
            ProxyType="OnPremise",
            CloudConnectorLocationId="cellar",
            mail__pop3__starttls__required="true",
        ),
        TRANSPARENT_PROXIES["Connectivity Proxy"],
    )
    (mailbox,) = [t["mailbox"] for file in files.judged()["files"] for t in file["targets"]]
    assert mailbox == {
        "name": "mine",
        "protocol": "pop3",
        "host": "erp",
        "port": 110,
        "proxyType": "OnPremise",
        "locationId": "cellar",
        "tls": "stls-required",
        "tlsVersions": ["1.2", "1.3"],
        "trustsAnyCertificate": False,
        "checksName": True,
        "authentication": "BasicAuthentication",
        "user": "robot",
        "mechanisms": ["PLAIN", "USER"],
        "warnings": [],
    }


def test_no_server_is_asked(files, destination_service):
    """The Destination service that the files name is not asked; its key is read nevertheless."""
    files.add(transparent_proxy(INSTANCE), destination_cr("mail", "apps", NAME))
    files.add(key_secret(INSTANCE, HOME, destination_service.service_key(), "key"))
    before = len(destination_service.requests)
    result = files.judged()
    assert [file["verdict"] for file in result["files"]] == ["ok", "unknown", "ok"]
    assert len(destination_service.requests) == before


def test_namespace_of_the_installation(files):
    files.add(transparent_proxy(home="mail"))
    assert files.judged()["verdict"] == "wrong"
    done = files.check("--namespace", "mail", str(files.path))
    assert done.returncode == 0, done.stdout


# --- as in a cluster (test_cluster_check.py compares this with a real one) ---


def test_in_a_cluster_a_destination_is_no_resource(files):
    """It has the mailbox itself, may be an export as it is, and may be another proxy's."""
    good = {**PLAIN[0], "Name": "No_Label", "mail.pop3.host": "pop.example.com"}
    removed = "<< Existing password/certificate removed on export >>"
    files.add(good, {**good, "Name": "exported", "mail.password": removed})
    files.add(PLAIN[0], {"Name": "web", "Type": "HTTP", "URL": "https://a.example.com"})
    local, cluster = (
        json.loads(files.check("--json", *flags, str(files.path)).stdout)["files"]
        for flags in ((), ("--cluster",))
    )
    assert [file["verdict"] for file in local] == ["ok", "wrong", "ok", "wrong"]
    assert [file["verdict"] for file in cluster] == ["ok", "ok", "wrong", "ignored"]
    assert "LoopbackUrlNotSupported" in cluster[2]["remark"]
    assert cluster[0]["targets"] == [] and "left to other proxies" in cluster[3]["remark"]
    assert cluster[0]["mailbox"] == local[0]["targets"][0]["mailbox"]


def test_in_a_cluster_lines(files):
    files.add({**PLAIN[0], "mail.pop3.host": "pop.example.com"})
    files.add(transparent_proxy(INSTANCE), key_secret(INSTANCE, HOME, KEY, "key"))
    files.add(destination_cr("mine", "apps", NAME), destination_cr("mine", "shop", NAME))
    files.add(destination_cr("gateway", "apps", "*"))
    done = files.check("--cluster", str(files.path))
    lines = done.stdout.replace(f"{files.path}/", "").splitlines()
    assert done.returncode == 1
    assert lines[:2] == [
        f"000.json: ok: destination {NAME}",
        "    pop3 at pop.example.com, port 110, directly",
    ]
    assert [line for line in lines if not line.startswith(" ")][1:] == [
        f"001.json: ok: TransparentProxy {HOME}/transparent-proxy",
        f"002.json: ok: Secret {HOME}/{INSTANCE}",
        "003.json: ok: Destination apps/mine",
        "004.json: wrong: Destination shop/mine",
        "005.json: ignored: Destination apps/gateway: it is left to other proxies, because its "
        "destination is not POP3 mail",
        "6 files: 4 ok, 1 wrong, 0 unknown, 1 ignored",
    ]


@pytest.mark.one_build
def test_in_a_cluster_a_namespace_is_bounded(files):
    """Three resources want 1000 targets each, and a namespace may have 2000."""
    key = {**KEY, "tenantmode": "shared"}
    files.add(transparent_proxy(INSTANCE, tenantMode="shared"))
    files.add(key_secret(INSTANCE, HOME, key, "key"))
    files.add({**PLAIN[0], "mail.pop3.host": "pop.example.com"})
    for name in ("a", "b", "c"):
        cr = destination_cr(name, "apps", NAME)
        cr["metadata"]["annotations"] = {TENANTS: json.dumps([f"t{n}" for n in range(1000)])}
        files.add(cr)
    done = files.check("--cluster", "--json", str(files.path))
    said = {file["name"]: file for file in json.loads(done.stdout)["files"]}
    assert [said[name]["verdict"] for name in ("a", "b", "c")] == ["ok", "ok", "wrong"]
    (message,) = {target["message"] for target in said["c"]["targets"]}
    assert "all 2000 targets that one namespace may have" in message


WRONG_USAGE = {
    "nothing": ((), "name files, or a directory of files"),
    "a file that is not there": (("/not/there.json",), "/not/there.json: cannot be read: No such"),
    "two directories": (("/tmp", "/tmp"), "name files, or one directory"),
    "another flag": (("--all",), "see tproxy check --help"),
}


@pytest.mark.one_build
@pytest.mark.parametrize("case", WRONG_USAGE)
def test_wrong_usage(program, case):
    arguments, said = WRONG_USAGE[case]
    done = program.run("check", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
