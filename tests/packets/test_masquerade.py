"""Whose address the endpoint sees: every masquerade rule in each mode of local detection; marks; hairpin."""
from lib.case import *
from lib import packet

OBJECTS = (
    both("web", 11, ["pod1", "r1"], kind="LoadBalancer", lb=["lb11"], external=["ext11"], nodeport=30111)
    + both("local", 12, ["pod1", "r1"], kind="LoadBalancer", lb=["lb12"], external=["ext12"], nodeport=30112,
           etp="Local")
    + both("internal", 13, ["pod1", "r1"], itp="Local")
    + both("internal-external", 14, ["pod1", "r1"], kind="LoadBalancer", lb=["lb14"], itp="Local", etp="Local")
)
ALL = ("pod1", "r1")


def cluster_ip(**src):
    """Rows for the ClusterIPs, who keeps its source and who does not."""
    ids = {"kept": "MASQ-2", "node": "MASQ-2"}
    out = []
    for source, expected in src.items():
        out += [Row("ClusterIP from " + source, ids[expected] + " MASQ-6", source, "svc11:80",
                    reach(*ALL, src=expected)),
                Row("internal policy Local from " + source, "MASQ-9", source, "svc13:80",
                    reach("pod1", src=expected), slim=True),
                Row("external policy Local, its ClusterIP from " + source, "MASQ-9", source, "svc12:80",
                    reach(*ALL, src=expected), slim=True)]
    return out


def external(*pods, outside=("client",)):
    out = []
    for source in pods + outside + ("node",):
        for vip in ("lb11:80", "ext11:80", "node:30111"):
            out.append(Row("%s, Cluster, from %s" % (vip, source), "MASQ-4", source, vip, reach(*ALL, src="node"),
                           slim=True))
        for vip in ("lb12:80", "ext12:80", "node:30112"):
            want = (reach(*ALL, src="kept") if source in pods else reach(*ALL, src="node") if source == "node"
                    else reach("pod1", src="kept"))
            out.append(Row("%s, Local, from %s" % (vip, source), "MASQ-4 POL-2", source, vip, want, slim=True))
    return out


MODES = {
    "ClusterCIDR": (DETECT, dict(pod2="kept", pod3="kept", rpod="kept", client="node", node="node"),
                    ("pod2", "pod3", "rpod"), ("client",)),
    "NodeCIDR": (("--detect-local-mode", "NodeCIDR"),
                 dict(pod2="kept", pod3="kept", rpod="node", client="node", node="node"),
                 ("pod2", "pod3"), ("client", "rpod")),
    "BridgeInterface": (("--detect-local-mode", "BridgeInterface", "--pod-bridge-interface", "cbr0"),
                        dict(pod2="kept", pod3="kept", pod1="node", rpod="node", client="node", node="node"),
                        ("pod2", "pod3"), ("client", "rpod")),
    "InterfaceNamePrefix": (("--detect-local-mode", "InterfaceNamePrefix", "--pod-interface-name-prefix", "cb"),
                            dict(pod2="kept", pod3="kept", rpod="node", client="node", node="node"),
                            ("pod2", "pod3"), ("client", "rpod")),
    "InterfaceNamePrefix, the whole name": (
        ("--detect-local-mode", "InterfaceNamePrefix", "--pod-interface-name-prefix", "toclient"),
        dict(pod2="node", client="kept", node="node"), ("client",), ("pod2",)),
}

for name, (flags, sources, pods, outside) in MODES.items():
    # from pod1, pod1 itself would be a hairpin: seen below
    rows = cluster_ip(**{s: v for s, v in sources.items() if s != "pod1"}) + external(*pods, outside=outside)
    if name == "BridgeInterface":
        rows.append(Row("a pod that is not on the bridge", "MASQ-6", "pod1", "lb14:80", reach("pod1", src="node")))
    group(name, OBJECTS, rows, flags=flags)

