"""monitor: what changes, as it happens, from a daemon that follows an API server."""
import json
import re
import select
import signal
import socket
import subprocess
import threading
import time

from lib.apiserver import api
from lib.case import *
from lib.program import VIPMAP

CLOCK = r"\d\d:\d\d:\d\d\.\d\d\d  "
COMMIT = r"   \d+ elements?(?: for \d+ service ports)?, in the kernel after (\d+\.\d) ms$"


class Monitor:
    """The command; lines as they come."""

    def __init__(self, b, *argv):
        self.b, self.lines, self.at = b, [], 0
        self.process = subprocess.Popen([VIPMAP, "monitor", *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                        preexec_fn=b.program.enter)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def wait(self, what, matches, seconds=10):
        """The next line, of those that have not been looked at, for which matches() is true."""
        patience = probe.Patience(seconds)
        while True:
            while self.at < len(self.lines):
                self.at += 1
                m = matches(self.lines[self.at - 1])
                if m:
                    return m
            if patience.over():
                self.b.fail(what, "a line", "\n".join(self.lines[-30:]) + "; it %s" % (
                    "runs" if self.process.poll() is None else self.finish()))
            time.sleep(0.01)

    def line(self, pattern, **more):
        return self.wait(pattern, lambda line: re.search("^" + CLOCK + pattern, line), **more)

    def end(self, how=signal.SIGINT):
        self.process.send_signal(how)
        return self.finish()

    def finish(self):
        """(exit status, stderr)"""
        try:
            status = self.process.wait(10)
        finally:
            self.process.kill()
        self.reader.join(5)
        return status, self.process.stderr.read()


def web(endpoints, **more):
    return both("web", 11, endpoints, families=(4,), protos=("TCP",), **more)


@case("monitor tells what changes, in order, and when it is in the kernel", "")
def story(b):
    with api(b) as server:
        b.start(web(["pod1", "r1", "r2"]))
        m = Monitor(b)
        m.line(r"Node node1 +vipmap \S+: what changes follows$")
        # an endpoint that ends, one that comes, and one that fails
        b.apply(web(["pod1", "r1", terminating("r2")]))
        took = m.line(r"default/web:t80 +endpoints 3 -> 2 \(-10\.180\.1\.22:8080 terminating\)" + COMMIT).group(1)
        b.true("it took %s ms" % took, 0 < float(took) < 1000 * probe.SLOW)
        b.apply(web(["pod1", unready("r1"), "r3"]))
        m.line(r"default/web:t80 +endpoints 2 \(-10\.180\.1\.21:8080 not ready, \+10\.180\.1\.23:8080\)" + COMMIT)
        b.apply(web(["pod1"]))
        m.line(r"default/web:t80 +endpoints 2 -> 1 \(-10\.180\.1\.23:8080 gone\)" + COMMIT)
        b.apply(web([]))
        m.line(r"default/web:t80 +endpoints 1 -> 0 \(-10\.180\.0\.11:8080 gone\); connections are refused" + COMMIT)
        # Services and their addresses
        b.apply(web(["pod1"], external=["ext9"], nodeport=30080, kind="NodePort"))
        m.line(r"default/web:t80 +\+node port 30080, \+198\.51\.100\.9:80; endpoints 0; connections are refused" + COMMIT)
        m.line(r"default/web:t80 +endpoints 0 -> 1 \(\+10\.180\.0\.11:8080\)" + COMMIT)
        b.apply(web(["pod1"]) + both("six", 12, ["pod1"], families=(6,), protos=("TCP",)))
        m.line(r"default/six:t80 \(IPv6\) +added \+\S+:80; endpoints 0; connections are refused" + COMMIT)
        m.line(r"default/six:t80 \(IPv6\) +endpoints 0 -> 1 " + r"\(\+\S+:8080\)" + COMMIT)
        b.apply(web(["pod1"]))
        m.line(r"default/six:t80 \(IPv6\) +removed" + COMMIT)
        # the Node
        node_ = next(o for o in server.objects.values() if o["kind"] == "Node")
        server.put({**node_, "metadata": {**node_["metadata"], "labels": {"topology.kubernetes.io/zone": "zone-b"}}})
        m.line(r"Node node1 +zone none -> zone-b$")
        b.world.ip("node", "addr add 10.99.0.1/32 dev lo")
        try:
            m.line(r"Node node1 +localAddresses \S+ -> \S*10\.99\.0\.1\S*$")
        finally:
            b.world.ip("node", "addr del 10.99.0.1/32 dev lo")
        # the API server
        server.kill()
        m.line(r"warning +API server unreachable: .*; rules stay as they are$")
        server.start()
        m.line(r"info +API server reachable again after ", seconds=30)
        b.equal("Ctrl-C", (0, ""), m.end())


@case("monitor gives data, field by field", "")
def data(b):
    with api(b) as server:
        b.start(web(["pod1", "r1"]))
        m = Monitor(b, "-o", "json")

        def event(kind, **more):
            return m.wait("%s %s" % (kind, more), lambda line: (lambda e: e if e["type"] == kind and all(
                e.get(k) == v for k, v in more.items()) else None)(json.loads(line)), seconds=30)
        begin = event("begin")
        b.equal("begin", {"time", "type", "version", "node"}, set(begin))
        b.true("time: " + begin["time"], re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$", begin["time"]))
        b.apply(web(["pod1", "r2"]))
        e = event("servicePort", service="default/web:t80")
        b.equal("a service port", {
            "type": "servicePort", "service": "default/web:t80", "protocol": "tcp", "family": "IPv4", "change": "changed",
            "addressesAdded": [], "addressesRemoved": [], "endpointsBefore": 2, "endpoints": 2, "refused": False,
            "added": [{"address": "10.180.1.22:8080"}],
            "removed": [{"address": "10.180.1.21:8080", "reason": "gone"}]},
            {k: v for k, v in e.items() if k not in ("time", "servicePorts", "elements", "milliseconds")})
        b.true("the commit: %s" % e, e["servicePorts"] >= 1 and e["elements"] >= 2 and 0 < e["milliseconds"] < 10000)
        b.nft("add table ip other")  # nobody's business
        if not json.loads(b.program.run("status", "-o", "json")[1])["families"][0]["tableOwned"]:
            b.nft("delete element ip vipmap service-ips { 172.30.0.11 . tcp . 80 }")
            e = event("sync", family="IPv4")
            b.equal("a repair", (True, 0), (e["repair"], e["servicePortsNotTold"]))
        b.nft("delete table ip other")
        server.kill()
        e = event("apiServer")
        b.equal("API server", ("warning", True), (e["severity"], e["message"].startswith("API server unreachable: ")))
        server.start()
        e = event("apiServer")
        b.equal("again", ("info", True), (e["severity"], e["message"].startswith("API server reachable again after ")))
        m.end()


def is_configuration(line, severity, text):
    e = json.loads(line)
    return e["type"] == "configuration" and e["severity"] == severity and e["message"].startswith(text)


@case("monitor tells of another configuration", "CFG-3")
def configuration(b):
    text = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nclusterCIDR: %s\n"
    path = b.program.file("monitored.yaml", text % "10.180.0.0/16")
    b.start(web(["pod1"]), "--config", path)
    m = Monitor(b, "-o", "json")
    m.wait("begin", lambda line: json.loads(line)["type"] == "begin")
    with open(path, "w") as f:
        f.write(text % "10.181.0.0/16")
    b.program.process.send_signal(signal.SIGHUP)
    m.wait("changed", lambda line: is_configuration(line, "info", "configuration changed: clusterCIDR 10.180.0.0/16 -> 10.181"))
    with open(path, "w") as f:
        f.write(text % "nonsense")
    b.program.process.send_signal(signal.SIGHUP)
    m.wait("refused", lambda line: is_configuration(line, "error", "configuration stays as it was: "))
    m.end()


@case("monitor filters, ends with the daemon, and says how", "")
def ends(b):
    b.start(web(["pod1"]))
    m = Monitor(b, "shop")
    m.line(r"Node node1 ")
    b.apply(web(["r1"]) + both("shop", 12, ["pod1"], families=(4,), protos=("TCP",)))
    m.line(r"default/shop:t80 +added ")
    b.equal("others", [], [line for line in m.lines if "default/web" in line])
    b.stop()
    status, err = m.finish()
    b.equal("the daemon ends; " + err, 4, status)
    b.true(err, err == "vipmap: monitor: the running vipmap has ended\n")
    b.equal("nobody runs", 4, b.program.run("monitor")[0])
    b.equal("usage", 2, b.program.run("monitor", "-o", "yaml")[0])


def connect(b):
    with netns.inside(b.world.name["node"]):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(5)
        s.connect("\0vipmap")
    s.sendall(b"GET /v1/monitor HTTP/1.1\r\nHost: x\r\n\r\n")
    return s


def many(n, *endpoints):
    return [o for i in range(n) for o in both("s%d" % i, 256 + i, list(endpoints), protos=("TCP",), families=(4,))]


def drain(s, seconds=3.0, begun=b""):
    """All that comes, until nothing comes for a while."""
    out = begun
    while select.select([s], [], [], seconds)[0]:
        chunk = s.recv(1 << 16)
        if not chunk:
            break
        out += chunk
    return [json.loads(line) for line in out.splitlines()]


@case("a listener that is slow loses lines and is told how many; syncs do not wait for it", "")
def slow(b):
    n, rounds = 450, 8
    b.start(many(n, "pod1"))
    alone = [b.apply(many(n, e)) for e in ("r1", "pod1")]
    quick = Monitor(b, "-o", "json")
    quick.wait("begin", lambda line: json.loads(line)["type"] == "begin")
    lazy = connect(b)
    first = lazy.recv(4096)
    beside = []
    for i in range(rounds):
        beside.append(b.apply(many(n, "r1" if i % 2 else "r2")))
        first += lazy.recv(50000)  # a quarter of it: it is slow, and not gone
    print("       a change of %d service ports: %.0f ms alone, %.0f ms beside listeners" % (
        n, min(alone) * 1000, min(beside) * 1000), flush=True)
    b.true("changes take %s ms alone, and %s beside a listener that is slow" % (
        [round(t * 1000) for t in alone], [round(t * 1000) for t in beside]), min(beside) < max(alone) * 2 + 0.2)
    got = drain(lazy, begun=first.partition(b"\r\n\r\n")[2])

    def lost(lines):
        return sum(e["lines"] for e in lines if e["type"] == "lost")

    def all_(lines):
        return len([e for e in lines if e["type"] != "lost"]) + lost(lines)
    b.true("it lost some: %d of %d" % (lost(got), all_(got)), 0 < lost(got) < all_(got))
    b.true("there were as many: %d" % all_(got), all_(got) > n * rounds)
    b.until("told and lost are all (%d lost)" % lost(got), all_(got),
            lambda: all_([json.loads(line) for line in list(quick.lines)]), seconds=10)
    quick.end()
    lazy.close()


@case("listeners are few, outlast others' questions, and one that never reads is left", "")
def bounded(b):
    b.start(many(600, "pod1"))
    listeners = [connect(b) for _ in range(4)]
    for s in listeners:
        b.true("begin", b'"begin"' in s.recv(4096))
    fifth = connect(b)
    answer = b""
    while chunk := fifth.recv(4096):
        answer += chunk
    b.true("a fifth: %r" % answer, answer.startswith(b"HTTP/1.1 503") and b"others listen already" in answer)
    crowd = []
    for _ in range(40):  # that say nothing
        with netns.inside(b.world.name["node"]):
            s = socket.socket(socket.AF_UNIX)
            s.connect("\0vipmap")
        crowd.append(s)
    b.apply(many(600, "r1"))
    for s in listeners[1:]:
        got = drain(s, 1.0)
        b.true("still heard: %d" % len(got), len([e for e in got if e["type"] == "servicePort"]) >= 500)
        b.true("what is too much is counted", [e for e in got if e["type"] == "sync" and e["servicePortsNotTold"] >= 100])
    # the first has not read: its queue is full after a while, and ten seconds later it is left
    for i in range(8):
        b.apply(many(600, "r2" if i % 2 else "r1"))
        for s in listeners[1:]:
            s.settimeout(0)
            try:
                while s.recv(1 << 20):
                    pass
            except BlockingIOError:
                pass

    def is_left():
        with socket.fromfd(listeners[0].fileno(), socket.AF_UNIX, socket.SOCK_STREAM) as s:
            p = select.poll()
            p.register(s, select.POLLHUP)
            return any(what & select.POLLHUP for _, what in p.poll(0))
    b.until("the one that never reads is left", True, is_left, seconds=20)
    for s in listeners + crowd:
        s.close()
    another = connect(b)
    b.true("there is room again", b'"begin"' in another.recv(4096))
    another.close()
    with open("/proc/%d/status" % b.program.process.pid) as f:
        peak = int(re.search(r"VmHWM:\s+(\d+) kB", f.read()).group(1))
    print("       memory at its peak: %d kB" % peak, flush=True)
