"""Load balancer addresses and their source ranges."""
import json
import time

from lib.case import *
from lib.traffic import Traffic, wrong

# client is 192.168.1.2, client2 203.0.113.7, client3 203.0.113.200 (IPv6 likewise: fd00:1::2,
# 2001:db8:113::7, 2001:db8:113:8000::7)
LOW = ["203.0.113.0/25", "2001:db8:113::/49"]
HIGH = ["203.0.113.128/25", "2001:db8:113:8000::/49"]
ALL = LOW + HIGH


def lb(name, n, endpoints, ranges, **more):
    return both(name, n, endpoints, kind="LoadBalancer", lb=["lb%d" % n], external=["ext%d" % n],
                nodeport=30200 + n, ranges=ranges, **more)


OBJECTS = (
    lb("low", 1, ["pod1", "r1"], LOW)
    + lb("spaces", 2, ["pod1"], ["  203.0.113.0/25 ", "", "nonsense", "10.0.0.0/99", " 2001:db8:113::/49"])
    + lb("v4only", 3, ["pod1"], LOW[:1])
    + lb("zero", 4, ["pod1"], LOW + ["0.0.0.0/0", "::/0"])
    + lb("unusable", 5, ["pod1"], ["nonsense", ""])
    # overlapping, touching, repeated, nested, host bits set (LB-6, API-11)
    + lb("overlap", 6, ["pod1"], ["203.0.113.0/25", "203.0.113.0/26", "203.0.113.0/25", "203.0.113.128/26",
                                  "203.0.113.192/26", "203.0.113.7/32", "203.0.113.200/30", "203.0.000.0/016",
                                  "2001:db8:113::/49", "2001:db8:113::7/128", "2001:db8:113:8000::/49",
                                  "2001:db8:113:8000::1/50"])
    + lb("dead", 7, [], LOW)
    + lb("local", 8, ["pod1", "r1"], LOW, etp="Local")
    + lb("localnone", 9, ["r1"], LOW, etp="Local")
    # LB-5: the node's primary address is inside
    + lb("nodein", 10, ["pod1"], ["192.168.1.1/32", "fd00:1::1/128"])
    + lb("pods", 11, ["r1"], ["10.180.0.0/16", "fd00:180::/48"])
    # LB-7: an external IP that equals the load balancer address of the same port
    + both("same", 12, ["pod1"], kind="LoadBalancer", lb=["lb12"], external=["lb12", "ext12"], ranges=LOW)
    # LB-8: one address, three Services
    + both("shared1", 13, ["pod1"], ports=(80,), kind="LoadBalancer", lb=["lb13"], ranges=LOW)
    + both("shared2", 14, ["r1"], ports=(81,), kind="LoadBalancer", lb=["lb13"], ranges=HIGH)
    + both("shared3", 15, ["r2"], ports=(82,), kind="LoadBalancer", lb=["lb13"])
    + lb("sticky", 16, ["pod1", "r1"], LOW, affinity=100)
    + [changed(service("hostname", 17, kind="LoadBalancer"), "status",
               value={"loadBalancer": {"ingress": [{"hostname": "lb.example.org"}, {"ip": "not-an-ip"}]}})]
    + slices("hostname", ["pod1"])
    + [changed(service("zeros", 18, kind="LoadBalancer"), "status",
               value={"loadBalancer": {"ingress": [{"ip": "001.002.003.018"}, {"ip": addr("lb18", 6)}]}})]
    + slices("zeros", ["pod1"])
    + both("vip", 19, ["pod1"], kind="LoadBalancer", lb=["lb19"], lb_mode="VIP")
)

