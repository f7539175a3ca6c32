"""What the program does when nobody says anything. It takes its time, so it is a file of its own: those run at the
same time."""
import http.client
import json
import time

from lib.apiserver import api
from lib.case import *
from lib.traffic import Traffic, wrong


def web(endpoints):
    return both("web", 11, endpoints, kind="LoadBalancer", lb=["lb11"], nodeport=30080)


def old():
    return both("old", 12, ["pod1"])


def get(b, path):
    """(status, JSON) of what the program serves to its own node."""
    with netns.inside(b.world.name["node"]):
        c = http.client.HTTPConnection("127.0.0.1", 10256, timeout=30)
        c.connect()
    c.request("GET", path)
    answer = c.getresponse()
    out = answer.status, json.loads(answer.read())
    c.close()
    return out


def connected(b):
    return get(b, "/livez")[1]["apiServer"]["connected"]


@case("a Node that never comes, until it does", "NODE-1 NP-2 HZ-5")
def no_node(b):
    with api(b) as server:
        server.publish([service_cidr()] + web(["r1"]))
        b.program.launch(*DETECT)
        b.hears(" Service: listed")
        b.hears("EndpointSlice: listed")
        began = time.monotonic()
        while time.monotonic() - began < 27:
            b.equal("tables, after %d s" % (time.monotonic() - began), "", b.in_node("nft", "list", "tables"))
            time.sleep(1)
        b.hears("error: Node %s: no addresses after 30 s: going on without" % THIS_NODE, 6)
        for f in both_families:
            b.eventually("client", "svc11:80", f, "tcp", reach("r1"), 2)
            b.expect("client", "lb11:80", f, "tcp", reach("r1"))
            b.expect("client", "svc12:80", f, "tcp", DROPPED)
            # nobody knows which one is the primary address
            for name in ("node", "node2", "nodeworld"):
                b.expect("client", name + ":30080", f, "tcp", reach("r1"))
        b.equal("/livez", 200, get(b, "/livez")[0])
        b.equal("/healthz, of an unknown Node", 503, get(b, "/healthz")[0])
        b.apply(web(["r2"]))
        for f in both_families:
            b.eventually("client", "node2:30080", f, "tcp", UNTOUCHED, 2)
            b.expect("client", "node:30080", f, "tcp", reach("r2"))
        b.equal("/healthz", 200, get(b, "/healthz")[0])


def lose(b, ports=None):
    """Nothing passes between daemon and API server, and nobody is told: on the connections with these ports, or on
    all."""
    which = "tcp %%s { %s } " % ", ".join(ports) if ports else ""
    rules = [(which % ours if ports else "") + "tcp %s 6443 drop" % theirs
             for ours, theirs in (("sport", "dport"), ("dport", "sport"))]
    netns.run("nft", "-f", "-", ns=b.world.name["remote"], stdin="""table inet lose {
        chain in { type filter hook input priority 0; %s; }
        chain out { type filter hook output priority 0; %s; }
    }""" % tuple(rules))


def find(b):
    netns.run("nft", "delete", "table", "inet", "lose", ns=b.world.name["remote"])


def connections(b):
    """The daemon's ports."""
    lines = b.in_node("ss", "-Htn", "state", "established", "dport", "= :6443").splitlines()
    return [line.split()[2].rpartition(":")[2] for line in lines]


@case("connections that are dead without a word", "API-8 VER-15")
def half_open(b):
    """The server is well and can be reached, but not where the daemon listens for it: a firewall forgot the
    connections, say."""
    with api(b) as server:
        b.start(web(["r4", "r1"]) + old())
        b.until("connected", True, lambda: connected(b))
        ports = connections(b)
        b.true("connections: %s" % ports, len(ports) >= 4, "one for each resource")
        held = b.connection("client", "svc11:80", 4)
        running = Traffic(b, "client", "svc11:80", 4, 10)
        lose(b, ports)
        began = time.monotonic()
        try:
            server.put(*web(["r4", "r2"]))
            server.remove(*old())
            time.sleep(2)
            b.equal("health, while nobody can know", True, connected(b))
            b.expect_both("svc11:80", "r4", "r1")
            for f in both_families:
                b.eventually("client", "svc11:80", f, "tcp", reach("r4", "r2"), 32 - (time.monotonic() - began))
                b.eventually("client", "svc12:80", f, "tcp", DROPPED, 3)
            b.hears("warning: Service: watch: .*timed out")
            b.equal("the old connections", [], [p for p in connections(b) if p in ports])
            b.until("connected", True, lambda: connected(b))
            b.apply(web(["r4", "r3"]))
            b.expect_both("svc11:80", "r4", "r3")
        finally:
            find(b)
        b.equal("an established connection", held.first, held.ask())
        b.equal("answers that should not be", {}, wrong(running.tally(), 4, ["r4", "r1"]))


@case("a network that swallows everything for a while", "API-8 HZ-2")
def swallowed(b):
    with api(b) as server:
        b.start(web(["r4", "r1"]) + old())
        lose(b)
        began = time.monotonic()
        try:
            server.put(*web(["r4", "r2"]))
            server.remove(*old())
            b.hears("warning: API server unreachable: .*; rules stay as they are", 45)
            b.equal("health", False, connected(b))
            b.expect_both("svc11:80", "r4", "r1")
            b.expect_both("svc12:80", "pod1")
        finally:
            find(b)
        b.true("it took %.0f s" % (time.monotonic() - began), time.monotonic() - began > 20, "no sooner")
        # all at once: what is known first does not wait for what is known last
        for f in both_families:
            b.eventually("client", "svc11:80", f, "tcp", reach("r4", "r2"), 32)
            b.eventually("client", "svc12:80", f, "tcp", DROPPED, 3)
        b.hears("info: API server reachable again after ")
        b.until("connected", True, lambda: connected(b))