group("ClusterCIDR without range", OBJECTS, [
    Row("ClusterIP from outside", "MASQ-3 MASQ-6", "client", "svc11:80", reach(*ALL, src="kept")),
    Row("ClusterIP from a pod", "MASQ-3", "pod2", "svc11:80", reach(*ALL, src="kept")),
    Row("ClusterIP from a host process", "MASQ-3", "node", "svc11:80", reach(*ALL, src="kept")),
    Row("external VIP from a pod", "MASQ-4", "pod2", "lb11:80", reach(*ALL, src="node")),
    Row("Local from outside", "MASQ-4", "client", "lb12:80", reach("pod1", src="kept")),
    Row("Local from a host process", "MASQ-4 POL-6", "node", "lb12:80", reach(*ALL, src="node")),
], flags=())

group("ClusterCIDR with a range of IPv4 only", OBJECTS, [
    Row("IPv4 from outside", "MASQ-6 MASQ-2", "client", "svc11:80", reach(*ALL, src="node"), families=(4,)),
    Row("IPv4 from a pod", "MASQ-6 MASQ-2", "pod2", "svc11:80", reach(*ALL, src="kept"), families=(4,)),
    Row("IPv6 has no detection", "MASQ-6 MASQ-3", "client", "svc11:80", reach(*ALL, src="kept"), families=(6,)),
    Row("IPv6 pods are outside sources", "MASQ-6 POL-6", "pod2", "lb12:80", reach("pod1", src="kept"),
        families=(6,)),
], flags=("--cluster-cidr", "10.180.0.0/16"))

for name, flags in (("with detection", DETECT), ("without detection", ())):
    group("masquerade all, " + name, OBJECTS, [
        Row("ClusterIP from a pod", "MASQ-1", "pod2", "svc11:80", reach(*ALL, src="node")),
        Row("ClusterIP from another node's pod", "MASQ-1", "rpod", "svc11:80", reach(*ALL, src="node")),
        Row("ClusterIP from outside", "MASQ-1", "client", "svc11:80", reach(*ALL, src="node")),
        Row("ClusterIP from a host process", "MASQ-1", "node", "svc11:80", reach(*ALL, src="node")),
        Row("internal policy Local", "MASQ-1 MASQ-9", "pod2", "svc13:80", reach("pod1", src="node")),
        Row("external policy Local keeps its sources", "MASQ-4", "client", "lb12:80", reach("pod1", src="kept")),
        Row("what is no VIP", "MASQ-12", "client", "r1:8080", UNTOUCHED),
        Row("what is no VIP, from a pod", "MASQ-12", "pod2", "lb99:80", UNTOUCHED),
    ], flags=flags + ("--masquerade-all",))

# Hairpin. With one local endpoint a pod that connects meets itself.
HAIRPIN = (
    both("self", 20, ["pod1"], kind="LoadBalancer", lb=["lb20"], nodeport=30120, etp="Local")
    + both("again", 21, ["pod1"])                                       # another Service, same endpoint
    + both("sticky", 22, ["pod1"], affinity=100)
    + both("bridge", 23, ["pod2", "pod3"])
    + both("internal", 24, ["pod1"], itp="Local")
    + both("twoports", 25, ["pod1:8080", "pod1:8081"])
    + both("ends", 26, [terminating("pod1")])
    + both("remote", 27, [Ep("rpod", port=8080)])                        # another node's pod meets itself: not ours
)
for name, flags in (("with detection", DETECT), ("without detection", ())):
    group("hairpin, " + name, HAIRPIN, [
        Row("ClusterIP", "MASQ-5 MASQ-13", "pod1", "svc20:80", reach("pod1", src="node")),
        Row("another Service with that endpoint", "MASQ-13", "pod1", "svc21:80", reach("pod1", src="node")),
        Row("session affinity", "MASQ-13", "pod1", "svc22:80", reach("pod1", src="node")),
        Row("external policy Local", "MASQ-13", "pod1", "lb20:80", reach("pod1", src="node")),
        Row("external policy Local, node port", "MASQ-13", "pod1", "node:30120", reach("pod1", src="node")),
        Row("internal policy Local", "MASQ-13", "pod1", "svc24:80", reach("pod1", src="node")),
        Row("two ports of one pod", "MASQ-13", "pod1", "svc25:80", reach("pod1:8080", "pod1:8081", src="node")),
        Row("a terminating endpoint", "MASQ-5", "pod1", "svc26:80", reach("pod1", src="node")),
        Row("pods beside each other", "MASQ-5 MASQ-2", "pod1", "svc23:80", reach("pod2", "pod3", src="kept")),
        Row("an endpoint that is not local", "MASQ-5", "pod2", "svc27:80", reach("rpod", src="kept")),
    ], flags=flags)


