"""noMasqueradeCIDRs: who keeps its source that would lose it otherwise. That a row is reached says that the answer
came back, too."""
import atexit
import difflib
import os
import re
import signal
import tempfile

from lib.case import *

HEAD = "apiVersion: vipmap/v1alpha1\nkind: VipmapConfiguration\n"
ALL = ("pod1", "r1")
WIDE = ("192.168.1.0/24", "10.180.0.0/16", "fd00:1::/64", "fd00:180::/48")
TWICE = WIDE + ("10.180.0.0/16", "10.180.0.0/24", "192.168.1.2/32", "192.168.001.000/25", "fd00:180::11/128")


def text_of(*ranges):
    return HEAD + "noMasqueradeCIDRs: [%s]\n" % ", ".join('"%s"' % r for r in ranges)


def settings(*ranges):
    """The flag that names a file with these ranges."""
    fd, path = tempfile.mkstemp(prefix="vpkt-kept-")
    with os.fdopen(fd, "w") as f:
        f.write(text_of(*ranges))
    atexit.register(os.unlink, path)
    return ("--vipmap-config", path)


def balanced(name, n, endpoints=ALL, **more):
    return both(name, n, list(endpoints), kind="LoadBalancer", lb=["lb%d" % n], external=["ext%d" % n],
                nodeport=30100 + n, **more)


OBJECTS = (
    balanced("web", 11)
    + balanced("local", 12, etp="Local")
    + both("internal", 13, list(ALL), itp="Local")
    + balanced("sticky", 14, ["pod1"], affinity=100)
    + balanced("ranged", 15, ranges=["192.168.1.0/24", "10.180.0.0/16", "fd00:1::/64", "fd00:180::/48"])
)


def to(n):
    return ("svc%d:80" % n, "lb%d:80" % n, "ext%d:80" % n, "node:%d" % (30100 + n))


def rows(ident, sources, **more):
    """@sources: what endpoints see of each, "kept" or "node", or a pair of both: for ClusterIPs and for other addresses."""
    out = []
    for source, src in sources.items():
        inner, outer = src if isinstance(src, tuple) else (src, src)
        for vip in to(11):
            want = reach(*ALL, src=inner if vip.startswith("svc") else outer)
            out.append(Row("%s from %s" % (vip, source), ident, source, vip, want,
                           slim=vip.startswith("ext"), **more))
        out += [Row("internal policy Local from " + source, ident, source, "svc13:80", reach("pod1", src=inner),
                    slim=True, **more),
                Row("session affinity from " + source, ident, source, "lb14:80", reach("pod1", src=outer), slim=True,
                    **more)]
    return out


POD = [Row("policy Local, from a pod", "BEY-3 POL-2", "pod2", "lb12:80", reach(*ALL, src="kept"))]
OUTSIDE = [
    Row("policy Local, from outside", "BEY-3 POL-2", "client", "lb12:80", reach("pod1", src="kept")),
    Row("policy Local, from outside of the ranges", "BEY-3 POL-2", "client2", "lb12:80", reach("pod1", src="kept")),
]
LOCAL = POD + OUTSIDE
SOURCES = {"client": "kept", "pod2": "kept", "rpod": "kept", "node": "kept", "client2": "node", "nodeworld": "node"}

for name, ranges in (("", WIDE), (", ranges that overlap and repeat", TWICE)):
    group("both in the ranges or not" + name, OBJECTS, rows("BEY-3 MASQ-2 MASQ-4", SOURCES) + LOCAL + [
        Row("policy Local, from a host process", "BEY-3 MASQ-4", "node", "lb12:80", reach(*ALL, src="kept")),
        Row("policy Local, from a host process that is in no range", "BEY-3 MASQ-4", "nodeworld", "lb12:80",
            reach(*ALL, src="node")),
        Row("source ranges", "BEY-3 LB-4", "client", "lb15:80", reach(*ALL, src="kept")),
        Row("source ranges come first", "BEY-3 VER-1", "client2", "lb15:80", DROPPED),
        Row("what is no VIP", "BEY-3 VER-7", "client", "r1:8080", UNTOUCHED, slim=True),
    ], flags=DETECT + settings(*ranges))

group("everything in the ranges", OBJECTS, rows("BEY-3", {"client": "kept", "client2": "kept", "pod2": "kept", "nodeworld": "kept"})
      + LOCAL, flags=DETECT + settings("0.0.0.0/0", "::/0", "10.0.0.0/8"))
group("only sources in the ranges", OBJECTS, rows("BEY-3", {"client": "node", "pod2": ("kept", "node")}) + LOCAL,
      flags=DETECT + settings("192.168.1.0/24", "fd00:1::/64", "10.180.0.12/32", "fd00:180::12/128"))
group("only endpoints in the ranges", OBJECTS, rows("BEY-3", {"client": "node", "pod2": "kept", "node": "node"}) + LOCAL,
      flags=DETECT + settings("10.180.0.0/16", "fd00:180::/48"))
group("ranges of IPv4 alone", OBJECTS, rows("BEY-3", {"client": "kept"}, families=(4,))
      + rows("BEY-3 DS-3", {"client": "node"}, families=(6,)), flags=DETECT + settings(*WIDE[:2]))
