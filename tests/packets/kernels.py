"""What is to hold on every kernel, in one world: each kind of address and policy by packets, the ruleset as nft and
the program read it back, ownership or repair, clean-up, and SCTP by its sockets.

scripts/vm-test runs this on other kernels than this machine's. It is no part of a usual run, since the kernel here
may have no SCTP, and the nft of Debian 12 cannot load all that it lists.
"""
import difflib
import json
import os
import re
import signal
import socket
import threading

from lib.case import *
from lib import netns

KERNEL = tuple(int(n) for n in re.match(r"(\d+)\.(\d+)", os.uname().release).groups())
OWNED = KERNEL >= (6, 9)  # table flags owner and persist
RANGES = ["203.0.113.0/25", "2001:db8:113::/49"]
SCTP = ("SCTP",)
IPPROTO_SCTP = 132


def everywhere(name, n, endpoints, **more):
    """A Service with every kind of address."""
    return both(name, n, endpoints, kind="LoadBalancer", lb=["lb%d" % n], external=["ext%d" % n],
                nodeport=30100 + n, **more)


OBJECTS = (
    everywhere("web", 11, ["pod1", "r1"])
    + everywhere("local", 12, ["pod1", "r1"], etp="Local")
    + both("internal", 13, ["pod1", "r1"], itp="Local")
    + everywhere("ranges", 14, ["pod1"], ranges=RANGES)
    + everywhere("sticky", 15, ["pod1", "pod2", "r1", "r2"], affinity=600)
    + everywhere("sticky-local", 16, ["pod1", "r1"], affinity=600, etp="Local")
    + everywhere("none", 17, [])
    + everywhere("far", 18, ["r1"], etp="Local")
    + both("self", 19, ["pod1"])
    + everywhere("sctp", 20, ["pod1", "r1"], protos=SCTP)
)
BOTH = ("pod1", "r1")

ROWS = [
    Row("ClusterIP from outside", "SVC-5 MASQ-2", "client", "svc11:80", reach(*BOTH, src="node")),
    Row("ClusterIP from a pod", "MASQ-2", "pod2", "svc11:80", reach(*BOTH, src="kept")),
    Row("ClusterIP from a host process", "VER-8", "node", "svc11:80", reach(*BOTH, src="node")),
    Row("external IP", "MASQ-4", "client", "ext11:80", reach(*BOTH, src="node")),
    Row("load balancer address", "MASQ-4", "client", "lb11:80", reach(*BOTH, src="node")),
    Row("node port", "NP-1 MASQ-4", "client", "node:30111", reach(*BOTH, src="node")),
    Row("external policy Local", "POL-2", "client", "lb12:80", reach("pod1", src="kept")),
    Row("external policy Local, external IP", "POL-2", "client", "ext12:80", reach("pod1", src="kept"), slim=True),
    Row("external policy Local, node port", "POL-2", "client", "node:30112", reach("pod1", src="kept")),
    Row("external policy Local, from a pod", "POL-5", "pod2", "lb12:80", reach(*BOTH, src="kept"), slim=True),
    Row("external policy Local, from a host process", "POL-6", "node", "lb12:80", reach(*BOTH, src="node"), slim=True),
    Row("internal policy Local", "POL-1", "pod2", "svc13:80", reach("pod1", src="kept"), slim=True),
    Row("source range, inside", "LB-4", "client2", "lb14:80", reach("pod1", src="node")),
    Row("source range, outside", "LB-4 VER-1", "client", "lb14:80", DROPPED),
    Row("no endpoint", "VER-2", "client", "svc17:80", REFUSED),
    Row("no endpoint, load balancer address", "VER-2", "client", "lb17:80", REFUSED, slim=True),
    Row("no endpoint, node port", "VER-2", "client", "node:30117", REFUSED),
    Row("no endpoint, from a host process", "VER-17", "node", "svc17:80", REFUSED),
    Row("no local endpoint", "VER-3", "client", "lb18:80", DROPPED, slim=True),
    Row("undefined port", "VER-5", "client", "svc11:81", REFUSED, slim=True),
    Row("unallocated address", "VER-6", "client", "free1:80", DROPPED, slim=True),
    Row("undefined port of a load balancer address", "VER-7", "client", "lb11:81", UNTOUCHED, slim=True),
    Row("hairpin", "MASQ-5", "pod1", "svc19:80", reach("pod1", src="node")),
]
group("on this kernel", OBJECTS, ROWS)

