"""The fast path: established connections through a Service that pass by the forward chains, in a flowtable.

scripts/vm-test runs this. It is no part of a usual run, since the kernel here may have no flowtables. A row in
another table counts what the forward chains see; conntrack tells which connections are handed over.
"""
import difflib
import os
import re
import signal
import socket
import struct
import threading

from lib.case import *
from lib import netns

KERNEL = tuple(int(n) for n in re.match(r"(\d+)\.(\d+)", os.uname().release).groups())
OWNED = KERNEL >= (6, 9)  # table flags owner and persist
ASSURED = 2.5  # seconds after which the kernel takes datagrams for a stream
LINGERS = KERNEL >= (7,)  # a connection that ends stays in the flowtable until nothing has come for its time-out

WATCH = """table inet watch {
	counter forwarded { }
	chain see {
		type filter hook forward priority 0;
		ct status dnat counter name forwarded
	}
}"""


def web(endpoints, **more):
    return both("web", 11, endpoints, kind="LoadBalancer", lb=["lb11"], nodeport=30080, **more)


def settings(b, *interfaces, more=""):
    text = "apiVersion: vipmap/v1alpha1\nkind: VipmapConfiguration\n" + more
    if interfaces:
        text += "fastPath: {interfaces: [%s]}\n" % ", ".join('"%s"' % i for i in interfaces)
    return b.program.file("vipmap.yaml", text)


def start(b, objects, *interfaces, more=""):
    b.start(objects, *DETECT, "--vipmap-config", settings(b, *interfaces, more=more))


def entry(b, flow, family, proto):
    if flow.sock.fileno() >= 0:
        flow.source = flow.sock.getsockname()[0]  # also for when it is closed
    found = [" ".join(words) for words in b.conntrack(family, proto, sport=flow.sport, src=flow.source)]
    return found[0] if found else ""


def is_fast(b, flow, family, proto):
    return "[OFFLOAD]" in entry(b, flow, family, proto)


def talk(flow, seconds):
    until = time.monotonic() + seconds
    said = set()
    while time.monotonic() < until:
        said.add(flow.ask().split()[0])
        time.sleep(0.05)
    return said


def becomes_fast(b, flow, family, proto, seconds=ASSURED + 1):
    until = time.monotonic() + seconds * probe.SLOW
    while not is_fast(b, flow, family, proto):
        if time.monotonic() > until:
            b.fail("the connection", "handed to the flowtable", entry(b, flow, family, proto))
        talk(flow, 0.1)


def forwarded(b):
    text = b.in_node("nft", "list", "counter", "inet", "watch", "forwarded")
    return int(re.search(r"packets (\d+)", text).group(1))


def devices(b, family):
    text = b.in_node("nft", "list", "flowtables", "ip" if family == 4 else "ip6")
    found = re.search(r"devices = \{ ([^}]*) \}", text)
    return sorted(d.strip('" ') for d in found.group(1).split(",")) if found else []


def listed(b):
    """With handles: what is written again gets another. Who owns a table, and until when, changes by itself."""
    text = b.in_node("nft", "-a", "list", "ruleset")
    return re.sub(r" progname \S+|\tflags (owner|persist|owner,persist)\n| expires \w+", "", text)


def same(b, what, before):
    lines = difflib.unified_diff(before.splitlines(), listed(b).splitlines(), "before", "now", n=0, lineterm="")
    b.equal(what, "", "\n".join(list(lines)[:20]))


@case("a connection between named interfaces is handed over, and forward chains see it no more", "BEY-6",
      both_families, ("tcp", "udp"))
def handed_over(b, family, proto):
    b.nft(WATCH)
    try:
        start(b, web(["pod1"]), "toclient", "vethp*")
        for vip in ("svc11:80", "lb11:80", "node:30080"):
            flow = b.connection("client", vip, family, proto)
            becomes_fast(b, flow, family, proto)
            b.equal("who answers", {"pod1"}, talk(flow, 0.2))
            before = forwarded(b)
            b.equal("who answers", {"pod1"}, talk(flow, 1))
            b.equal("packets that forward chains saw", 0, forwarded(b) - before)
            flow.close()
    finally:
        b.nft("delete table inet watch")


