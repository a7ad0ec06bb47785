"""Writes requirements.lock from the packages of this environment; `make lock` calls it."""

import subprocess
import sys
from pathlib import Path

HEAD = """\
# Every package of the environment, pinned. Made by `make lock` on Linux with Python 3.11; the nvidia, cuda and triton
# packages belong to torch's ordinary Linux builds.

"""
LINUX_ONLY = ("nvidia", "cuda", "triton")


def locked() -> str:
    command = [sys.executable, "-m", "pip", "freeze", "--exclude-editable", "--exclude", "s6lib"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    pins = [line for line in lines if "==" in line]
    return HEAD + "".join(pin + marker(pin) + "\n" for pin in pins)


def marker(pin: str) -> str:
    return ' ; sys_platform == "linux"' if pin.lower().startswith(LINUX_ONLY) else ""


if __name__ == "__main__":
    Path("requirements.lock").write_text(locked())
