"""serviceCounters: connections made are connections counted, by virtual IP and by endpoint, whatever happens to the rules
in between."""
import atexit
import collections
import http.client
import json
import os
import re
import signal
import tempfile
import threading
import time

from lib import netns
from lib.case import *

NAME = "vipmap_service_connections_total"
NAMES = ("web", "sticky", "local", "none")


def settings(on=True):
    """Flags with a VipmapConfiguration of its own."""
    fd, path = tempfile.mkstemp(prefix="vpkt-counters-")
    os.close(fd)
    atexit.register(os.unlink, path)
    write(path, on)
    return DETECT + ("--vipmap-config", path)


def write(path, on):
    with open(path, "w") as f:
        f.write("apiVersion: vipmap/v1alpha1\nkind: VipmapConfiguration\nserviceCounters: %s\n" % ("true" if on else "false"))


def web(*endpoints):
    return both("web", 1, endpoints or ["pod1", "r1"], kind="LoadBalancer", lb=["lb1"], external=["ext1"], nodeport=30080)


def services(*endpoints):
    return (web(*endpoints) + both("sticky", 2, ["pod1", "r1"], affinity=100)
            + both("local", 3, ["pod1", "r1"], kind="LoadBalancer", lb=["lb3"], etp="Local", nodeport=30083)
            + both("none", 4, []))


def begin(b, objects, flags):
    """With no count of another case."""
    b.stop()
    b.program.cleanup()
    b.start(objects, *flags)


def ask(b, what):
    status, out, err = b.program.run("get", what, "-o", "json")
    b.equal("exit status of get %s; %s" % (what, err), 0, status)
    return [i for i in json.loads(out)["items"] if i.get("service", i["name"] if what == "services" else "") in NAMES]


def by_address(b):
    """{(service, protocol, address): connections}, without those that have none"""
    out = {}
    for item in ask(b, "services"):
        b.equal("sum of %s" % item["name"], sum(item["connectionsByAddress"].values()), item["connections"])
        for address, n in item["connectionsByAddress"].items():
            if n:
                out[item["name"], item["protocol"], address] = n
    return out


def by_endpoint(b):
    return {(i["service"], i["protocol"], i["address"]): i["connections"] for i in ask(b, "endpoints") if i.get("connections")}


def metrics(b):
    """The same as by_address(), from the metrics server."""
    with netns.inside(b.world.name["node"]):
        c = http.client.HTTPConnection("127.0.0.1", 10249, timeout=10)
        c.connect()
    c.request("GET", "/metrics")
    text = c.getresponse().read().decode()
    c.close()
    found = {}
    for labels, n in re.findall(NAME + r"\{([^}]*)\} (\d+)", text):
        one = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        b.equal("labels", ["namespace", "port", "service", "vip"], sorted(one))
        if one["service"] in NAMES:
            found[one["service"], {"t": "tcp", "u": "udp"}[one["port"][0]], one["vip"]] = int(n)
    b.equal("left out", "0", re.search(r"^vipmap_service_connections_left_out (\d+)$", text, re.M).group(1))
    return found


class Made:
    """Connections that were made, as they ought to be counted."""

    def __init__(self, b):
        self.b, self.vips, self.endpoints = b, collections.Counter(), collections.Counter()

    def connect(self, name, source, destination, family, proto, n, counted=True):
        results = self.b.probe(source, destination, family, proto, count=n)
        for r in results:
            self.b.equal("%s %s %s: %s" % (source, destination, proto, r), "reached", r.kind)
            if counted:
                self.endpoints[name, proto, r.local] += 1
        target = destination.rpartition(":")[0]
        self.vips[name, proto, "nodePort" if target == "node" else addr(target, family)] += n

    def round(self, n=3):
        for family in (4, 6):
            for proto in ("tcp", "udp"):
                self.connect("web", "client", "svc1:80", family, proto, n)
                self.connect("web", "pod2", "svc1:80", family, proto, n + 1)
                self.connect("web", "host", "svc1:80", family, proto, 1)
                self.connect("web", "client", "lb1:80", family, proto, n)
                self.connect("web", "client", "ext1:80", family, proto, 2)
                self.connect("web", "client", "node:30080", family, proto, n)
                self.connect("sticky", "client", "svc2:80", family, proto, n, counted=False)
                self.connect("local", "client", "lb3:80", family, proto, n)
                self.connect("local", "pod2", "lb3:80", family, proto, 2)
                self.connect("local", "client", "node:30083", family, proto, 2)

    def check(self, when):
        for source, what in ((by_address, "get services"), (metrics, "metrics")):
            self.b.equal("%s, %s" % (what, when), dict(self.vips), source(self.b))
        self.b.equal("get endpoints, " + when, dict(self.endpoints), by_endpoint(self.b))


@case("connections made are connections counted", "BEY-5")
def all_kinds(b):
    begin(b, services(), settings())
    made = Made(b)
    made.check("none made")
    made.round()
    made.check("after a round")
    status, out, err = b.program.run("get", "services", "-o", "wide")
    b.true("CONNECTIONS in a wide table: " + out + err, status == 0 and "CONNECTIONS" in out)


