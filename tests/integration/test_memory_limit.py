"""Clients cannot drive the pod beyond its memory limit. Clusters have control groups of version 2,
which also charge the kernel's socket buffers; the test has its own in a virtual machine."""

import json
from pathlib import Path

import pytest

from harness import virtual_machine

GUEST = Path(__file__).with_name("guest") / "memory_limit.py"
LIMIT = 64_000_000


@pytest.mark.one_build
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("protocol", ["clear", "tls"])
def test_clients_that_stop_reading(program, certificates, protocol):
    said = virtual_machine.run(
        GUEST,
        [protocol],
        {
            "/guest/tproxy": program.path,
            "/guest/ca.pem": certificates.ca_file,
            "/guest/server.pem": certificates.good,
        },
        timeout=800,
    )
    lines = [line for line in said.splitlines() if "RESULT " in line]
    assert lines, said
    result = json.loads(lines[0].split("RESULT ", 1)[1])
    print(result)
    assert result["killed"] == 0 and result["alive"], result
    assert result["peak"] < LIMIT, result
    assert result["served"] > 0 and not result["failed"], result
    assert result["afterwards"], result
