"""Damaged records: whatever is in the files, `check`, `load` and `find` answer with a record or a RecordError."""

import json
import random
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from arena import FULL

from s6lib import records
from s6lib.batch import plan, state
from s6lib.provenance import source_fingerprint
from s6lib.records import Record, RecordError
from s6lib.records.files import digest_of
from s6lib.records.small import small
from s6lib.trial import make_trial

MUTATIONS = 500
FILES = ("record.json", "history.csv", "predictions.npz", "weight_norms.csv", "weights.safetensors", "run.json")


@pytest.fixture(scope="module", params=["full", "small"])
def sound(tmp_path_factory, request) -> Path:
    """A whole record, small, with a run.json as the batch writes it."""
    random_numbers = np.random.default_rng(0)
    rows = [(s, e, 0.1, 1 / e, 90.0, 1 / e, 91.0, 0.1) for s in range(2) for e in (1, 2)]
    record = Record(
        trial=make_trial("regularisers", "bn", epochs=2),
        dataset={"name": "digits", "title": "digits", "checksum": "0", "train_images": 9, "test_images": 9},
        seeds=[0, 1],
        history=pd.DataFrame(rows, columns=records.HISTORY),
        weight_norms=pd.DataFrame([(0, 0, 1.0, 1.0)], columns=records.WEIGHT_NORMS),
        logits=random_numbers.normal(size=(2, 9, 10)).astype(np.float16),
        labels=np.arange(9),
        weights={"w": np.zeros((2, 3), np.float32)},
        provenance={"source": source_fingerprint("batch", "regularisers"), "seconds": 2.5, "threads": 1},
    )
    record = small(record, weights=1) if request.param == "small" else record
    path = records.add(record, tmp_path_factory.mktemp("sound"))
    info = {"settings": {"epochs": 2}, "parts": [f"regularisers/bn/{path.name}"], "code": "c", "data": None}
    (path / "run.json").write_text(json.dumps({**info, "seconds": 1.0}))
    return path


def mutate(content: bytes, dice: random.Random) -> bytes:
    """One to four changes: a bit, a byte, a cut, a repetition, a swap of digits, or words from elsewhere."""
    data = bytearray(content)
    for _ in range(dice.randint(1, 4)):
        i, j = (dice.randrange(len(data) + 1) for _ in "ij")
        kind = dice.randrange(7)
        if kind == 0 and i < len(data):
            data[i] ^= 1 << dice.randrange(8)
        elif kind == 1:
            data[i:i] = bytes([dice.randrange(256)])
        elif kind == 2:
            del data[min(i, j) : min(min(i, j) + dice.randint(1, 20), len(data))]
        elif kind == 3:
            data = data[:i] if dice.random() < 0.3 else data
        elif kind == 4:
            data[i:i] = data[j : j + 20]
        elif kind == 5 and i < len(data):
            data[i] = dice.choice(b'0123456789-.eE,"{}[]\n')
        else:
            data[i:i] = dice.choice([b"null", b"NaN", b"-1", b"1e999", b'"x"', b"[]", b"{}", b"\xff\xfe", b"\0\0\0\0"])
    return bytes(data)


def resign(folder: Path, name: str) -> None:
    """Makes the checksums fit the damage, as a careful hand would: now every reader behind them is on its own."""
    file = folder / "record.json"
    try:
        head = json.loads(file.read_bytes())
        head.pop("sha256", None)
        if name != "record.json":
            head["files"][name] = records.sha256(folder / name)
        file.write_text(json.dumps({**head, "sha256": digest_of(head)}))
    except (ValueError, AttributeError, TypeError, RecursionError):
        pass  # no JSON any more: nothing to sign


def read(folder: Path) -> str:
    """What a batch and a summary do with a record; its name, or why it was refused."""
    root = folder.parents[2]
    run = plan.Run("regularisers", "bn", Path("x"), {}, {"epochs": 2}, "c")
    made = folder.parent / f"run.{state.run_key({'epochs': 2})}"
    made.mkdir(exist_ok=True)
    (made / "run.json").write_bytes((folder / "run.json").read_bytes())
    assert state.state_of(run, root).kind in ("done", "stale", "other", "damaged")
    found, left_out = records.find(root)
    assert len(found) + len(left_out) == 1
    assert all(str(folder) in line for line in left_out)
    try:
        records.check(folder)
        record = records.load(folder)
    except RecordError as error:
        return str(error)
    return record.describe()


@pytest.mark.parametrize("signed", [False, True], ids=["as found", "signed again"])
@pytest.mark.parametrize("name", FILES)
def test_damaged_files(sound, tmp_path, name, signed):
    """500 mutations each: refused or read, never another exception; unsigned damage is always refused."""
    dice, folder = random.Random(f"{name} {signed}"), tmp_path / "regularisers" / "bn" / sound.name
    folder.mkdir(parents=True)
    contents = {file: (sound / file).read_bytes() for file in FILES}
    original, refused = records.load(sound).describe(), 0
    for _ in range(MUTATIONS if FULL else 50):
        for file, content in contents.items():
            (folder / file).write_bytes(content)
        changed = mutate(contents[name], dice)
        (folder / name).write_bytes(changed)
        if signed and name != "run.json":
            resign(folder, name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pandas and numpy may grumble; they must not fall over
            answer = read(folder)
        refused += answer != original
        if not signed and name not in ("run.json", "record.json"):
            assert str(folder / name) in answer or changed == contents[name]
    print(name, "signed" if signed else "unsigned", "refused or changed:", refused)
