"""The container image: its contents, and that it works with the few rights of a container."""

import re
import subprocess
from pathlib import Path

import pytest

from harness.clients import RawClient
from harness.image import Container
from harness.tproxy import Tproxy
from harness.util import is_root

MOST_BYTES = 4_000_000

as_root = pytest.mark.skipif(not is_root(), reason="only root may give a process another root")


@pytest.fixture
def container(image, directory) -> Container:
    return Container(image, {str(directory): directory})


@pytest.fixture
def tproxy(container, directory) -> Tproxy:
    """A proxy that trusts the image's certificates."""
    with Tproxy(container, directory) as running:
        yield running


def test_it_is_small(image):
    assert image.archive.stat().st_size <= MOST_BYTES
    assert sum(file.size for file in image.files()) <= MOST_BYTES


def test_nothing_is_in_it_but_the_program_and_certificates(image):
    """The image contains no shell, and nothing that a user other than root could change."""
    files = {file.name: file for file in image.files()}
    assert {name for name, file in files.items() if not file.isdir()} == {
        "tproxy",
        "etc/logging/change-log-level",
        "etc/ssl/certs/ca-certificates.crt",
    }
    for name, file in files.items():
        assert (file.uid, file.gid) == (0, 0), name
        assert file.issym() or not file.mode & 0o7022, name


def test_user_is_a_number(image):
    user = re.fullmatch(r"(\d+):(\d+)", image.config["User"])
    assert user and "0" not in user.groups()


def test_binary_needs_nothing(image):
    headers = subprocess.run(
        ["readelf", "--wide", "--program-headers", "--sections", image.root / "tproxy"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "LOAD" in headers and "INTERP" not in headers
    assert ".debug_info" not in headers, "it is stripped"


@as_root
def test_version(image, container):
    run = container.run("--version")
    assert run.returncode == 0, run.stderr
    version = run.stdout.split()[1]
    assert version == image.config["Labels"]["org.opencontainers.image.version"]
    assert image.name == f"localhost/tproxy:{version}"


@as_root
def test_session(tproxy, backend):
    with RawClient(tproxy.add("mail", backend.host, backend.port)) as client:
        assert client.command(b"LIST").startswith(b"+OK")
        assert client.lines()
        assert client.retr(1) == backend.script.messages[0]
        assert client.command(b"QUIT").startswith(b"+OK")


@as_root
def test_it_has_no_rights(image, tproxy):
    tproxy.http("/healthz")
    about = Path(f"/proc/{tproxy.pid}")
    status = dict(re.findall(r"^(\w+):\t(.*)$", (about / "status").read_text(), re.MULTILINE))
    uid, gid = image.config["User"].split(":")
    assert status["Uid"].split() == [uid] * 4 and status["Gid"].split() == [gid] * 4
    assert status["Groups"].strip() == ""
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    mounts = [line.split() for line in (about / "mountinfo").read_text().splitlines()]
    assert mounts and all("ro" in mount[5].split(",") for mount in mounts), mounts


@as_root
def test_log_level_changes_from_inside(image, tproxy):
    """kubectl exec POD -- /etc/logging/change-log-level LEVEL works, as in SAP's runbooks."""
    tproxy.admin_port()  # wait until it is running
    change = Container(image, {}, "/etc/logging/change-log-level")
    run = change.run("warn", "--control", tproxy.control)
    assert run.returncode == 0, run.stderr
    assert tproxy.program.run("log-level", "--control", tproxy.control).stdout.strip() == "warn"