@case("a bridge's pods meet themselves and each other", "MASQ-5", both_families, both_protos)
def bridge_hairpin(b, family, proto):
    b.once(HAIRPIN)
    results = b.probe("pod2", "svc23:80", family, proto, count=30)
    seen = {(r.namespace, r.peer.rpartition(":")[0].strip("[]") in b.world.node_addresses[family]) for r in results}
    b.equal("(endpoint, masqueraded)", {("pod2", True), ("pod3", False)}, seen)


@case("an endpoint that is an address of the node", "MASQ-14", both_families, both_protos)
def host_network(b, family, proto):
    b.once(both("hostnet", 30, ["node:8081"], kind="LoadBalancer", lb=["lb30"], nodeport=30130)
           + both("hostlocal", 31, ["node:8081"], kind="LoadBalancer", lb=["lb31"], etp="Local"))
    for source in ("client", "pod2", "rpod", "node", "host"):
        for vip in ("svc30:80", "lb30:80", "node:30130", "svc31:80", "lb31:80"):
            b.expect(source, vip, family, proto, reach("node:8081"), count=2)


@case("source ports are drawn afresh", "MASQ-10", both_families, both_protos)
def source_port(b, family, proto):
    """Many clients with one source port all get through, and the ports that the endpoint sees do not follow it."""
    b.once(OBJECTS)
    made = [b.make("many%d" % i, "lb11:80", family, proto, sport=7777) for i in range(1, 41)]
    probe.run(made)
    b.equal("reached", 40, sum(p.result.kind == "reached" for p in made))
    ports = [int(p.result.peer.rpartition(":")[2]) for p in made]
    near = sum(7777 <= p < 7877 for p in ports)
    b.true("ports seen %s" % sorted(ports), len(set(ports)) >= 30 and near < 5, "scattered ports")


MARKS = """
table inet marks {
  counter forwarded_marked { }
  counter forwarded_all { }
  counter leaving_marked { }
  counter leaving_other { }
  chain first { type filter hook prerouting priority raw; meta mark set meta mark or %(set)#x; }
  chain own { type route hook output priority raw; meta mark set meta mark or %(set)#x; }
  chain forward { type filter hook forward priority 0
    counter name forwarded_all
    meta mark and %(bit)#x != 0 counter name forwarded_marked
  }
  chain last { type filter hook postrouting priority 300
    meta mark and %(bit)#x != 0 counter name leaving_marked
    meta mark and %(other)#x != %(set)#x counter name leaving_other
  }
}
"""


class Marks:
    """Counts marked packets in the forward hook and after source NAT."""

    def __init__(self, bench, bit=0x4000, set_mark=0x3):
        self.bench = bench
        bench.nft(MARKS % {"bit": bit, "set": set_mark, "other": 0xffffffff & ~bit})

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.bench.in_node("nft", "delete", "table", "inet", "marks")

    def read(self):
        import json
        out = json.loads(self.bench.in_node("nft", "-j", "reset", "counters", "table", "inet", "marks"))
        return {o["counter"]["name"]: o["counter"]["packets"] for o in out["nftables"] if "counter" in o}


@case("the mark is there between DNAT and SNAT, and nowhere else", "MASQ-11", both_families, both_protos)
def marks(b, family, proto):
    b.once(OBJECTS)
    with Marks(b) as m:
        for source, vip, masqueraded in (("client", "lb11:80", True), ("client", "svc11:80", True),
                                         ("pod2", "svc11:80", False), ("client", "lb12:80", False),
                                         ("client", "node:30111", True)):
            m.read()
            b.probe(source, vip, family, proto, count=5)
            got = m.read()
            name = "%s to %s: " % (source, vip)
            b.equal(name + "marked while forwarded", masqueraded, got["forwarded_marked"] >= 5)
            b.equal(name + "marked when leaving", 0, got["leaving_marked"])
            b.equal(name + "other bits changed", 0, got["leaving_other"])
        b.probe("node", "lb11:80", family, proto, count=5)
        got = m.read()
        b.equal("host process: marked when leaving", (0, 0), (got["leaving_marked"], got["leaving_other"]))


