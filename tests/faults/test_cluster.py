"""Dask without workers, without a scheduler, over TLS, without the shared folder, and with its network cut."""

import json
import subprocess
import time

import pandas as pd
import psutil
import pytest
from arena import FULL, Dask, check_complete, kill, only_full, shell
from batch_project import ARM, TRIVIAL, Project, until

from s6lib import data, paths, records
from s6lib.training.train import train_and_add
from s6lib.trial import make_trial

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
    assert "The same command continues" in output


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


# --- the parts of one trial ---

GROUPS = [[0, 1], [2, 3]]


@pytest.fixture(scope="module")
def groups_alone(tmp_path_factory):
    """The history of four seeds, each pair trained by itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("S6_LAB", str(tmp_path_factory.mktemp("alone")))
        for group in GROUPS:
            train_and_add([make_trial("regularisers", "bn", epochs=3)], data.load("digits"), group, "float32")
        return one_record(paths.interactive_results()).history.drop(columns="seconds")


def one_record(folder) -> records.Record:
    """The only record below a folder, of every seed once; a seed that came twice is only left out by name."""
    found, left_out = records.find(folder)
    assert [record.seeds for record in found] == [[0, 1, 2, 3]]
    assert all("they come twice" in line for line in left_out)
    return found[0]


@pytest.fixture
def split(tmp_path):
    """A project with one trial of four seeds, an arm of a study."""
    made = Project(tmp_path / "p")
    profile = '[profiles.quick]\ndataset = "digits"\nseeds = 4\nepochs = 3\nprecision = "float32"'
    (made.path / "studies.toml").write_text(f'{profile}\n[studies.regularisers]\nbn = {{ notebook = "{ARM}" }}\n')
    yield made
    made.close()


def check_split(project: Project, history: pd.DataFrame) -> None:
    """One result per seed, equal to the undisturbed one; the notebook trained nothing; nothing is left over."""
    found = one_record(project.results / "regularisers").history.drop(columns="seconds")
    pd.testing.assert_frame_equal(found, history, check_exact=True)
    run = json.loads(next(project.results.glob("regularisers/bn/run.*/run.json")).read_text())
    assert {part.split("/")[-1].split(".")[0] for part in run["parts"]} == {"seeds-0-1", "seeds-2-3"}
    assert until(lambda: not project.processes("s6lib.batch.child"), 60), "orphans"
    assert project.leftovers() == []


@pytest.mark.parametrize("round_", range(10 if FULL else 1))
def test_a_worker_is_killed_while_it_trains_a_part(split, groups_alone, dice, round_):
    """Its part goes to the other worker; both are there once, and the notebook finds them."""
    dask = Dask(split)
    workers = two_workers(dask)
    try:
        runner = split.start("run", "--scheduler", dask.address)
        assert until(lambda: len(split.processes("s6lib.batch.child")) == 2, 60), "the parts are no tasks of their own"
        time.sleep(dice.uniform(0, 15))
        killed = kill(children(dice.choice(workers)))
        output, _ = runner.communicate(timeout=200)
        assert runner.returncode == 0, output
    finally:
        dask.close()
    check_split(split, groups_alone)
    print("killed" if killed else "was too late to kill", "a worker")


def two_workers(dask: Dask) -> list[subprocess.Popen]:
    """Both there before the runner asks how many there are."""
    made = [dask.worker(), dask.worker()]
    assert until(lambda: registered(dask) == 2, 60)
    return made


def registered(dask: Dask) -> int:
    logs = dask.project.temporary.glob("worker-*.log")
    return sum("Registered to" in log.read_text() for log in logs)


def children(worker: subprocess.Popen) -> list[str]:
    """The process below a nanny that does the work."""
    found = psutil.Process(worker.pid).children(recursive=True)
    return [str(process.pid) for process in found if "spawn_main" in " ".join(process.cmdline())]


@only_full
def test_the_scheduler_restarts_while_parts_train(split, groups_alone):
    """The run ends with a message; another scheduler and the same command finish it."""
    for last in (False, True):
        dask = Dask(split)
        [log.unlink() for log in split.temporary.glob("worker-*.log")]
        two_workers(dask)
        try:
            runner = split.start("run", "--scheduler", dask.address)
            assert last or until(lambda: list(split.results.rglob("*.checkpoint")), 60)
            if not last:
                dask.processes[0].kill()
            output, _ = runner.communicate(timeout=200)
            assert runner.returncode == (0 if last else 1), output
        finally:
            dask.close()
            dask.file.unlink(missing_ok=True)  # a scheduler that ends in peace takes it along
    check_split(split, groups_alone)


@only_full
@pytest.mark.parametrize("again", [False, True])
def test_network_is_cut_while_a_part_trains(split, groups_alone, wire, again):
    """The worker behind the cut goes on alone while its part is trained again elsewhere: one result of each seed."""
    quick = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "12s", "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "10s"}
    dask = Dask(split, "10.99.77.1", **quick)
    try:
        dask.worker("10.99.77.2", prefix=("ip", "netns", "exec", "s6far"))
        dask.worker("10.99.77.1")
        assert until(lambda: registered(dask) == 2)
        runner = split.start("run", "--scheduler", dask.address)
        assert until(lambda: len(split.processes("s6lib.batch.child")) == 2, 60)
        wire("down")
        if again:
            time.sleep(8)
            wire("up")
        output, _ = runner.communicate(timeout=200)
        assert runner.returncode == 0, output
        assert until(lambda: not split.processes("s6lib.batch.child"), 60)
    finally:
        dask.close()
    split.run("run")  # sweeps up after the lonely worker
    check_split(split, groups_alone)


def test_a_part_that_fails_is_the_trials_failure(split):
    """Its reason and its log's end are shown; the notebook is not tried."""
    text = (split.path / "studies.toml").read_text().replace('"digits"', '"kmnist"')
    (split.path / "studies.toml").write_text(text)
    folder = split.path / "data" / "KMNIST" / "raw"
    folder.mkdir(parents=True)
    for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte"):
        (folder / name).write_bytes(b"no images")
    (folder / "t10k-labels-idx1-ubyte").write_bytes(b"no labels")
    split.environment["S6_DATA_DIR"] = str(split.path / "data")
    output = split.run("run", "--scheduler", "local:2", code=1)
    assert "regularisers/bn  FAILED after" in output
    assert "DataError" in output
    assert not list(split.results.rglob("notebook.ipynb"))