@case("a connection by an interface that is not named is not", "BEY-6", both_families, ("tcp", "udp"))
def not_named(b, family, proto):
    for names in (["vethp*"], ["toclient"], ["toclien", "vethpod", "vethpod1x*"]):
        start(b, web(["pod1"]), *names)
        flow = b.connection("client", "svc11:80", family, proto)
        b.equal("who answers", {"pod1"}, talk(flow, ASSURED + 0.5))
        b.equal("handed over with %s: %s" % (names, entry(b, flow, family, proto)), False,
                is_fast(b, flow, family, proto))
        flow.close()


@case("what this table does not translate is not", "BEY-6", both_families)
def not_translated(b, family):
    start(b, web(["pod1"]), "*")
    flow = b.connection("client", "pod1:8080", family, "tcp")
    talk(flow, 1)
    b.true("an entry", entry(b, flow, family, "tcp"))
    b.equal("handed over", False, is_fast(b, flow, family, "tcp"))
    flow.close()


@case("by a bridge", "BEY-6", both_families, ("tcp", "udp"))
def bridge(b, family, proto):
    start(b, web(["pod2"]), "toclient", "cbr0", "brpod*")
    flow = b.connection("client", "svc11:80", family, proto)
    becomes_fast(b, flow, family, proto)
    b.equal("who answers", {"pod2"}, talk(flow, 1))
    flow.close()


@case("datagrams of a moment are not", "BEY-6", both_families)
def short(b, family):
    start(b, web(["pod1"]), "*")
    flow = b.connection("client", "svc11:80", family, "udp")
    talk(flow, 0.5)
    b.equal("handed over: " + entry(b, flow, family, "udp"), False, is_fast(b, flow, family, "udp"))
    flow.close()


@case("interfaces come and go under traffic", "BEY-6", both_families)
def come_and_go(b, family):
    start(b, web(["pod1"]), "toclient", "vethp*", "late0")
    b.until("devices", ["toclient", "vethpod1"], lambda: devices(b, family))
    flow = b.connection("client", "svc11:80", family, "tcp")
    becomes_fast(b, flow, family, "tcp")
    try:
        b.world.ip("node", "link add vethpx type veth peer name other0", "link set vethpx up", "link set other0 up")
        b.until("devices", ["toclient", "vethpod1", "vethpx"], lambda: devices(b, family))
        b.world.ip("node", "link set other0 down", "link set other0 name late0")
        b.until("devices", ["late0", "toclient", "vethpod1", "vethpx"], lambda: devices(b, family))
        # gone, and another of the same name
        b.world.ip("node", "link del vethpx", "link add vethpx type veth peer name other0")
        b.until("devices", ["toclient", "vethpod1", "vethpx"], lambda: devices(b, family))
        b.world.ip("node", "link del vethpx")
        b.until("devices", ["toclient", "vethpod1"], lambda: devices(b, family))
    finally:
        netns.run("ip", "link", "del", "vethpx", ns=b.world.name["node"], check=False)
    b.equal("who answers", {"pod1"}, talk(flow, 0.5))
    b.true("still handed over", is_fast(b, flow, family, "tcp"))
    b.true("foreign changes", "changed by somebody else" not in b.program.log, "none")
    flow.close()


@case("a device that goes takes no more than its own connections along", "BEY-6", both_families)
def device_goes(b, family):
    start(b, web(["r1"]), "toclient", "toremote", "torpod")
    flow = b.connection("client", "svc11:80", family, "tcp")
    becomes_fast(b, flow, family, "tcp")
    settings(b, "toclient", "toremote")
    b.until("devices", ["toclient", "toremote"], lambda: devices(b, family))
    b.equal("who answers", {"remote"}, talk(flow, 0.5))
    settings(b, "torpod")
    b.until("devices", ["torpod"], lambda: devices(b, family))
    b.equal("who answers", {"remote"}, talk(flow, 0.5))
    flow.close()


