"""A daemon that follows the fake API server of tests/, for benches of changes.

The server lives in a thread of the bench and does constant work per event; scripts/tools/genwatch.c
notes when each of the kernel's transactions ended.
"""

import asyncio
import atexit
import contextlib
import os
import re
import subprocess
import sys
import threading
import time

import benchlib as bench

sys.path.insert(0, os.path.join(bench.TOP, "tests/support"))
import fake_apiserver  # noqa: E402

KUBECONFIG = """apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "http://127.0.0.1:%d"}}]
users: [{name: u, user: {}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
current-context: c
"""


class Output(fake_apiserver.Output):
    """The same, and when something was last sent."""

    sent_ns = 0

    async def write(self, data):
        Output.sent_ns = time.monotonic_ns()
        await super().write(data)


class Server:
    """The fake API server in a thread, with these objects and a Node and a ServiceCIDR."""

    def __init__(self, objects):
        fake_apiserver.Output = Output
        argv, sys.argv = sys.argv, ["fake_apiserver", "--no-gzip"]
        options = fake_apiserver.arguments()
        sys.argv = argv
        self.loop = asyncio.new_event_loop()
        self.fake = fake_apiserver.Server(options)
        self.fake.put(bench.node_object())
        self.fake.put(bench.service_cidr_object())
        for item in objects:
            self.fake.put(item)
        self.fake.history = {name: fake_apiserver.deque(maxlen=1000) for name in fake_apiserver.RESOURCES}
        started = threading.Event()
        threading.Thread(target=self._run, args=(started,), daemon=True).start()
        started.wait()

    def _run(self, started):
        asyncio.set_event_loop(self.loop)
        listener = self.loop.run_until_complete(asyncio.start_server(self.fake.client, "127.0.0.1", 0, limit=1 << 20))
        self.port = listener.sockets[0].getsockname()[1]
        started.set()
        self.loop.run_forever()

    def put(self, item):
        """Returns when it was handed over; it is sent a little later."""
        start = time.monotonic_ns()
        self.loop.call_soon_threadsafe(self.fake.put, item)
        return start

    def delete(self, kind, namespace, name):
        self.loop.call_soon_threadsafe(self.fake.delete, kind, namespace, name)

    @staticmethod
    def last_sent():
        return Output.sent_ns

    def warm(self):
        """Has the answers to lists ready, as a real server's watch cache."""
        for resource in ("services", "endpointslices"):
            for item in self.fake.items[resource].values():
                item.event("ADDED", fake_apiserver.PROTOBUF)

    def stop(self):
        self.loop.call_soon_threadsafe(self.loop.stop)


class Lines(threading.Thread):
    """Collects what a process writes, with the time."""

    def __init__(self, stream):
        super().__init__(daemon=True)
        self.stream = stream
        self.lines = []
        self.news = threading.Condition()
        self.start()

    def run(self):
        for line in self.stream:
            with self.news:
                self.lines.append((time.monotonic(), line.rstrip("\n")))
                self.news.notify_all()

    def wait_for(self, pattern, first, timeout):
        """(index, time, match) of the first line from number first on, or None."""
        pattern, at, end = re.compile(pattern), first, time.monotonic() + timeout
        with self.news:
            while True:
                for i in range(at, len(self.lines)):
                    match = pattern.search(self.lines[i][1])
                    if match:
                        return i, self.lines[i][0], match
                at = len(self.lines)
                if not self.news.wait(max(0.0, end - time.monotonic())) and time.monotonic() >= end:
                    return None


class Kernel:
    """What genwatch reports."""

    def __init__(self):
        self.process = subprocess.Popen([bench.tool("genwatch")], stdout=subprocess.PIPE, text=True)
        atexit.register(self.process.kill)
        self.lines = Lines(self.process.stdout)
        if not self.lines.wait_for("ready", 0, 10):
            bench.die("genwatch does not start")

    def mark(self):
        return len(self.lines.lines)

    def next_commit(self, mark, timeout=5):
        """Nanoseconds of the first transaction since mark, or None."""
        found = self.lines.wait_for(r"^gen (\d+)", mark, timeout)
        return int(found[2].group(1)) if found else None

    def since(self, mark):
        """[(nanoseconds, added, deleted, others, [markers])]"""
        rows = []
        for _, line in self.lines.lines[mark:]:
            if line == "overrun":
                bench.die("genwatch lost notifications")
            words = [int(w) for w in line.split()[1:]]
            rows.append((*words[:4], words[4:]))
        return rows


class Daemon:
    def __init__(self, kubeconfig, *flags):
        self.start = time.monotonic()
        self.process = subprocess.Popen(
            bench.vipmap_command("--kubeconfig", kubeconfig, "-v", "2", "--metrics-bind-address", "127.0.0.1:10249",
                                 "--healthz-bind-address", "127.0.0.1:10256", *flags),
            stderr=subprocess.PIPE, text=True)
        atexit.register(self.process.kill)
        self.log = Lines(self.process.stderr)

    def wait_synced(self, timeout):
        """Seconds from the start to the first completed sync of IPv4."""
        found = self.log.wait_for(r"synced IPv4", 0, timeout)
        if not found:
            text = "\n".join(line for _, line in self.log.lines[-20:])
            bench.die(f"vipmap did not sync within {timeout} s\n{text}")
        return found[1] - self.start

    def cpu(self):
        """Seconds it ran, and seconds it was ready to but others ran."""
        with open(f"/proc/{self.process.pid}/schedstat", encoding="ascii") as f:
            ran, waited = f.read().split()[:2]
        return int(ran) / 1e9, int(waited) / 1e9

    def memory(self):
        """(resident, peak) in MB"""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as f:
            values = dict(line.split(":", 1) for line in f)
        return tuple(int(values[k].split()[0]) / 1024 for k in ("VmRSS", "VmHWM"))

    def stop(self):
        self.process.terminate()
        self.process.wait(20)


@contextlib.contextmanager
def awake():
    """Keeps the CPUs from sleeping, at the lowest priority: how long a virtual machine takes to wake up, up to tens of
    milliseconds on a busy host, is not what is measured."""
    def idle_class():
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    spinners = [subprocess.Popen(["sh", "-c", "while :; do :; done"], preexec_fn=idle_class)
                for _ in os.sched_getaffinity(0)]
    try:
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()