BEYOND = """apiVersion: vipmap/v1alpha1
kind: VipmapConfiguration
noEndpoints: Pass
answerPing: true
noMasqueradeCIDRs: [192.168.1.0/24, 10.180.0.0/16, 10.180.0.0/24, 'fd00:1::/64', 'fd00:180::/48']
"""


def beyond(b):
    """Flags with all that goes beyond kube-proxy and concerns single packets."""
    return DETECT + ("--vipmap-config", b.program.file("vipmap.yaml", BEYOND))


PASSED = [
    Row("no endpoint, load balancer address", "BEY-2", "client", "lb17:80", UNTOUCHED),
    Row("no endpoint, external IP", "BEY-2", "client", "ext17:80", UNTOUCHED, slim=True),
    Row("no endpoint, ClusterIP", "BEY-2 VER-2", "client", "svc17:80", REFUSED),
    Row("no endpoint, node port", "BEY-2 VER-2", "client", "node:30117", REFUSED, slim=True),
]
KEPT = [
    Row("ClusterIP from outside, both in the ranges", "BEY-3", "client", "svc11:80", reach(*BOTH, src="kept")),
    Row("load balancer address, both in the ranges", "BEY-3", "client", "lb11:80", reach(*BOTH, src="kept")),
    Row("node port, both in the ranges", "BEY-3", "client", "node:30111", reach(*BOTH, src="kept"), slim=True),
    Row("ClusterIP from outside of the ranges", "BEY-3", "client2", "svc11:80", reach(*BOTH, src="node")),
    Row("hairpin, in the ranges", "BEY-3 MASQ-5", "pod1", "svc19:80", reach("pod1", src="node")),
]


@case("beyond kube-proxy: packets", "BEY-2 BEY-3", both_families, ("tcp", "udp"))
def beyond_packets(b, family, proto):
    b.once(OBJECTS, *beyond(b))
    judges = [Judge(b, row, family, proto) for row in PASSED + KEPT if (family, proto) in row.pairs]
    probe.run([p for j in judges for p in j.probes])
    for j in judges:
        j.judge()


@case("beyond kube-proxy: echo requests", "BEY-4", both_families)
def beyond_ping(b, family):
    b.once(OBJECTS, *beyond(b))
    for source in ("client", "pod2", "host"):
        for target, want in (("svc11", "vip"), ("lb11", "vip"), ("ext11", "vip"), ("lb17", "world")):
            b.equal("%s pings %s" % (source, target), want, b.ping(source, target, family))
    b.equal("a ClusterIP without endpoints", "refused", b.ping("client", "svc17", family))


@case("beyond kube-proxy: a restart reads it back, and off is as it never was", "BEY-2 BEY-3 BEY-4 RUN-7")
def beyond_restart(b):
    b.once(OBJECTS)
    plain = b.kernel_objects()
    b.once(OBJECTS, *beyond(b))
    before = listed(b)
    b.true("sets", "set no-masquerade-cidrs" in before and "set ping-ips" in before)
    status, _, err = b.program.run(*b.program.argv(beyond(b))[1:], "--once", "-v", "2", timeout=120)
    b.equal("status: %s" % err, 0, status)
    b.equal("written by --once", [("IPv4", "0", "0"), ("IPv6", "0", "0")],
            re.findall(r"synced (IPv[46]): .*?(\d+) elements added, (\d+) deleted", err))
    same(b, "after --once", before)
    b.once(OBJECTS)
    b.equal("without it", plain, b.kernel_objects())


@case("a client keeps its endpoint", "AFF-1", both_families, ("tcp", "udp"))
def affinity(b, family, proto):
    b.once(OBJECTS)
    for address in ("svc15:80", "node:30115"):
        chosen = set()
        for client in ("many%d" % i for i in range(1, 9)):
            results = b.probe(client, address, family, proto, count=6)
            b.equal("%s to %s" % (client, address), ["reached"] * 6, [r.kind for r in results])
            b.equal("endpoints of " + client, 1, len({r.local for r in results}))
            chosen.add(results[0].local)
        b.true("endpoints of 8 clients: %s" % chosen, len(chosen) > 1, "more than one")  # chance of one: 1/16384
    results = b.probe("many1", "lb16:80", family, proto, count=6)
    b.equal("the local endpoint", {join(addr("pod1", family), 8080)}, {r.local for r in results})


