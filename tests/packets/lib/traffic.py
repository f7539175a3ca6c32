"""Connections without pause while something else happens."""
import subprocess

from . import case, netns, topology
from .topology import addr, join


class Traffic:
    """tests/tools/connect.c in the background; `tally` afterwards. It ends after @seconds, or when it is told to."""

    def __init__(self, bench, source, vip, family, seconds, *flags, rate=400):
        argv = bench.connect_argv(source, vip, family, "-d", seconds, "-r", rate, "-w", 64, "-t", 2500, *flags)
        with netns.inside(bench.world.name[topology.namespace_of(source)]):
            self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def running(self):
        return self.process.poll() is None

    def stop(self):
        self.process.terminate()

    def tally(self):
        out, err = self.process.communicate(timeout=120)
        if self.process.returncode:
            raise netns.CommandFailed("connect: exit %d: %s" % (self.process.returncode, err[-2000:]))
        return case.tally_of(out)[0]


def wrong(tally, family, allowed):
    names = {"%s %s" % (topology.namespace_of(e.split(":")[0]),
                        join(addr(e.split(":")[0], family), int((e.split(":") + ["8080"])[1]))) for e in allowed}
    return {k: v for k, v in tally.items() if k not in names}
