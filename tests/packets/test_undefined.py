"""Addresses and ports that no Service claims: refused, dropped or left alone."""
from lib.case import *
from lib import packet

OBJECTS = (both("web", 11, ["pod1"], kind="LoadBalancer", nodeport=30080, external=["ext1"], lb=["lb1"])
           + both("proxy", 12, ["pod1"], kind="LoadBalancer", lb=["lb2"], lb_mode="Proxy")
           + both("gone", 13, ["pod1"], kind="LoadBalancer", external=["ext3"], lb=["lb3"], nodeport=30081))
KEPT = [o for o in OBJECTS if not o["metadata"]["name"].startswith("gone")]


def rows(source):
    return [
        Row("load balancer address, declared port", "VER-4", source, "lb1:80", reach("pod1")),
        Row("load balancer address, other port", "VER-7 VER-11", source, "lb1:81", UNTOUCHED),
        Row("external IP, other port", "VER-7 VER-11", source, "ext1:81", UNTOUCHED),
        Row("load balancer address of mode Proxy", "LB-1 VER-11", source, "lb2:80", UNTOUCHED),
        Row("ClusterIP of the same Service", "LB-1", source, "svc12:80", reach("pod1")),
        Row("load balancer address of a deleted Service", "VER-11 SVC-12", source, "lb3:80", UNTOUCHED),
        Row("external IP of a deleted Service", "VER-11 SVC-12", source, "ext3:80", UNTOUCHED),
        Row("ClusterIP of a deleted Service", "VER-6 SVC-12", source, "svc13:80", DROPPED),
        Row("node port of a deleted Service", "VER-11 SVC-12", source, "node:30081", UNTOUCHED),
        Row("address in the ServiceCIDR that no Service has", "VER-6", source, "free1:80", DROPPED),
        Row("ClusterIP, undefined port", "VER-5", source, "svc11:81", REFUSED),
        Row("plain address of an endpoint", "VER-7", source, "r1:8080", UNTOUCHED),
    ]


for source in ("client", "pod2", "rpod", "node"):
    group("undefined, from " + source, KEPT, rows(source), before=lambda b: b.once(OBJECTS))


def cidrs(*c):
    return [service_cidr(c)] if c else []


group("no ServiceCIDR", lambda: [node()] + OBJECTS, [
    Row("an unallocated address is not dropped", "VER-13", "client", "free1:80", UNTOUCHED),
    Row("a ClusterIP's other ports are refused all the same", "VER-5", "client", "svc11:81", REFUSED),
    Row("ClusterIP", "VER-4", "client", "svc11:80", reach("pod1")),
], with_base=False)

group("several ServiceCIDRs", lambda: [node(), service_cidr(["172.30.200.0/30", "fd00:30::c800/120"], "first"),
                                       service_cidr(["172.30.200.4/30"], "second"),
                                       # overlapping and repeated ranges, host bits set
                                       service_cidr(["172.30.200.9/29", "172.30.200.8/30"], "third")] + OBJECTS, [
    Row("first object", "VER-13", "client", "free1:80", DROPPED),
    Row("second object", "VER-13", "client", "free5:80", DROPPED, families=(4,)),
    Row("host bits do not matter", "VER-13 API-11", "client", "free8:80", DROPPED, families=(4,)),
    Row("last of an overlap", "VER-13", "client", "free15:80", DROPPED, families=(4,)),
    Row("behind the last", "VER-13", "client", "free16:80", UNTOUCHED, families=(4,)),
    Row("ClusterIP outside of every ServiceCIDR", "VER-4", "client", "svc11:80", reach("pod1")),
    Row("its other ports", "VER-5", "client", "svc11:81", REFUSED),
], with_base=False)


@case("ServiceCIDRs come and go while it runs", "VER-13", both_families, both_protos)
def live(b, family, proto):
    b.program.start([node()] + OBJECTS, *DETECT)
    b.expect("client", "free1:80", family, proto, UNTOUCHED)
    b.program.apply([node(), service_cidr()] + OBJECTS)
    b.expect("client", "free1:80", family, proto, DROPPED)
    b.program.apply([node(), service_cidr([["10.99.0.0/16"], ["fd00:99::/112"]][family == 6])] + OBJECTS)
    b.expect("client", "free1:80", family, proto, UNTOUCHED)


@case("this node's addresses inside a ServiceCIDR", "VER-20 VER-6", both_families, both_protos)
def own_addresses(b, family, proto):
    wide = service_cidr([["192.0.0.0/8", "172.30.0.0/16"], ["fd00::/16"]][family == 6])
    b.start([node(), wide] + OBJECTS)
    for source in ("client", "pod2", "rpod", "host"):
        for target in ("node", "node2", "nodeworld"):
            b.expect(source, target + ":79", family, proto, UNTOUCHED)
        b.expect(source, "free1:79", family, proto, DROPPED)
    # no event reaches the table between the new address and the packet
    with b.world.node_has("lo", addr("free1", family)):
        for source in ("client", "pod2", "rpod", "host"):
            b.expect(source, "free1:79", family, proto, UNTOUCHED)
            b.expect(source, "free2:79", family, proto, DROPPED)
    b.expect("client", "free1:79", family, proto, DROPPED)