@case("what is no VIP is never marked", "MASQ-12 VER-7", both_families, both_protos)
def no_marks(b, family, proto):
    for flags in (DETECT, DETECT + ("--masquerade-all",)):
        b.once(OBJECTS, *flags)
        with Marks(b) as m:
            for source, target in (("client", "r1:8080"), ("pod2", "lb99:80"), ("client", "lb11:81"),
                                   ("node", "ext9:80"), ("client", "node2:30111")):
                b.probe(source, target, family, proto, count=3)
            got = m.read()
            b.equal("marked", (0, 0, 0), (got["forwarded_marked"], got["leaving_marked"], got["leaving_other"]))


@case("somebody else's mark masquerades as well", "MASQ-11", both_families, both_protos)
def foreign_mark(b, family, proto):
    b.once(OBJECTS)
    b.nft("table inet foreign { chain c { type filter hook prerouting priority mangle; "
          "th dport 8080 meta mark set meta mark or 0x4000; }\n}")
    try:
        b.expect("client", "r1:8080", family, proto, reach("r1", src="node"))
    finally:
        b.in_node("nft", "delete", "table", "inet", "foreign")
    b.program.flush()
    b.expect("client", "r1:8080", family, proto, UNTOUCHED)


CONFIG = """\
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: 10.180.0.0/16,fd00:180::/48
nftables:
  masqueradeBit: 5
  masqueradeAll: true
conntrack:
  maxPerCore: 0
"""


@case("another bit, from the configuration file", "MASQ-11 FLAG-1", both_families)
def other_bit(b, family):
    path = b.program.file("config.yaml", CONFIG)
    b.once(OBJECTS, "--config", path)
    with Marks(b, bit=1 << 5) as m:
        b.expect("client", "lb11:80", family, "tcp", reach(*ALL, src="node"))
        got = m.read()
        b.true("marked while forwarded", got["forwarded_marked"] > 0)
        b.equal("marked when leaving, others changed", (0, 0), (got["leaving_marked"], got["leaving_other"]))
    b.expect("pod2", "svc11:80", family, "tcp", reach(*ALL, src="node"))  # masqueradeAll of the file


@case("host processes came in through no interface", "MASQ-7", both_families, both_protos)
def no_interface(b, family, proto):
    # "lo" is where a host process's packets to itself come from; none of them is a pod
    for flags in (("--detect-local-mode", "InterfaceNamePrefix", "--pod-interface-name-prefix", "lo"),
                  ("--detect-local-mode", "BridgeInterface", "--pod-bridge-interface", "lo")):
        b.once(OBJECTS, *flags)
        b.expect("node", "svc11:80", family, proto, reach(*ALL, src="node"))
        b.expect("node", "lb12:80", family, proto, reach(*ALL, src="node"))


NODE_CIDR = ("--detect-local-mode", "NodeCIDR")


@case("mode NodeCIDR: the Node gets another range while it runs", "MASQ-6 NODE-3", both_families, both_protos)
def node_cidr_changes(b, family, proto):
    # with an API server the program ends, to be started afresh; with manifests it follows
    b.program.start([node(), service_cidr()] + OBJECTS, *NODE_CIDR)
    b.expect("rpod", "svc11:80", family, proto, reach(*ALL, src="node"))
    b.program.apply([node(pod_cidrs=["10.180.1.0/24", "fd00:180:0:1::/64"]), service_cidr()] + OBJECTS)
    b.program.flush()
    b.expect("rpod", "svc11:80", family, proto, reach(*ALL, src="kept"))
    b.expect("pod2", "svc11:80", family, proto, reach(*ALL, src="node"))
