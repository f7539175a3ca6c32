"""Connections without pause while something else happens."""
import threading

from . import topology
from .topology import addr, join


class Traffic:
    """tests/tools/connect.c in the background; `tally` afterwards."""

    def __init__(self, bench, source, vip, family, seconds, *flags, rate=400):
        self.bench, self.result, self.error = bench, None, None
        self.args = (source, vip, family, "-d", seconds, "-r", rate, "-w", 64, "-t", 2500) + flags
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        try:
            self.result = self.bench.connect_tool(*self.args, timeout=120)
        except Exception as e:
            self.error = e

    def running(self):
        return self.thread.is_alive()

    def tally(self):
        self.thread.join()
        if self.error:
            raise self.error
        return self.result[0]


def wrong(tally, family, allowed):
    names = {"%s %s" % (topology.namespace_of(e.split(":")[0]),
                        join(addr(e.split(":")[0], family), int((e.split(":") + ["8080"])[1]))) for e in allowed}
    return {k: v for k, v in tally.items() if k not in names}