group("ranges of IPv6 alone", OBJECTS, rows("BEY-3", {"client": "kept"}, families=(6,))
      + rows("BEY-3 DS-3", {"client": "node"}, families=(4,)), flags=DETECT + settings(*WIDE[2:]))
group("no ranges, which is the default", OBJECTS, rows("BEY-3", {"client": "node", "pod2": ("kept", "node")}) + LOCAL,
      flags=DETECT + settings())
group("without local detection", OBJECTS, rows("BEY-3 MASQ-3", {"client": "kept", "client2": ("kept", "node")}),
      flags=settings(*WIDE))
for name, flags in (("bridge", ("BridgeInterface", "--pod-bridge-interface", "cbr0")),
                    ("interface", ("InterfaceNamePrefix", "--pod-interface-name-prefix", "cb")),
                    ("NodeCIDR", ("NodeCIDR",))):
    group("pods by %s, where others are in the ranges" % name, OBJECTS,
          rows("BEY-3 MASQ-6", {"client": "kept", "rpod": "kept", "client2": "node"}),
          flags=("--detect-local-mode",) + flags + settings(*WIDE))

# masqueradeAll is stronger for ClusterIPs, and says nothing of others.
for name, flags, local in (("with detection", DETECT, LOCAL), ("without detection", (), OUTSIDE)):
    group("masquerade all, " + name, OBJECTS, rows("BEY-3 MASQ-1", {
        "client": ("node", "kept"), "pod2": ("node", "kept"), "node": ("node", "kept"), "client2": "node"}) + local,
          flags=flags + settings(*WIDE) + ("--masquerade-all",))

# A hairpin is masqueraded all the same.
group("hairpin", balanced("self", 20, ["pod1"]) + balanced("near", 21, ["pod1"], etp="Local", itp="Local")
      + both("bridge", 23, ["pod2", "pod3"]), [
          Row("to itself by " + vip, "BEY-3 MASQ-5", "pod1", vip, reach("pod1", src="node"), slim=vip.startswith("ext"))
          for n in (20, 21) for vip in to(n)] + [
          Row("another pod", "BEY-3 MASQ-5", "pod2", "lb20:80", reach("pod1", src="kept"))],
      flags=DETECT + settings(*WIDE))


def seen(b, source, vip, family, proto):
    """{(endpoint's namespace, "kept" or "node")}"""
    results = b.probe(source, vip, family, proto, count=30)  # chance that one of two is never met: 2 / 2^30
    out = set()
    for r in results:
        b.equal("%s to %s" % (source, vip), "reached", r.kind)
        peer = r.peer.rpartition(":")[0].strip("[]")
        out.add((r.namespace, "kept" if peer == addr(source, family) else
                 "node" if peer in b.world.node_addresses[family] else peer))
    return out


@case("it is the endpoint that is drawn that counts", "BEY-3", both_families, both_protos)
def mixed(b, family, proto):
    flags = DETECT + settings("192.168.1.0/24", "10.180.0.0/24", "fd00:1::/64", "fd00:180::/64")
    b.once(OBJECTS + both("bridge", 23, ["pod2", "pod3"], kind="LoadBalancer", lb=["lb23"]), *flags)
    for vip in to(11):
        b.equal("client to " + vip, {("pod1", "kept"), ("remote", "node")}, seen(b, "client", vip, family, proto))
    b.equal("a pod and itself", {("pod2", "node"), ("pod3", "kept")}, seen(b, "pod2", "lb23:80", family, proto))
    status, out, err = b.program.run(*b.program.argv(flags)[1:], "explain", addr("client", family), proto,
                                     addr("lb11", family), "80")
    b.equal("exit status of explain; " + out + err, 0, status)
    lines = {line.split()[0]: line for line in out.splitlines() if " % " in line}
    b.true("explain of the whole: " + out, "source masqueraded (externalTrafficPolicy Cluster), kept where told below\n" in out)
    for endpoint in ALL:
        line = lines[join(addr(endpoint, family), 8080)]
        b.equal(line, endpoint == "pod1", "source kept: both are in noMasqueradeCIDRs" in line)
    _, out, _ = b.program.run(*b.program.argv(flags)[1:], "explain", addr("client2", family), proto,
                              addr("lb11", family), "80")
    b.true("explain of a source that is in no range: " + out, "noMasqueradeCIDRs" not in out and "masqueraded" in out)


@case("somebody else's mark masquerades what is no VIP", "BEY-3 MASQ-11", both_families, both_protos)
def foreign_mark(b, family, proto):
    b.once(OBJECTS, *DETECT, *settings(*WIDE))
    b.nft("table inet foreign { chain c { type filter hook prerouting priority mangle; "
          "ct status != dnat th dport 8080 meta mark set meta mark or 0x4000; }\n}")
    try:
        b.expect("client", "r1:8080", family, proto, reach("r1", src="node"))
    finally:
        b.in_node("nft", "delete", "table", "inet", "foreign")