@case("the endpoint goes: datagrams leave the flowtable for another", "BEY-6 CT-1", both_families)
def endpoint_goes(b, family):
    start(b, web(["pod1"]), "*")
    flow = b.connection("client", "svc11:80", family, "udp")
    becomes_fast(b, flow, family, "udp")
    b.apply(web(["r1"]))
    b.until("who answers", "remote", lambda: flow.ask().split()[0])
    b.apply(web([]))
    b.until("the answer", "ECONNREFUSED", flow.ask)
    flow.close()


@case("a connection that ends leaves the flowtable", "BEY-6", both_families)
def ends(b, family):
    start(b, web(["pod1"]), "*")
    flow = b.connection("client", "svc11:80", family, "tcp", sport=15000)
    becomes_fast(b, flow, family, "tcp")
    flow.close()
    if LINGERS:
        time.sleep(1.5)  # the kernel cleans up each second
        b.true("it is still there", is_fast(b, flow, family, "tcp"))
    # 30 s after the last packet, which is the kernel's setting
    b.until("handed over", False, lambda: is_fast(b, flow, family, "tcp"), 40.0 if LINGERS else 3.0)
    other = b.connection("client2", "svc11:80", family, "tcp", sport=15000)
    becomes_fast(b, other, family, "tcp")
    b.equal("who answers", {"pod1"}, talk(other, 0.3))
    other.close()


def abort(flow):
    """Ends it by a reset, so that its port is free at once."""
    flow.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    flow.close()


@case("another connection with the ports of one that was reset works", "BEY-6 VER-15", both_families)
def again(b, family):
    start(b, web(["pod1"]), "*")
    former = None
    for endpoint in ("pod1", "r1", "pod2", "r2"):
        b.apply(web([endpoint]))
        flow = b.connection("client", "svc11:80", family, "tcp", sport=15000)
        said = talk(flow, 0.1)
        # older kernels do not take the reset for one, and it is the former connection to them: the manual says so
        allowed = {topology.namespace_of(endpoint)} if LINGERS or not former else {topology.namespace_of(endpoint), former}
        b.true("who answers: %s" % said, len(said) == 1 and said <= allowed, " or ".join(allowed))
        former = said.copy().pop()
        becomes_fast(b, flow, family, "tcp")
        b.equal("who answers", said, talk(flow, 0.3))
        abort(flow)


def fast_connections(b, family, vips, endpoint):
    """To each of @vips one that @endpoint answers, and that is handed over."""
    made = []
    for vip in vips:
        flow = b.connection("client", vip, family, "tcp")
        becomes_fast(b, flow, family, "tcp")
        b.equal("who answers", {topology.namespace_of(endpoint)}, talk(flow, 0.2))
        flow.sock.settimeout(0.1)
        made.append(flow)
    return made


def learns(b, flow, seconds=1.0):
    """Who sends is told within @seconds that the connection is over."""
    until = time.monotonic() + seconds * probe.SLOW
    got = flow.ask()
    while got not in ("ECONNRESET", "ECONNREFUSED", "EPIPE", "closed") and time.monotonic() < until:
        got = flow.ask()
    b.true("the end of a connection: " + got, got in ("ECONNRESET", "ECONNREFUSED", "EPIPE", "closed"))


VIPS = ("svc11:80", "lb11:80", "node:30080")
GONE = "closeConnections: EndpointGone\n"

for last in (False, True):
    @case("the endpoint is gone, %s: its connections end in the flowtable as well" % (
        "the last one" if last else "another is there"), "BEY-1 BEY-6", both_families)
    def closed(b, family, last=last):
        start(b, web(["r1"]), "*", more=GONE)
        made = fast_connections(b, family, VIPS, "r1")
        stays = b.connection("client2", "r1:8080", family, "tcp")  # none of ours
        with cut(b, "r1", family):
            b.apply(web([] if last else ["pod2"]))
            for flow in made:
                learns(b, flow)
        b.equal("who answers", {"remote"}, talk(stays, 0.2))
        if not last:
            flow = b.connection("client", "svc11:80", family, "tcp")
            becomes_fast(b, flow, family, "tcp")
            b.equal("who answers", {"pod2"}, talk(flow, 0.3))
            flow.close()


