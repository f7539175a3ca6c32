"""SCTP by injection: this kernel has no SCTP sockets, so INIT packets are made by hand and looked for where they
must arrive."""
import itertools

from lib.case import *
from lib import packet

SCTP = ("SCTP",)
OBJECTS = (
    both("web", 11, ["pod1", "r1"], protos=SCTP, kind="LoadBalancer", lb=["lb11"], external=["ext11"], nodeport=30111)
    + both("local", 12, ["pod1", "r1"], protos=SCTP, kind="LoadBalancer", lb=["lb12"], nodeport=30112, etp="Local")
    + both("none", 13, [], protos=SCTP, kind="LoadBalancer", lb=["lb13"], nodeport=30113)
    + both("far", 14, ["r1"], protos=SCTP, kind="LoadBalancer", lb=["lb14"], etp="Local", itp="Local")
    + both("ranges", 15, ["pod1"], protos=SCTP, kind="LoadBalancer", lb=["lb15"],
           ranges=["203.0.113.0/25", "2001:db8:113::/49"])
    + both("self", 16, ["pod1"], protos=SCTP)
    + both("sticky", 17, ["pod1", "pod2", "r1", "r2"], protos=SCTP, affinity=600)
    # TCP on the same number of another Service (NP-1)
    + both("tcp", 18, ["pod2"], protos=("TCP",), kind="NodePort", nodeport=30111)
)
_sport = itertools.count(10000)

ROWS = [
    ("ClusterIP", "PROTO-1", "client", "svc11:80", reach("pod1", "r1", src="node")),
    ("ClusterIP from a pod", "PROTO-1", "pod2", "svc11:80", reach("pod1", "r1", src="kept")),
    ("ClusterIP from a host process", "PROTO-1 VER-8", "node", "svc11:80", reach("pod1", "r1", src="node")),
    ("load balancer address", "PROTO-1", "client", "lb11:80", reach("pod1", "r1", src="node")),
    ("external IP", "PROTO-1", "client", "ext11:80", reach("pod1", "r1", src="node")),
    ("node port", "PROTO-1 NP-1", "client", "node:30111", reach("pod1", "r1", src="node")),
    ("Local from outside", "PROTO-1 POL-2", "client", "lb12:80", reach("pod1", src="kept")),
    ("Local from a pod", "PROTO-1 POL-5", "pod2", "lb12:80", reach("pod1", "r1", src="kept")),
    ("Local node port", "PROTO-1", "client", "node:30112", reach("pod1", src="kept")),
    ("no endpoint", "VER-18 VER-2", "client", "svc13:80", REFUSED),
    ("no endpoint, from a pod", "VER-18 VER-2", "pod2", "svc13:80", REFUSED),
    ("no endpoint, load balancer", "VER-18 VER-2", "client", "lb13:80", REFUSED),
    ("no endpoint, node port", "VER-18 VER-2", "client", "node:30113", REFUSED),
    ("no endpoint, from a host process", "VER-18 VER-17", "node", "svc13:80", REFUSED),
    ("undefined port", "VER-5", "client", "svc11:81", REFUSED),
    ("no local endpoint", "VER-3", "client", "lb14:80", DROPPED),
    ("no local endpoint, internal", "VER-3", "client", "svc14:80", DROPPED),
    ("unallocated address", "VER-6", "client", "free1:80", DROPPED),
    ("source range, inside", "LB-4", "client2", "lb15:80", reach("pod1")),
    ("source range, outside", "LB-4 VER-1", "client", "lb15:80", DROPPED),
    ("hairpin", "MASQ-13 MASQ-5", "pod1", "svc16:80", reach("pod1", src="node")),
    ("undefined port of a load balancer address", "VER-7", "client", "lb11:81", UNTOUCHED),
]


def inject(b, source, destination, family):
    """One INIT: ("reached", endpoint, source port, packet), ("refused", ...), ("silent", ...)."""
    w = b.world.name
    target, _, port = destination.rpartition(":")
    sport = next(_sport)
    everywhere = [w[n] for n in ("client", "pod1", "pod2", "pod3", "remote", "world", "node", "rpod")]
    sender = w[topology.namespace_of(source)]
    with packet.Sniffer(*everywhere) as sniffer:
        packet.send_sctp(sender, family, addr(source, family), sport, addr(target, family), int(port))

        def answer(ns, p):
            if p.inner is not None and p.inner.proto == packet.SCTP and p.inner.sport == sport and ns == sender:
                # the endpoint's kernel knows no SCTP either and says so, which is no refusal
                return (p.type, p.code) not in ((3, 2), (4, 1))
            # the fake tag tells it from other SCTP even after masquerading
            return p.proto == packet.SCTP and ns != w["node"] and p.payload[16:20] == b"\x12\x34\x56\x78"
        got = sniffer.collect(answer, 1.0)
    if not got:
        return "silent", None, sport
    if got[1].inner is not None:
        return "refused", got[1], sport
    return "reached", got[1], sport


def judge(b, source, destination, want, family):
    endpoints = want.addresses(family)
    seen = set()
    for _ in range(probes_needed(len(endpoints)) if len(endpoints) > 1 else 3 if endpoints else 2):
        kind, p, sport = inject(b, source, destination, family)
        expected = {"reach": "reached", "pass": "reached", "refuse": "refused", "drop": "silent"}[want.kind]
        b.equal("%s to %s %s" % (source, destination, p or ""), expected, kind)
        if kind == "refused":
            b.equal("the error", (3, 3) if family == 4 else (1, 4), (p.type, p.code))
        if kind != "reached":
            continue
        b.true("checksum", packet.sctp_checksum_right(p.payload), "right")
        if want.kind == "pass":
            target, _, port = destination.rpartition(":")
            b.equal("destination", (addr(target, family), int(port)), (p.dst, p.dport))
            b.equal("source", (addr(source, family), sport), (p.src, p.sport))
            continue
        seen.add(join(p.dst, p.dport))
        if want.src == "kept":
            b.equal("source", (addr(source, family), sport), (p.src, p.sport))
        elif want.src == "node":
            b.true("source %s" % p.src, p.src in b.world.node_addresses[family], "an address of the node")
    if endpoints:
        b.equal("endpoints", {a for _, a in endpoints}, seen)


def add_rows():
    for name, ids, source, destination, want in ROWS:
        def check(b, family, source=source, destination=destination, want=want):
            if b.__dict__.get("sctp_ready") is None:
                b.once(OBJECTS)
                b.sctp_ready = True
            judge(b, source, destination, want, family)
        case("SCTP: " + name, ids, both_families)(check)


add_rows()


@case("SCTP: session affinity", "PROTO-1 AFF-1", both_families)
def affinity(b, family):
    for client in ("many1", "many2", "many3"):
        seen = set()
        for _ in range(8):
            kind, p, _ = inject(b, client, "svc17:80", family)
            b.equal("INIT", "reached", kind)
            seen.add(p.dst)
        b.equal("endpoints of " + client, 1, len(seen))