group("source ranges", OBJECTS, [
    Row("source inside", "LB-4 MASQ-4", "client2", "lb1:80", reach("pod1", "r1", src="node")),
    Row("source outside", "LB-4 VER-1", "client", "lb1:80", DROPPED),
    Row("source just outside", "LB-4 VER-1", "client3", "lb1:80", DROPPED),
    Row("a pod", "LB-4", "pod2", "lb1:80", DROPPED),
    Row("a host process", "LB-4", "node", "lb1:80", DROPPED),
    Row("ClusterIP", "LB-7", "client", "svc1:80", reach("pod1", "r1")),
    Row("external IP", "LB-7", "client", "ext1:80", reach("pod1", "r1", src="node")),
    Row("node port", "LB-7 NP-5", "client", "node:30201", reach("pod1", "r1", src="node")),
    Row("another port of the address", "VER-11", "client", "lb1:81", UNTOUCHED),
    Row("white space and unusable entries", "LB-2", "client2", "lb2:80", reach("pod1")),
    Row("white space and unusable entries, outside", "LB-2", "client3", "lb2:80", DROPPED),
    Row("ranges of IPv4 only, inside", "LB-2 LB-3 DS-3", "client2", "lb3:80", reach("pod1")),
    Row("ranges of IPv4 only, IPv4", "LB-3", "client", "lb3:80", DROPPED, families=(4,)),
    Row("ranges of IPv4 only, IPv6", "LB-3 DS-3", "client", "lb3:80", reach("pod1"), families=(6,)),
    Row("a range of length 0", "LB-3", "client3", "lb4:80", reach("pod1")),
    Row("nothing usable", "LB-3 LB-2", "client", "lb5:80", reach("pod1")),
    Row("overlaps, low", "LB-6", "client2", "lb6:80", reach("pod1")),
    Row("overlaps, high", "LB-6 API-11", "client3", "lb6:80", reach("pod1")),
    Row("overlaps, outside", "LB-6", "client", "lb6:80", DROPPED),
    Row("no endpoints, inside", "VER-2", "client2", "lb7:80", REFUSED),
    Row("no endpoints, outside", "VER-9 VER-1", "client", "lb7:80", DROPPED),
    Row("no endpoints, external IP", "LB-7", "client", "ext7:80", REFUSED),
    Row("Local, inside", "LB-4 POL-2", "client2", "lb8:80", reach("pod1", src="kept")),
    Row("Local, outside", "LB-4", "client", "lb8:80", DROPPED),
    Row("Local, a pod", "LB-4 POL-5", "pod2", "lb8:80", DROPPED),
    Row("Local, no local endpoint, inside", "VER-3", "client2", "lb9:80", DROPPED),
    Row("the node's own address in a range", "LB-5", "node", "lb10:80", reach("pod1", src="node")),
    Row("a secondary node address", "LB-5", "node2", "lb10:80", DROPPED),
    Row("pods in a range", "LB-4", "pod2", "lb11:80", reach("r1", src="node")),
    Row("pods in a range, outside", "LB-4", "client", "lb11:80", DROPPED),
    Row("external IP equal to it, inside", "LB-7", "client2", "lb12:80", reach("pod1")),
    Row("external IP equal to it, outside", "LB-7", "client", "lb12:80", DROPPED),
    Row("its other external IP", "LB-7", "client", "ext12:80", reach("pod1")),
    Row("shared address, first port, inside", "LB-8", "client2", "lb13:80", reach("pod1")),
    Row("shared address, first port, outside", "LB-8", "client3", "lb13:80", DROPPED),
    Row("shared address, second port, inside", "LB-8", "client3", "lb13:81", reach("r1")),
    Row("shared address, second port, outside", "LB-8", "client2", "lb13:81", DROPPED),
    Row("shared address, third port", "LB-8", "client", "lb13:82", reach("r2")),
    Row("sticky, outside", "LB-4", "client", "lb16:80", DROPPED),
    Row("hostname only", "LB-1 SVC-9", "client", "svc17:80", reach("pod1")),
    Row("leading zeros", "API-11", "client", "lb18:80", reach("pod1")),
    Row("ipMode VIP", "LB-1", "client", "lb19:80", reach("pod1")),
])


@case("a VIP bound on the node is its own source", "LB-5", both_families, both_protos)
def bound(b, family, proto):
    b.once(OBJECTS)
    with b.world.node_has("lo", addr("lb10", family), addr("lb1", family)):
        for n, want in (("lb10", "reached"), ("lb1", "silent")):
            p = probe.Probe(b.world.name["node"], proto, addr(n, family), 80, addr(n, family),
                            timeout=3 if want == "reached" else SILENCE)
            probe.run([p])
            b.equal("the node from %s to itself" % n, want, p.result.kind)


@case("ranges change while it runs", "LB-4 SVC-12", both_families, both_protos)
def live(b, family, proto):
    b.start(lb("web", 1, ["pod1"], LOW))
    b.expect("client3", "lb1:80", family, proto, DROPPED)
    b.apply(lb("web", 1, ["pod1"], HIGH))
    b.program.flush()
    b.expect("client3", "lb1:80", family, proto, reach("pod1"))
    b.expect("client2", "lb1:80", family, proto, DROPPED)
    b.apply(lb("web", 1, ["pod1"], []))
    b.program.flush()
    b.expect("client2", "lb1:80", family, proto, reach("pod1"))
    b.apply(lb("web", 1, ["pod1"], ALL))
    b.program.flush()
    b.expect("client", "lb1:80", family, proto, DROPPED)


