"""The example app on Flower's own servers, as processes on loopback: what its recorder sees there."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from seepage.targets.recordings import Recording

pytest.importorskip("flwr", reason="Flower, the extra [fl], is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

APP = Path(__file__).parents[2] / "examples" / "flower_app"
BIN = Path(sys.executable).parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listening(port: int, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.5)
    raise TimeoutError(f"nothing listens on port {port}")


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[dict[str, str], int]]:
    """A superlink and two supernodes, in a folder of their own."""
    port, own = free_port(), dict(os.environ)
    own |= {"FLWR_HOME": str(tmp_path / "home"), "FLWR_TELEMETRY_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    own["PATH"] = f"{BIN}{os.pathsep}{own['PATH']}"
    link = ["flower-superlink", "--insecure", "--port", str(port), "--disable-runtime-dependency-installation"]
    started: list[subprocess.Popen[bytes]] = []

    def start(command: list[str]) -> None:
        with (tmp_path / f"{command[0]}-{len(started)}.log").open("wb") as log:
            started.append(subprocess.Popen(command, cwd=tmp_path, env=own, stdout=log, stderr=log))

    try:
        start(link)
        listening(port)
        for number in range(2):
            node = ["--node-config", f"partition-id={number} num-partitions=2", "--port", str(free_port())]
            start(["flower-supernode", "--insecure", "--superlink", f"127.0.0.1:{port}", *node])
        yield own, port
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait(30)


def test_a_run_on_real_servers_is_recorded(servers: tuple[dict[str, str], int], tmp_path: Path) -> None:
    own, port = servers
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "here"\n\n[superlink.here]\naddress = "127.0.0.1:{port}"\ninsecure = true\n', "utf-8"
    )
    command = ["flwr", "run", str(APP), "here", "--stream", "--run-config", "num-server-rounds=2"]
    done = subprocess.run(command, cwd=tmp_path, env=own, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = Recording.open(tmp_path / "runs" / "flower-recording")
    assert found.about["framework"] == "flwr"
    assert [one.round for one in found.readable] == [1, 1, 2, 2]
    for one in found.readable:
        before, after = one.before(), one.after()
        assert isinstance(before, dict)
        assert isinstance(after, dict)
        assert any((before[name] != after[name]).any() for name in before)
        assert one.records == 8
