"""Generated requests against the served document: never a 5xx, and every answer as documented."""

import shutil
import subprocess
import sys
from pathlib import Path

PHASES = "examples,coverage,fuzzing"
CHECKS = "not_a_server_error,response_schema_conformance,status_code_conformance,content_type_conformance"
SECONDS = 90


def test_schemathesis_finds_nothing(server, fresh, tmp_path):
    """A finding fails the test and prints the request that reproduces it."""
    program = Path(sys.executable).parent / "schemathesis"
    command = [
        str(program) if program.exists() else shutil.which("schemathesis"),
        *("run", f"{server.url}/openapi.json"),
        *("--url", server.url),
        *("--header", f"Authorization: Bearer {fresh.key}"),
        *("--header", "Alguna-Version: 2026-04-01"),
        *("--phases", PHASES),
        *("--checks", CHECKS),
        *("--max-examples", "30"),
        *("--max-failures", "20"),
        *("--request-timeout", "10"),
        *("--workers", "2"),
        *("--suppress-health-check", "all"),
        *("--output-truncate", "false"),
        "--continue-on-failure",
        "--generation-deterministic",
        *("--warnings", "off"),
        "--no-color",
    ]
    with open(tmp_path / "report.txt", "w+") as report:
        done = subprocess.run(
            command, stdout=report, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=tmp_path, timeout=SECONDS
        )
        report.seek(0)
        text = report.read()
    assert done.returncode == 0, f"schemathesis ended with {done.returncode}:\n{text[-20000:]}"
    assert "No operations" not in text
