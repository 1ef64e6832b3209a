# SPDX-License-Identifier: MIT
"""The cases of one test program, run one after the other: pytest takes too long to start in the guest.

    cases = Cases(world)            # world: a context manager; what it gives is passed to every case

    @cases.case(allow=["text"])     # lines the kernel may warn of in this case
    def a_name(world):
        return "what happened"      # or None; raise Skip("why")

    sys.exit(cases.main())
"""

import argparse
import contextlib
import os
import signal
import sys
import time
import traceback

from lib import kernels
from lib.kernel_log import KernelLog
from lib.process import LogSource, tail

SECONDS = 600  # a case may take


class Skip(Exception):
    """This case cannot be judged here; the text says why."""


class TookTooLong(AssertionError):
    pass


def _alarm(*_):
    raise TookTooLong("the case took longer than it may; where it was is above")


class Cases:
    def __init__(self, world=contextlib.nullcontext, allow=()):
        """allow: as for case(), in every case."""
        self.world, self.cases, self.allow, self.of_full_runs = world, [], tuple(allow), set()
        self.passed, self.failed, self.skipped = 0, 0, 0

    def case(self, allow=(), seconds=SECONDS, full=False):
        def register(function):
            self.add(function.__name__, function, allow=allow, seconds=seconds, full=full)
            return function

        return register

    def add(self, name, function, *args, allow=(), seconds=SECONDS, full=False):
        """As case(), for one function called as function(world, *args). full: only in full runs ($SMBDIRECTD_FULL), or
        when it is named."""
        if full:
            self.of_full_runs.add(name)
        self.cases.append((name, lambda world: function(world, *args), tuple(allow), seconds))

    def on_each(self, kinds):
        """As case(), once for each of `kinds`, called as function(world, kind)."""

        def register(function):
            for kind in kinds:
                self.add(f"{function.__name__}_{kind}", function, kind)
            return function

        return register

    def main(self):
        """Runs the cases named on the command line (all when none is) and returns the exit status."""
        parser = argparse.ArgumentParser(description="Run in the guest: scripts/vm tests/vm/NAME.py [CASE...]")
        parser.add_argument("--list", action="store_true", help="only name the cases")
        parser.add_argument("cases", nargs="*")
        options = parser.parse_args()
        names = [name for name, *_ in self.cases]
        unknown = [name for name in options.cases if name not in names]
        if unknown:
            parser.error(f"there is no case {', '.join(unknown)}; there are: {', '.join(names)}")
        if options.list:
            print("\n".join(names))
            return 0
        if os.environ.get("SMBDIRECTD_VM") != "1":
            parser.error("this changes network devices and loads modules: run it by scripts/vm, in the guest")
        signal.signal(signal.SIGALRM, _alarm)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        wanted = options.cases or [n for n in names if n not in self.of_full_runs or os.environ.get("SMBDIRECTD_FULL")]
        self._run_all([c for c in self.cases if c[0] in wanted])
        print(f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped", flush=True)
        return 1 if self.failed else 0

    def _run_all(self, chosen):
        begin = time.monotonic()
        at_setup = True
        try:
            signal.alarm(SECONDS)
            with self.world() as world:
                at_setup = False
                print(f"ready after {time.monotonic() - begin:.1f} s, Linux {kernels.release()}", flush=True)
                for case in chosen:
                    attempt = 1
                    while not self._run(world, *case, attempt):
                        attempt += 1
                signal.alarm(SECONDS)
                begin = time.monotonic()
        except Exception as e:
            self._report("FAILED", "set-up" if at_setup else "take-down", begin, e)
        finally:
            signal.alarm(0)

    def _run(self, world, name, function, allow, seconds, attempt):
        """False when a fault of the kernel's own made it void, and it is to be run again."""
        log, begin = KernelLog(), time.monotonic()
        for source in LogSource.live:
            source.mark()
        try:
            signal.alarm(seconds)
            details = function(world)
            log.assert_quiet(self.allow + allow)
        except Skip as e:
            self.skipped += 1
            print(f"skip {name}: {e}", flush=True)
            return True
        except Exception as e:
            if attempt < kernels.ATTEMPTS and (why := kernels.void(log.lines())):
                print(f"(void {name}: attempt {attempt}: {why}: {type(e).__name__}: {e})", flush=True)
                return False
            self._report("FAILED", name, begin, e, log)
            return True
        finally:
            signal.alarm(0)
        self.passed += 1
        print(f"ok {name} ({time.monotonic() - begin:.1f} s) {details or ''}".rstrip(), flush=True)
        return True

    def _report(self, word, name, begin, error, log=None):
        self.failed += 1
        print("".join(traceback.format_exception(error)).rstrip())
        for source in LogSource.live:
            if text := tail(source.path, 60, source.start):
                print(f"--- log of {source.name}:\n" + "\n".join(line[:400] for line in text.splitlines()))
        if log and (lines := log.lines()):
            print("--- the kernel's log:\n" + "\n".join(lines[-60:]))
        # Last: what is read first by those who see only the end.
        print(f"{word} {name}: after {time.monotonic() - begin:.1f} s: {type(error).__name__}: {error}", flush=True)