@case("clients that send all the time, and an endpoint that goes and could answer still", "BEY-1 BEY-6", both_families)
def under_way(b, family):
    start(b, web(["r1"]), "*", more=GONE)
    made = fast_connections(b, family, VIPS, "r1")
    ended, stop = [], threading.Event()

    def send(flow):
        while not stop.is_set():
            said = flow.ask().split()[0]
            if said not in ("remote", "silent"):
                ended.append((time.monotonic(), said))
                return

    threads = [threading.Thread(target=send, args=(flow,)) for flow in made]
    for t in threads:
        t.start()
    b.apply(web(["pod2"]))
    applied = time.monotonic()
    for t in threads:
        t.join(2.0 * probe.SLOW)
    stop.set()
    b.equal("connections that ended", len(made), len(ended))
    b.true("after %s s" % [round(at - applied, 2) for at, _ in ended],
           max(at for at, _ in ended) - applied < 1.0 * probe.SLOW, "within 1 s")


@case("connections of other endpoints stay in the flowtable", "BEY-1 BEY-6", both_families)
def others(b, family):
    start(b, web(["pod1", "r1"]), "*", more=GONE)
    made = []
    while len({f.first.split()[0] for f in made}) < 2:
        b.true("both endpoints within 40 connections", len(made) < 40)
        made.append(b.connection("client", "svc11:80", family, "tcp"))
    for flow in made:
        becomes_fast(b, flow, family, "tcp")
    b.apply(web(["pod1"]))
    for flow in made:
        flow.sock.settimeout(0.5 * probe.SLOW)
        if flow.first.split()[0] == "pod1":
            b.equal("who answers", {"pod1"}, talk(flow, 0.2))
            b.true("still handed over: " + entry(b, flow, family, "tcp"), is_fast(b, flow, family, "tcp"))
        else:
            learns(b, flow)


@case("with the setting Never they go on", "BEY-1 BEY-6 CT-8", both_families)
def never(b, family):
    start(b, web(["r1"]), "*")
    made = fast_connections(b, family, VIPS, "r1")
    b.apply(web(["pod2"]))
    for flow in made:
        flow.sock.settimeout(2 * probe.SLOW)
        b.equal("who answers", {"remote"}, talk(flow, 0.5))
        b.true("still handed over", is_fast(b, flow, family, "tcp"))
        flow.close()


@case("a restart keeps connections in the flowtable, and writes nothing", "BEY-6 RUN-7", both_families)
def restart(b, family):
    objects = web(["pod1"])
    start(b, objects, "toclient", "vethp*")
    flow = b.connection("client", "svc11:80", family, "tcp")
    becomes_fast(b, flow, family, "tcp")
    before = listed(b)
    b.true("a flowtable", "flowtable fast" in before)
    for how in (signal.SIGTERM, signal.SIGKILL):
        b.stop(how)
        b.equal("who answers", {"pod1"}, talk(flow, 0.3))
        same(b, "after the end", before)
        status, _, err = b.program.run(*b.program.argv(b.program.flags)[1:], "--once", "-v", "2", timeout=120)
        b.equal("status: %s" % err, 0, status)
        b.equal("written", [("IPv4", "0", "0"), ("IPv6", "0", "0")],
                re.findall(r"synced (IPv[46]): .*?(\d+) elements added, (\d+) deleted", err))
        same(b, "after --once", before)
        b.start(objects, *b.program.flags)
        b.true("still handed over", is_fast(b, flow, family, "tcp"))
        before = listed(b)  # the marker is another one
    b.stop()
    flow.close()