@case("an endpoint that goes is forgotten, by clients and by conntrack", "AFF-6 CT-1", both_families)
def forgotten(b, family):
    def objects(endpoints):
        return both("going", 41, endpoints) + both("going-sticky", 42, endpoints, affinity=600)

    b.start(objects(["pod1"]))
    flow = b.connection("client", "svc41:80", family, "udp")
    b.equal("the flow", "pod1", flow.first.split()[0])
    b.equal("the client", ["pod1"], [r.namespace for r in b.probe("client", "svc42:80", family, "tcp")])
    b.apply(objects(["r1"]))
    b.until("the flow", "remote", lambda: flow.ask().split()[0])
    b.equal("the client", ["remote"], [r.namespace for r in b.probe("client", "svc42:80", family, "tcp")])
    flow.close()
    b.stop()


def listed(b):
    """With handles: what is written again gets another. Who owns a table, and until when, changes by itself."""
    text = b.in_node("nft", "-a", "list", "ruleset")
    return re.sub(r" progname \S+|\tflags (owner|persist|owner,persist|)\n| expires \w+", "", text)


def same(b, what, before):
    lines = difflib.unified_diff(before.splitlines(), listed(b).splitlines(), "before", "now", n=0, lineterm="")
    b.equal(what, "", "\n".join(list(lines)[:20]))


WORDS = [
    "vmap @service-ips", "vmap @service-nodeports", "ip saddr @ranges/default/ranges goto firewalled-sources",
    "ip6 saddr @ranges/default/ranges goto firewalled-sources", "vmap @firewalled", "goto firewall/default/ranges", "numgen random mod 2 map @endpoints",
    "map @nodeport-endpoints", "map @local-endpoints", "vmap @sticky-endpoints", "update @affinity/default/sticky/",
    "ip saddr map @affinity/default/sticky/", "dnat to 10.180.0.11:8080", "dnat to [fd00:180::11]:8080",
    "fib saddr type local", "ct status dnat", "@hairpin", "masquerade fully-random", "reject with tcp reset",
    "@cluster-ips goto reject-chain", "@service-cidrs fib daddr type != local drop", "type nat hook prerouting priority dstnat",
    "type nat hook output priority", "type nat hook postrouting priority srcnat", "meta l4proto sctp dnat",
]


@case("nft lists the whole ruleset", "RUN-1")
def nft_lists(b):
    b.once(OBJECTS + both("sticky-sctp", 21, ["pod1"], protos=SCTP, affinity=600))
    text = re.sub(r"\s+", " ", listed(b))
    b.equal("missing in what nft lists", [], [w for w in WORDS if w not in text])
    objects = b.kernel_objects()
    b.true("objects: %d" % len(objects), len(objects) > 100, "more than 100")


@case("nft takes the text of a dry run", "RUN-1")
def nft_takes(b):
    b.program.write(base() + OBJECTS)
    status, text, err = b.program.run(*b.program.argv(DETECT)[1:], "--dry-run")
    b.equal("status of --dry-run: %s" % err, 0, status)
    netns.run("nft", "-c", "-f", "-", ns=b.world.name["world"], stdin=text)


def once_again(b, *flags):
    """Reads everything back; what it says that it wrote."""
    status, _, err = b.program.run(*b.program.argv(DETECT + flags)[1:], "--once", "-v", "2", timeout=120)
    b.equal("status: %s" % err, 0, status)
    return re.findall(r"synced (IPv[46]): .*?(\d+) elements added, (\d+) deleted", err)


@case("a restart reads back what is there and writes nothing", "RUN-7")
def restart(b):
    nothing = [("IPv4", "0", "0"), ("IPv6", "0", "0")]
    b.start(OBJECTS)
    before = listed(b)
    b.stop()
    same(b, "after the end", before)
    b.equal("written by --once", nothing, once_again(b))
    same(b, "after --once", before)
    b.start(OBJECTS)
    b.stop(signal.SIGKILL)
    before = listed(b)
    b.true("tables after SIGKILL", "table ip vipmap" in before and "table ip6 vipmap" in before)
    b.equal("written after SIGKILL", nothing, once_again(b))
    same(b, "after SIGKILL and --once", before)


def counts(b):
    """{address: connections} of a Service"""
    status, out, err = b.program.run("get", "services", "default/web:t80", "-o", "json")
    b.equal("status: %s" % err, 0, status)
    return json.loads(out)["items"][0].get("connectionsByAddress")


