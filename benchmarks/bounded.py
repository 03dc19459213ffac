"""Run a command line for at most so many seconds: python benchmarks/bounded.py SECONDS COMMAND.

Ends with its exit status, or with 124 when it was stopped, and all that it had started with it.
"""

import os
import signal
import subprocess
import sys


def main(seconds: float, command: str) -> int:
    process = subprocess.Popen(command, shell=True, start_new_session=True)
    try:
        return process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        print(f"stopped after {seconds:g} s: {command}", file=sys.stderr)
        return 124
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2]))