@case("refused connections are counted at the virtual IP", "BEY-5")
def refused(b):
    begin(b, services(), settings())
    b.expect("client", "svc4:80", 4, "tcp", REFUSED, count=5)
    found = by_address(b)
    b.true("refused ones of %s" % found, found.get(("none", "tcp", addr("svc4", 4)), 0) >= 5)
    b.equal("endpoints", {}, by_endpoint(b))


@case("counts outlive endpoints that come and go", "BEY-5")
def endpoints_change(b):
    begin(b, services(), settings())
    made = Made(b)
    made.round()
    for endpoints in (["pod1", "r1", "r2", "r3"], ["r1", "r2", "r3"], ["r3", "r2"], []):
        b.apply(services(*endpoints) if endpoints else services("r2"))
        for key in list(made.endpoints):
            if key[0] == "web" and not any(addr(e, f) in key[2] for e in endpoints or ["r2"] for f in (4, 6)):
                del made.endpoints[key]  # gone with its endpoint
        made.check("with " + " ".join(endpoints))
        made.round(2)
        made.check("and another round with " + " ".join(endpoints))


@case("counts outlive the program", "BEY-5 RUN-6")
def restarts(b):
    flags = settings()
    begin(b, services(), flags)
    made = Made(b)
    made.round()
    for how in (signal.SIGTERM, signal.SIGKILL):
        b.stop(how)
        made.round(1)  # rules stay in force, and count
        b.start(services(), *flags)
        made.check("after %s" % how)
    b.program.process.send_signal(signal.SIGHUP)
    b.hears("configuration read again: nothing has changed")
    made.check("after a reload")


@case("turned on and off by a reload", "BEY-5 CFG-3")
def reloads(b):
    flags = settings(False)
    begin(b, services(), flags)
    b.expect("client", "svc1:80", 4, "tcp", reach("pod1", "r1"))
    b.true("nothing is counted", all("connections" not in i for i in ask(b, "services") + ask(b, "endpoints")))
    for turn in range(2):
        write(flags[-1], True)
        b.program.process.send_signal(signal.SIGHUP)
        b.until("counters in the table", True, lambda: "counter" in b.in_node("nft", "list", "map", "ip6", "vipmap", "service-ips"))
        made = Made(b)
        made.round(1)
        made.check("turn %d" % turn)
        write(flags[-1], False)
        b.program.process.send_signal(signal.SIGHUP)
        b.until("no counters in the table", False, lambda: "counter" in b.in_node("nft", "list", "table", "ip6", "vipmap"))
        b.expect("client", "svc1:80", 4, "tcp", reach("pod1", "r1"))
    b.true("nothing is counted", all("connections" not in i for i in ask(b, "services")))


@case("a foreign flush loses no count that was seen", "BEY-5 RUN-5")
def flushed(b):
    flags = settings()
    b.stop()
    b.program.cleanup()
    b.program.write(base() + web())
    status, text, err = b.program.run(*b.program.argv(flags)[1:], "--dry-run")
    b.equal("exit status of --dry-run; " + err, 0, status)
    b.nft(text)
    b.start(web(), *flags)
    made = Made(b)
    for turn in range(2):  # a table that was made without an owner has none, and is open to others
        made.connect("web", "client", "svc1:80", 4, "tcp", 7)
        made.connect("web", "client", "node:30080", 4, "udp", 4)
        made.check("before the table is deleted")
        b.in_node("nft", "delete", "table", "ip", "vipmap")
        b.until("table", True, lambda: "service-ips" in b.in_node("nft", "list", "ruleset"))
        made.connect("web", "client", "svc1:80", 4, "tcp", 3)
        made.check("after it was mended")
        if "flags owner" in b.in_node("nft", "list", "table", "ip", "vipmap"):
            break  # the new one is ours alone


@case("counts under load, while endpoints come and go, never go back", "BEY-5")
def under_load(b):
    begin(b, services(), settings())
    seen, stop, errors = [0], threading.Event(), []
    key = ("web", "tcp", addr("svc1", 4))

    def watch():
        while not stop.wait(0.05):
            n = metrics(b).get(key, 0)
            if n < seen[-1]:
                errors.append("%d after %d" % (n, seen[-1]))
            seen.append(n)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    done = 0
    deadline = time.monotonic() + 4
    turn = 0
    while time.monotonic() < deadline:
        b.apply(services(*(["pod1", "r1", "r2"], ["pod1", "r1"])[turn % 2]))
        turn += 1
        done += len([r for r in b.probe("client", "svc1:80", 4, "tcp", count=20) if r.kind == "reached"])
    stop.set()
    watcher.join()
    b.equal("counts that went back", [], errors)
    got = by_address(b)[key]
    b.true("%d of %d connections counted in %d changes" % (got, done, turn), done * 0.99 <= got <= done)