@case("connections are counted, also by the next program", "BEY-5")
def counters(b):
    flags = ("--vipmap-config", b.program.file("vipmap.yaml", "apiVersion: vipmap/v1alpha1\nkind: VipmapConfiguration\n"
                                               "serviceCounters: true\n"))
    b.start(OBJECTS, *DETECT, *flags)
    b.true("warnings", "serviceCounters: " not in b.program.log, "none")
    for family in (4, 6):
        for address, n in (("svc11:80", 4), ("ext11:80", 2), ("node:30111", 3)):
            b.equal("reached", n, len([r for r in b.probe("client", address, family, "tcp", count=n) if r.kind == "reached"]))
    want = {addr("svc11", 4): 4, addr("svc11", 6): 4, addr("ext11", 4): 2, addr("ext11", 6): 2,
            addr("lb11", 4): 0, addr("lb11", 6): 0, "nodePort": 6}
    b.equal("counts", want, counts(b))
    b.stop(signal.SIGKILL)
    b.equal("written after SIGKILL", [("IPv4", "0", "0"), ("IPv6", "0", "0")], once_again(b, *flags))
    b.start(everywhere("web", 11, ["pod1"]), *DETECT, *flags)
    b.equal("counts after a change", want, counts(b))
    b.stop()


def refused_by_nft(b, *argv):
    try:
        b.in_node("nft", *argv)
    except netns.CommandFailed:
        return True
    return False


if OWNED:
    @case("the tables are ours alone, and outlive the program", "RUN-8")
    def owner(b):
        b.start(OBJECTS)
        before = listed(b)
        for family in ("ip", "ip6"):
            b.true("nft delete table " + family, refused_by_nft(b, "delete", "table", family, "vipmap"), "refused")
        b.nft("table ip foreign { chain c { accept; }; }")
        refused_by_nft(b, "flush", "ruleset")  # does what it may
        b.true("a foreign table", "foreign" not in listed(b), "flushed")
        same(b, "after a flush", before)
        b.true("repairs", "changed by somebody else" not in b.program.log, "none")
        b.stop()
else:
    @case("what others delete is repaired", "RUN-8", both_families)
    def repair(b, family):
        b.start(OBJECTS)
        b.in_node("nft", "delete", "table", "ip" if family == 4 else "ip6", "vipmap")
        b.eventually("client", "svc11:80", family, "tcp", reach(*BOTH, src="node"))
        b.hears("changed by somebody else")
        b.in_node("nft", "flush", "ruleset")
        b.eventually("client", "lb11:80", family, "udp", reach(*BOTH, src="node"))
        b.stop()


@case("--cleanup leaves nothing", "RUN-9")
def cleanup(b):
    b.once(OBJECTS)
    b.true("tables", "table ip vipmap" in listed(b) and "table ip6 vipmap" in listed(b))
    b.program.cleanup()
    b.equal("what is left", "", listed(b))


class SctpServer:
    """Says its name and whom it sees, once for each association."""

    def __init__(self, b, name, family):
        self.name = name
        with netns.inside(b.world.name[topology.namespace_of(name)]):
            self.sock = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_STREAM, IPPROTO_SCTP)
        # one address only: the others would be told to the peer, which no translation knows of
        self.sock.bind((addr(name, family), 8080))
        self.sock.listen(64)
        self.sock.settimeout(0.2)
        self.ended = False
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self):
        while not self.ended:
            try:
                peer, address = self.sock.accept()
            except TimeoutError:
                continue
            peer.sendall(("%s %s" % (self.name, address[0])).encode())
            peer.close()

    def close(self):
        self.ended = True
        self.thread.join()
        self.sock.close()


def associate(b, source, destination, family):
    """[endpoint, source that it saw]"""
    target, _, port = destination.rpartition(":")
    with netns.inside(b.world.name[topology.namespace_of(source)]):
        sock = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_STREAM, IPPROTO_SCTP)
    with sock:
        sock.settimeout(10 * probe.SLOW)
        sock.bind((addr(source, family), 0))
        sock.connect((addr(target, family), int(port)))
        return sock.recv(200).decode().split()


@case("SCTP by sockets", "PROTO-1", both_families)
def sctp(b, family):
    b.once(OBJECTS)
    servers = [SctpServer(b, name, family) for name in BOTH]
    try:
        for source, address, kept in (("client", "svc20:80", False), ("pod2", "svc20:80", True),
                                      ("node", "svc20:80", False), ("client", "lb20:80", False),
                                      ("client", "ext20:80", False), ("client", "node:30120", False)):
            seen = [associate(b, source, address, family) for _ in range(28)]  # chance to miss one: 2 / 2^28
            b.equal("endpoints of %s from %s" % (address, source), set(BOTH), {s[0] for s in seen})
            sources = {s[1] for s in seen}
            if kept:
                b.equal("source at %s" % address, {addr(source, family)}, sources)
            else:
                b.true("source at %s: %s" % (address, sources), sources <= b.world.node_addresses[family],
                       "an address of the node")
    finally:
        for server in servers:
            server.close()