LEAVING = """table inet leaving {
	counter marked { }
	counter other { }
	chain first { type filter hook prerouting priority raw; meta mark set meta mark or 0x3; }
	chain last {
		type filter hook postrouting priority 300
		ct status dnat meta mark and 0x4000 != 0 counter name marked
		ct status dnat ct direction original meta mark and 0xffffbfff != 0x3 counter name other
	}
}"""


@case("the mark is taken away, and no other bit", "BEY-3 MASQ-11", both_families, both_protos)
def mark(b, family, proto):
    b.once(OBJECTS, *DETECT, *settings(*WIDE))
    b.nft(LEAVING)
    try:
        b.expect("client", "lb11:80", family, proto, reach(*ALL, src="kept"))
        text = b.in_node("nft", "list", "counters", "table", "inet", "leaving")
        b.equal("packets that left with the mark, or without another bit", ["0", "0"], re.findall(r"packets (\d+)", text))
    finally:
        b.in_node("nft", "delete", "table", "inet", "leaving")


def listed(b, family):
    """With handles: what is written again gets another. Affinity remembers clients of before, for ever less."""
    text = b.in_node("nft", "-a", "list", "table", "ip" if family == 4 else "ip6", "vipmap")
    return re.sub(r" timeout 1m40s expires \w+", "", text).splitlines()


def changed(before, after):
    return [line for line in difflib.unified_diff(before, after, n=0, lineterm="") if not re.match(r"---|\+\+\+|@@", line)]


def write(b, path, *ranges):
    with open(path + ".new", "w") as f:
        f.write(text_of(*ranges))
    os.rename(path + ".new", path)
    b.program.process.send_signal(signal.SIGHUP)


@case("the ranges follow the file, and a connection stays as it is", "BEY-3 CFG-3 VER-15", both_families, both_protos)
def follows(b, family, proto):
    flags = settings()
    b.start(OBJECTS, *DETECT, *flags)
    plain = listed(b, family)
    old = b.connection("client", "lb11:80", family, proto)
    first = old.ask()
    b.expect("client", "lb11:80", family, proto, reach(*ALL, src="node"))
    for ranges, want in ((WIDE, "kept"), (WIDE[1:2] + WIDE[3:], "node"), (("0.0.0.0/0", "::/0"), "kept"), (TWICE, "kept"),
                         ((), "node")):
        write(b, flags[1], *ranges)
        b.eventually("client", "lb11:80", family, proto, reach(*ALL, src=want))
        b.equal("a connection of before", first, old.ask())
    b.until("a table as if it had never been", [], lambda: [
        line for line in changed([re.sub(r" # handle \d+", "", l) for l in plain],
                                 [re.sub(r" # handle \d+", "", l) for l in listed(b, family)]) if "pick-" not in line])
    old.close()


@case("another range changes elements and nothing else", "BEY-3 CFG-3 RUN-6", both_families)
def only_elements(b, family):
    flags = settings(*WIDE)
    b.start(OBJECTS, *DETECT, *flags)
    b.expect("client", "lb11:80", family, "tcp", reach(*ALL, src="kept"))
    # neighbours: one begins where another ends
    for ranges, want in ((("192.168.0.0/24", "192.168.1.0/24", "192.168.2.0/24", "fd00:0::/64", "fd00:1::/64") + WIDE, "kept"),
                         (("192.168.0.0/24", "192.168.2.0/24", "fd00:0::/64", "fd00:2::/64", *WIDE[1:2], *WIDE[3:]), "node"),
                         (("192.168.0.0/16", "fd00::/28"), "node"), (WIDE, "kept")):
        before = listed(b, family)
        write(b, flags[1], *ranges)
        b.until("something is different", True, lambda: bool(changed(before, listed(b, family))))
        b.expect("client", "lb11:80", family, "tcp", reach(*ALL, src=want))
        lines = changed(before, listed(b, family))
        b.equal("other lines than ranges that changed", [],
                [line for line in lines if not re.fullmatch(r"[-+]\s+(elements = \{ )?[0-9a-f:./, -]+( \})?", line)])
        b.hears("configuration changed: noMasqueradeCIDRs ")
    b.stop()
    before = listed(b, family)
    status, _, err = b.program.run(*b.program.argv(b.program.flags)[1:], "--once", "-v", "2")
    b.equal("status of --once: " + err, 0, status)
    b.equal("written", [("IPv4", "0", "0"), ("IPv6", "0", "0")],
            re.findall(r"synced (IPv[46]): .*?(\d+) elements added, (\d+) deleted", err))
    b.equal("changed by a restart", [], [line for line in changed(before, listed(b, family)) if "# progname" not in line])


@case("a bad range is told, and the old ones stay", "BEY-3 CFG-2 CFG-3", both_families)
def bad(b, family):
    flags = settings(*WIDE)
    b.start(OBJECTS, *DETECT, *flags)
    write(b, flags[1], *WIDE, "10.0.0.0/33")
    b.hears(r'configuration stays as it was: .*noMasqueradeCIDRs: "10.0.0.0/33" is not a range')
    b.expect("client", "lb11:80", family, "tcp", reach(*ALL, src="kept"))