def many(n):
    """Ranges that nobody here comes from; some of them touch."""
    return (["10.%d.%d.0/25" % (50 + i // 200, i % 200) for i in range(n)]
            + ["fd50:%x::/33" % i for i in range(n)])


def fenced(ranges, port="t80"):
    """lb40 with these ranges; the name of its TCP port."""
    return changed_port(lb("fenced", 40, ["pod1", "r1"], ranges), port)


def changed_port(objects, name):
    return json.loads(json.dumps(objects).replace('"t80"', '"%s"' % name))


@case("ports are renamed and ranges change under traffic", "LB-4 LB-6 RUN-2 VER-15", both_families)
def under_traffic(b, family):
    ranges, more = LOW + many(300), many(303)
    b.start(fenced(ranges))
    held = [b.connection("client2", "lb40:80", family), b.connection("client2", "svc40:80", family)]
    running = Traffic(b, "client2", "lb40:80", family, 4)
    count = 0
    while running.running():
        count += 1
        ranges = LOW + many(300) + [more[300 + count % 3]] if count % 2 else LOW + many(300)
        # a port that is renamed has its slices under the other name in the same moment
        b.apply(fenced(ranges, "t80" if count % 4 < 2 else "web"))
        b.expect("client3", "lb40:80", family, "tcp", DROPPED, count=1)
    tally = running.tally()
    b.equal("answers that should not be, %d changes" % count, {}, wrong(tally, family, ["pod1", "r1"]))
    b.true("connections: %d" % sum(tally.values()), sum(tally.values()) > 300)
    b.true("changes: %d" % count, count >= 4, "at least 4")
    objects = lambda: b.in_node("nft", "-a", "list", "set", "ip" if family == 4 else "ip6", "vipmap",
                                "ranges/default/fenced")
    b.apply(fenced(LOW + many(300), "t80"))
    before = objects()
    b.true("the set has its ranges", "203.0.113.0/25" in before or "2001:db8:113::/49" in before)
    b.apply(fenced(LOW + many(300), "web"))
    b.equal("the set after its Service's port was renamed", before, objects())
    b.apply([])
    b.equal("connections after the Service has gone", [c.first for c in held], [c.ask() for c in held])
    for c in held:
        c.close()
    b.expect("client2", "lb40:80", family, "tcp", UNTOUCHED)
    b.apply(fenced(HIGH))
    b.expect("client3", "lb40:80", family, "tcp", reach("pod1", "r1"))
    b.expect("client2", "lb40:80", family, "tcp", DROPPED)


# The layout of the version before: one set of ranges for all Services.
FORMER = """
table %(ip)s vipmap {
    set source-ranges {
        typeof %(ip)s daddr . meta l4proto . th dport . %(ip)s saddr
        flags interval
        elements = { %(vip)s . tcp . 80 . %(range)s }
    }
    map service-ips {
        typeof %(ip)s daddr . meta l4proto . th dport : verdict
        elements = { %(vip)s . tcp . 80 : goto firewall }
    }
    map firewalled {
        typeof %(ip)s daddr . meta l4proto . th dport : verdict
        elements = { %(vip)s . tcp . 80 : goto external-pick-1 }
    }
    map endpoints {
        typeof %(ip)s daddr . meta l4proto . th dport . numgen random mod 65536 : %(ip)s daddr . th dport
        elements = { %(vip)s . tcp . 80 . 0 : %(endpoint)s . 8080 }
    }
    chain external-pick-1 {
        meta mark set meta mark or 0x4000
        dnat %(ip)s to %(ip)s daddr . meta l4proto . th dport . numgen random mod 1 map @endpoints
    }
    chain firewall {
        %(ip)s daddr . meta l4proto . th dport . %(ip)s saddr @source-ranges %(ip)s daddr . meta l4proto . th dport vmap @firewalled
        drop
    }
    chain services {
        %(ip)s daddr . meta l4proto . th dport vmap @service-ips
    }
    chain nat-prerouting {
        type nat hook prerouting priority dstnat; policy accept;
        goto services
    }
    chain nat-postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        meta mark and 0x4000 != 0 meta mark set meta mark xor 0x4000 masquerade fully-random
    }
}
"""


@case("a table of the former layout is replaced under traffic", "RUN-8 RUN-2 VER-15 LB-4", both_families)
def former_layout(b, family):
    b.program.cleanup()
    b.nft(FORMER % {"ip": "ip" if family == 4 else "ip6", "vip": addr("lb40", family),
                    "range": LOW[0 if family == 4 else 1], "endpoint": addr("r1", family)})
    held = b.connection("client2", "lb40:80", family)
    b.expect("client3", "lb40:80", family, "tcp", DROPPED)
    running = Traffic(b, "client2", "lb40:80", family, 2)
    time.sleep(0.5)
    b.start(lb("fenced", 40, ["r1"], LOW))
    tally = running.tally()
    b.equal("answers that should not be", {}, wrong(tally, family, ["r1"]))
    b.true("connections: %d" % sum(tally.values()), sum(tally.values()) > 100)
    b.equal("an established connection", held.first, held.ask())
    held.close()
    b.expect("client3", "lb40:80", family, "tcp", DROPPED)
    b.true("no set of the former layout", "source-ranges" not in b.in_node("nft", "list", "ruleset"))


@case("externalIPs can be switched off", "SVC-10", both_families)
def gate(b, family):
    b.once(OBJECTS, *DETECT, "--feature-gates", "AllowServiceExternalIPs=false")
    for proto in both_protos:
        b.expect("client", "ext1:80", family, proto, UNTOUCHED)
        b.expect("client2", "lb1:80", family, proto, reach("pod1", "r1"))


def shared(older, younger):
    """Two Services that claim lb30:80; the first endpoints belong to a/older, the others to z/younger."""
    return (both("older", 30, ["pod1"], kind="LoadBalancer", lb=["lb30"], created=older, namespace="zz")
            + both("younger", 31, ["r1"], kind="LoadBalancer", lb=["lb30", "lb31"], created=younger, namespace="aa"))


@case("two Services claim one VIP", "SVC-11", both_families, both_protos)
def conflict(b, family, proto):
    old, new = "2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z"
    first, second = shared(old, new)[:3], shared(old, new)[3:]
    b.start(first + second)
    b.expect("client", "lb30:80", family, proto, reach("pod1"))
    b.expect("client", "lb31:80", family, proto, reach("r1"))      # the loser keeps its other VIPs
    b.expect("client", "svc31:80", family, proto, reach("r1"))
    b.apply(second)                                                # takes over when the winner goes
    b.program.flush()
    b.expect("client", "lb30:80", family, proto, reach("r1"))
    b.apply(second + first)                                        # and gives it back
    b.program.flush()
    b.expect("client", "lb30:80", family, proto, reach("pod1"))
    b.true("the conflict is logged", "zz/older" in b.program.log or "aa/younger" in b.program.log,
           "a line that names a Service")
    b.apply(shared(new, new))                                      # same age: the smaller namespace/name
    b.program.flush()
    b.expect("client", "lb30:80", family, proto, reach("r1"))


@case("a Service that loses a thousand virtual IPs is told of in a few lines", "SVC-11")
def many_conflicts(b):
    more = {"ports": range(1, 21), "protos": ("TCP",), "families": (4,)}
    taken = ["203.0.113.%d" % n for n in range(1, 51)]
    first = service("older", 30, created="2024-01-01T00:00:00Z", externalIPs=taken, **more)
    second = service("younger", 31, created="2025-01-01T00:00:00Z", externalIPs=taken, **more)
    b.start([first, second] + slices("younger", ["pod1"], **more))
    b.equal("lines", 8, b.program.log.count(" is taken by Service default/older:"))
    b.hears("Service default/younger: 992 more of its IPv4 virtual IPs are taken by other Services")
    b.expect("client", "svc31:20", 4, "tcp", reach("pod1"))


@case("an external IP equal to another Service's ClusterIP or node address", "SVC-11", both_families, both_protos)
def conflict_cluster(b, family, proto):
    objects = (both("a", 40, ["pod1"], created="2024-01-01T00:00:00Z")
               + both("b", 41, ["r1"], external=["svc40"], created="2025-01-01T00:00:00Z"))
    b.once(objects)
    b.expect("client", "svc40:80", family, proto, reach("pod1"))
    b.expect("client", "svc41:80", family, proto, reach("r1"))


@case("a ClusterIP that an older Service has taken", "SVC-11 VER-5", both_families, both_protos)
def lost_cluster_ip(b, family, proto):
    """Its Service is programmed still, so its other ports are refused and not dropped."""
    young = both("young", 40, ["pod1"], created="2025-01-01T00:00:00Z")
    old = both("old", 41, ["r1"], external=["svc40"], created="2024-01-01T00:00:00Z")
    b.start(young + old)
    b.expect("client", "svc40:80", family, proto, reach("r1"))
    b.expect("client", "svc40:81", family, proto, REFUSED)
    b.apply(young)
    b.expect("client", "svc40:80", family, proto, reach("pod1"))
    b.apply(old)
    b.expect("client", "svc40:80", family, proto, reach("r1"))
    b.expect("client", "svc40:81", family, proto, DROPPED)