def ping(b, source, target, family, ident):
    """"reply", "unreachable TYPE/CODE" or "silence"."""
    w = b.world.name
    ns = w[topology.namespace_of(source)]
    with packet.Sniffer(ns) as sniffer:
        packet.send_echo(ns, family, None if source == "host" else addr(source, family), addr(target, family), ident)

        def answer(_, p):
            if p.type in (0, 129) and p.ident == ident:
                return True
            return p.inner is not None and p.inner.dst == addr(target, family)
        got = sniffer.collect(answer, 1.0 if source != "host" else 1.0)
    if not got:
        return "silence"
    return "reply" if got[1].inner is None else "unreachable %d/%d" % (got[1].type, got[1].code)


@case("ping", "PROTO-2 VER-5 VER-6 VER-7", both_families)
def pings(b, family):
    b.once(OBJECTS)
    refused = "unreachable 3/3" if family == 4 else "unreachable 1/4"
    ident = 4000
    for source in ("client", "pod1"):
        for target, want in (("svc11", refused), ("svc13", refused), ("free1", "silence"), ("lb1", "reply"),
                             ("ext1", "reply"), ("lb2", "reply"), ("node", "reply"), ("r1", "reply")):
            ident += 1
            b.equal("%s pings %s" % (source, target), want, ping(b, source, target, family, ident))


@case("a ClusterIP bound on the node", "VER-8", both_families, both_protos)
def bound(b, family, proto):
    b.once(OBJECTS)
    names = ("svc11", "lb1", "ext1")
    with b.world.node_has("lo", *[addr(n, family) for n in names]):
        for n in names:
            for source in ("client", "pod2", "host"):
                b.expect(source, n + ":80", family, proto, reach("pod1"))


@case("no accept rule opens what another table closes", "VER-16", both_families, both_protos)
def closed(b, family, proto):
    b.once(OBJECTS)
    b.nft("table inet closed { chain f { type filter hook forward priority 0; th dport 8080 drop; }\n}")
    try:
        b.expect("client", "svc11:80", family, proto, DROPPED)
    finally:
        b.in_node("nft", "delete", "table", "inet", "closed")
    b.expect("client", "svc11:80", family, proto, reach("pod1"))


@case("ICMP errors of a translated connection reach the client", "PROTO-3", both_families)
def icmp_error(b, family):
    # nobody listens at 9999, so the endpoint's own kernel answers
    objects = both("closed", 41, ["pod1:9999"])
    b.once(objects)
    w = b.world.name
    p = b.make("client", "svc41:80", family, "udp")
    with packet.Sniffer(w["pod1"]) as sniffer:
        probe.run([p])
        arrived = sniffer.collect(lambda _, q: q.dport == 9999, 1)
    b.true("the datagram arrives", arrived, "in pod1")
    b.equal("the client learns", "refused port", str(p.result))
    b.once(objects)
    with packet.Sniffer(w["pod1"]) as sniffer:
        p = b.make("client", "svc41:80", family, "tcp")
        probe.run([p])
        b.equal("TCP", "refused rst", str(p.result))
        b.true("the SYN arrives", sniffer.collect(lambda _, q: q.dport == 9999, 1), "in pod1")


@case("a datagram in fragments is translated whole", "PROTO-1", both_families)
def fragments(b, family):
    b.once(OBJECTS)
    for source, vip in (("client", "svc11:80"), ("client", "lb1:80"), ("pod2", "svc11:80"), ("node", "svc11:80")):
        c = b.connection(source, vip, family, "udp")
        c.sock.send(b"x" * 4000)
        b.equal("answer", " ".join(c.first.split()[:2]), " ".join(c.sock.recv(512).decode().split()[:2]))
        c.close()


@case("path MTU discovery through a VIP", "PROTO-3", both_families)
def pmtu(b, family):
    import socket
    b.once(OBJECTS)
    b.world.ip("node", "link set vethpod1 mtu 1300")
    try:
        with netns.inside(b.world.name["client"]):
            s = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
        with s:
            if family == 4:
                s.setsockopt(socket.IPPROTO_IP, 10, 2)       # IP_MTU_DISCOVER, IP_PMTUDISC_DO
            else:
                s.setsockopt(socket.IPPROTO_IPV6, 23, 2)
            s.settimeout(0.5)
            s.connect((addr("svc11", family), 80))
            s.send(b"x" * 1400)
            try:
                got = s.recv(512).decode()
            except OSError as e:
                got = e.strerror
            b.equal("after the first datagram", "Message too long", got)
            mtu = s.getsockopt(*((socket.IPPROTO_IP, 14) if family == 4 else (socket.IPPROTO_IPV6, 24)))
            b.equal("path MTU", 1300, mtu)
    finally:
        b.world.ip("node", "link set vethpod1 mtu 1500")
