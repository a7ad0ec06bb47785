"""Dask without workers, without a scheduler, over TLS, without the shared folder, and with its network cut."""

import subprocess
import time

import psutil
import pytest
from arena import Dask, check_complete, only_full, shell
from batch_project import TRIVIAL, until

pytestmark = pytest.mark.slow


@pytest.fixture
def dask(project):
    made = Dask(project)
    yield made
    made.close()


def test_scheduler_without_workers(project, dask):
    """An error after the stated wait, with the address; nothing is written."""
    start = time.monotonic()
    output = project.run("run", "--scheduler", dask.address, "--worker-wait", "3", code=2)
    assert f"no worker at {dask.address} after 3 s" in output
    assert time.monotonic() - start < 20
    assert not project.results.exists()


def test_no_scheduler(project):
    output = project.run("run", "--scheduler", "tcp://127.0.0.1:1", "--worker-wait", "2", code=2)
    assert "SCHEDULER=tcp://127.0.0.1:1: nothing answers there" in output


@only_full
def test_workers_in_processes_of_their_own(project, dask, uninterrupted):
    dask.worker()
    dask.worker()
    output = project.run("run", "--scheduler", dask.address)
    assert "2 ran" in output
    dask.close()
    check_complete(project, uninterrupted)


def test_last_worker_leaves(project, dask):
    """When the only worker has gone for good the batch ends with a message, not never."""
    worker = dask.worker()
    runner = project.start("run", "--scheduler", dask.address, "--worker-wait", "3")
    assert until(lambda: project.processes("s6lib.batch.child"))
    worker.terminate()
    output, _ = runner.communicate(timeout=60)
    assert runner.returncode == 1
    assert f"no worker left at {dask.address} for 3 s" in output
    assert "The same command goes on" in output


def test_worker_without_the_folder(project, dask):
    """A worker that does not see the runner's results says so (here: it sees another folder at the same path)."""
    prefix = ("unshare", "--mount", "sh", "-c", f'mount -t tmpfs none "{project.path}/results" && exec "$@"', "sh")
    (project.path / "results").mkdir()
    shell(*prefix, "true")
    dask.worker(prefix=prefix)
    output = project.run("run", "--scheduler", dask.address, code=1)
    assert "not the runner's results folder as" in output
    assert "workers must share that folder" in output


def test_own_cluster_listens_on_loopback_only(project):
    """SCHEDULER=local:2: every port that the runner, scheduler and workers open is on 127.0.0.1."""
    project.write(a=(TRIVIAL, {"behaviour": "sleep"}))
    runner = project.start("run", "--scheduler", "local:2")
    assert until(lambda: project.processes("s6lib.batch.child"), 60)
    family = [psutil.Process(runner.pid), *psutil.Process(runner.pid).children(recursive=True)]
    ports = [c.laddr for process in family for c in process.net_connections("inet") if c.status == "LISTEN"]
    runner.terminate()
    output, _ = runner.communicate(timeout=30)
    assert ports
    assert {address.ip for address in ports} == {"127.0.0.1"}
    assert runner.returncode == 143, output
    assert until(lambda: not project.processes(""), 10)


@only_full
def test_tls_as_documented(project, uninterrupted):
    """The commands of cluster/README.md: who has the key gets in, who has none or another is refused."""
    pairs = {}
    for name in ("ours", "stranger"):
        pairs[name] = [str(project.path / f"{name}-{part}.pem") for part in ("cert", "key")]
        words = "req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=s6 -keyout"
        shell("openssl", *words.split(), pairs[name][1], "-out", pairs[name][0])
    certificate, key = pairs["ours"]
    tls = ["--tls-ca-file", certificate, "--tls-cert", certificate, "--tls-key", key]
    dask = Dask(project, options=["--protocol", "tls", *tls])
    try:
        dask.worker(options=tls)
        assert dask.address.startswith("tls://")
        for name in ("nobody", "stranger", "ours"):
            if name in pairs:
                values = zip(("CA_FILE", "CLIENT__CERT", "CLIENT__KEY"), [certificate, *pairs[name]], strict=True)
                project.environment |= {f"DASK_DISTRIBUTED__COMM__TLS__{part}": value for part, value in values}
            code = 0 if name == "ours" else 2
            output = project.run("run", "--scheduler", dask.address, "--worker-wait", "10", code=code)
            assert code == 0 or f"no worker at {dask.address}" in output
    finally:
        dask.close()
    check_complete(project, uninterrupted)


@pytest.fixture
def wire():
    """Two network namespaces joined by a wire: this one (10.99.77.1) and `s6far` (10.99.77.2)."""
    shell("ip", "netns", "add", "s6far")
    try:
        shell("ip", "link", "add", "s6near", "type", "veth", "peer", "name", "s6end")
        for words in (
            "link set s6end netns s6far",
            "addr add 10.99.77.1/24 dev s6near",
            "link set s6near up",
            "netns exec s6far ip addr add 10.99.77.2/24 dev s6end",
            "netns exec s6far ip link set s6end up",
            "netns exec s6far ip link set lo up",
        ):
            shell("ip", *words.split())
        yield lambda state: shell("ip", "link", "set", "s6near", state)
    finally:
        subprocess.run(["ip", "netns", "del", "s6far"], check=False)


@only_full
@pytest.mark.parametrize("again", [False, True])
def test_network_is_cut(project, uninterrupted, wire, again):
    """A worker behind a cut wire goes on alone while its trial runs again elsewhere: still one record of each."""
    quick = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "12s", "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "10s"}
    dask = Dask(project, "10.99.77.1", **quick)
    try:
        dask.worker("10.99.77.2", prefix=("ip", "netns", "exec", "s6far"))
        runner = project.start("run", "--scheduler", dask.address)
        assert until(lambda: list(project.results.rglob("heartbeat.json")), 60)
        wire("down")
        dask.worker("10.99.77.1")
        if again:
            time.sleep(8)
            wire("up")
        output, _ = runner.communicate(timeout=200)
        assert runner.returncode == 0, output
        assert until(lambda: not project.processes("s6lib.batch.child"), 60)
    finally:
        dask.close()
    project.run("run")  # sweeps up after the lonely worker
    check_complete(project, uninterrupted)
