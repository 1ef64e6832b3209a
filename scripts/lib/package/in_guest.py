#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What scripts/package has its guest do once systemd has booted: mounted.MountedLife, on the machine that this runs on. Prints
its steps; and at the end what the report is to tell, after RESULT."""

import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / 'fresh')]
sys.dont_write_bytecode = True
import differences  # noqa: E402
import host  # noqa: E402
import mounted  # noqa: E402
import served  # noqa: E402

RESULT = 'result: '


class ThisHost(host.Host):
    environment, patience = {**os.environ}, 10  # the guest's processor is emulated

    def command(self, *argv):
        return [str(word) for word in argv]

    def path(self, path):
        return pathlib.Path(path)


def main():
    life = mounted.MountedLife(ThisHost(), lambda text: print(f'  -- {text}', flush=True))
    try:
        left = differences.of_life(*life.live())
    except (host.Failed, served.Lost, subprocess.TimeoutExpired) as e:
        print(e)
        return 1
    if left:
        print('the purge has left:', *left, sep='\n  ')
        return 1
    first = pathlib.Path('/proc/1/comm').read_text().strip()
    print(f'{RESULT}{life.moved}; Linux {os.uname().release}, {first} as its first process')
    return 0


if __name__ == '__main__':
    sys.exit(main())