@case("another configuration turns it on and off", "BEY-6 CFG-3", both_families)
def switched(b, family):
    start(b, web(["pod1"]))
    plain = listed(b)
    b.true("no flowtable", "flowtable" not in plain and "forward" not in plain)
    settings(b, "*")
    b.hears("pass by the forward chains")
    b.until("devices", True, lambda: "toclient" in devices(b, family))
    flow = b.connection("client", "svc11:80", family, "tcp")
    becomes_fast(b, flow, family, "tcp")
    settings(b)
    b.until("a flowtable", False, lambda: "flowtable" in listed(b))
    b.equal("who answers", {"pod1"}, talk(flow, 0.3))
    b.equal("handed over", False, is_fast(b, flow, family, "tcp"))
    b.equal("what is different", sorted(re.sub(r" # handle \d+", "", plain).splitlines()),
            sorted(re.sub(r" # handle \d+", "", listed(b)).splitlines()))
    flow.close()


@case("nft takes the text of a dry run, and lists the same", "BEY-6 RUN-1")
def nft_takes(b):
    b.program.write(base() + web(["pod1"]))
    b.program.cleanup()
    names = ("toclient", "vethp*", "late0")
    flags = b.program.argv(DETECT)[1:] + ["--vipmap-config", settings(b, *names)]
    status, text, err = b.program.run(*flags, "--dry-run")
    b.equal("status of --dry-run: %s" % err, 0, status)
    b.true("devices in the text", text.count("devices = { toclient, vethpod1 }") == 2, "those of this namespace")
    b.in_node("nft", "-c", "-f", "-", stdin=text)
    b.in_node("nft", "-f", "-", stdin=text)
    from_text = b.kernel_objects()
    b.nft("flush ruleset")
    status, _, err = b.program.run(*flags, "--once")
    b.equal("status of --once: %s" % err, 0, status)
    b.equal("what nft lists", from_text, b.kernel_objects())
    status, out, err = b.program.run("diff", *flags)
    b.equal("diff: %s" % err, (0, ""), (status, out))
    b.program.cleanup()
    b.equal("after --cleanup", "", listed(b))


@case("diff tells which devices lack", "BEY-6")
def diff(b):
    b.program.write(base() + web(["pod1"]))
    flags = b.program.argv(DETECT)[1:]
    status, _, err = b.program.run(*flags, "--once")
    b.equal("status of --once: %s" % err, 0, status)
    # into a table that another process left
    status, _, err = b.program.run(*flags, "--once", "--vipmap-config", settings(b, "vethpod1"))
    b.equal("status of --once: %s" % err, 0, status)
    status, out, err = b.program.run("diff", *flags, "--vipmap-config", settings(b, "toclient"))
    b.equal("status of diff: %s" % err, 1, status)
    for line in ("- flowtable ip vipmap fast { devices = { vethpod1 } }",
                 "+ flowtable ip vipmap fast { devices = { toclient } }",
                 "+ flowtable ip6 vipmap fast { devices = { toclient } }"):
        b.true("%s in %s" % (line, out), line in out.splitlines())


if not OWNED:
    @case("what others do to the flowtable is repaired", "BEY-6 RUN-8", both_families)
    def repair(b, family):
        table = ("ip" if family == 4 else "ip6", "vipmap")
        start(b, web(["pod1"]), "toclient", "vethp*")
        want = ["toclient", "vethpod1"]
        b.until("devices", want, lambda: devices(b, family))
        b.in_node("nft", "add", "flowtable", *table, "fast", "{ devices = { toworld }; }")
        b.until("devices", want, lambda: devices(b, family))
        b.in_node("nft", "delete", "flowtable", *table, "fast", "{ devices = { toclient }; }")
        b.until("devices", want, lambda: devices(b, family))
        b.in_node("nft", "flush", "chain", *table, "fast-path")
        b.until("a rule", True, lambda: "goto fast-path-in" in b.in_node("nft", "list", "chain", *table, "fast-path"))
        b.in_node("nft", "delete", "table", *table)
        b.until("devices", want, lambda: devices(b, family))
