"""Writes requirements.lock from the packages of this environment; `make lock` calls it.

`python tests/lock.py --check macosx_14_0_arm64` asks pip whether every pin has a file for that platform.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

LOCK = Path(__file__).parent.parent / "requirements.lock"
HEAD = """\
# Every package of the environment, pinned. Made by `make lock` on Linux with Python 3.11; the nvidia, cuda and triton
# packages belong to torch's ordinary Linux builds.

"""
LINUX_ONLY = ("nvidia", "cuda", "triton")
# What a marker sees on the platform that is asked about; pip itself would ask this machine.
PLATFORMS = {"macosx": {"sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "arm64"}}


def locked() -> str:
    command = [sys.executable, "-m", "pip", "freeze", "--exclude-editable", "--exclude", "s6lib"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    pins = [line for line in lines if "==" in line]
    return HEAD + "".join(pin + marker(pin) + "\n" for pin in pins)


def marker(pin: str) -> str:
    return ' ; sys_platform == "linux"' if pin.lower().startswith(LINUX_ONLY) else ""


def pins_for(platform: str) -> list[str]:
    """The pins that apply on `platform`, without their markers."""
    from packaging.requirements import Requirement

    lines = [line for line in LOCK.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    environment = PLATFORMS[platform.split("_")[0]]
    wanted = [Requirement(line) for line in lines]
    return [f"{one.name}{one.specifier}" for one in wanted if not one.marker or one.marker.evaluate(environment)]


def check(platform: str) -> int:
    """Resolves every pin for `platform` without installing; pip's exit code."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--no-deps", "--ignore-installed"]
        command += ["--only-binary=:all:", "--platform", platform, "--python-version", "3.11.9", "--target", scratch]
        return subprocess.run([*command, *pins_for(platform)], check=False).returncode


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", metavar="PLATFORM", help="for example macosx_14_0_arm64")
    asked = parser.parse_args()
    if asked.check:
        sys.exit(check(asked.check))
    LOCK.write_text(locked(), encoding="utf-8")
