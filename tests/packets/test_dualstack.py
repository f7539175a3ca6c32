"""Two families, each on its own."""
import json

from lib.case import *

V4ONLY = both("v4", 11, ["pod1"], families=(4,), kind="LoadBalancer")
V6ONLY = both("v6", 12, ["pod1"], families=(6,), kind="LoadBalancer")
MIXED = [service("mixed", 13)] + slices("mixed", ["pod1"], families=(4,))
# SVC-4: external VIPs and node ports only in the families that have a ClusterIP
EXTERNALS = [changed(changed(service("ext", 14, families=(4,), kind="LoadBalancer", nodeport=30080), "spec",
                             "externalIPs", value=[addr("ext14", 6), addr("ext14", 4), "nonsense"]),
                     "status", value={"loadBalancer": {"ingress": [{"ip": addr("lb14", 6)}, {"ip": addr("lb14", 4)}]}})
             ] + slices("ext", ["pod1"])


def bare(n, family, clusterip):
    """SVC-6: only spec.clusterIP, no lists."""
    out = service("bare%d" % n, n, families=(family,))
    for field in ("clusterIPs", "ipFamilies", "ipFamilyPolicy"):
        out = changed(out, "spec", field, value=None)
    return [changed(out, "spec", "clusterIP", value=clusterip)] + slices("bare%d" % n, ["pod1"])


SIX_FIRST = [service("order", 17, families=(6, 4))] + slices("order", ["pod1", "r1"])
OBJECTS = (V4ONLY + V6ONLY + MIXED + EXTERNALS + bare(15, 4, addr("svc15", 4)) + bare(16, 6, addr("svc16", 6))
           + SIX_FIRST
           + [service("fqdn", 18)] + [changed(s, "addressType", value="FQDN") for s in slices("fqdn", ["pod1"])]
           # one family local, the other remote
           + [service("halves", 19, kind="LoadBalancer", lb=["lb19"], etp="Local")]
           + slices("halves", ["pod1"], families=(4,)) + slices("halves", ["r1"], families=(6,))
           # wrong family in a slice: the object alone is bad
           + [service("wrong", 20)]
           + [changed(s, "endpoints", value=[{"addresses": [addr("pod1", 10 - s_family)]}])
              for s_family, s in zip((4, 6), slices("wrong", ["pod1"]))])

four, six = {"families": (4,)}, {"families": (6,)}
group("dual stack", OBJECTS, [
    Row("IPv4 only", "SVC-5", "client", "svc11:80", reach("pod1"), **four),
    Row("IPv4 only: its IPv6 number is nobody's", "SVC-4 VER-6", "client", "svc11:80", DROPPED, **six),
    Row("IPv6 only", "SVC-5", "client", "svc12:80", reach("pod1"), **six),
    Row("IPv6 only: its IPv4 number is nobody's", "SVC-4 VER-6", "client", "svc12:80", DROPPED, **four),
    Row("endpoints in one family: reached", "DS-3 EPS-2", "client", "svc13:80", reach("pod1"), **four),
    Row("endpoints in one family: refused", "DS-3 EPS-2", "client", "svc13:80", REFUSED, **six),
    Row("external IP without ClusterIP of its family", "SVC-4 SVC-9", "client", "ext14:80", UNTOUCHED, **six),
    Row("external IP with it", "SVC-9", "client", "ext14:80", reach("pod1"), **four),
    Row("load balancer address without it", "SVC-4 SVC-9", "client", "lb14:80", UNTOUCHED, **six),
    Row("load balancer address with it", "SVC-9", "client", "lb14:80", reach("pod1"), **four),
    Row("node port without it", "SVC-4", "client", "node:30080", UNTOUCHED, **six),
    Row("node port with it", "SVC-5", "client", "node:30080", reach("pod1"), **four),
    Row("clusterIP alone", "SVC-6", "client", "svc15:80", reach("pod1"), **four),
    Row("clusterIP alone, IPv6", "SVC-6", "client", "svc16:80", reach("pod1"), **six),
    Row("IPv6 first", "DS-5 SVC-6", "client", "svc17:80", reach("pod1", "r1")),
    Row("FQDN slices", "EPS-2", "client", "svc18:80", REFUSED),
    Row("local in one family", "DS-3", "client", "lb19:80", reach("pod1", src="kept"), **four),
    Row("not local in the other", "DS-3 VER-3", "client", "lb19:80", DROPPED, **six),
    Row("addresses of the wrong family", "API-10", "client", "svc20:80", REFUSED),
])


@case("a Service gains and loses a family while it runs", "DS-4", (None,), both_protos)
def gains(b, proto):
    one = [service("web", 21, families=(4,))] + slices("web", ["pod1"])
    two = [service("web", 21)] + slices("web", ["pod1"])
    b.start(one)
    b.expect("client", "svc21:80", 6, proto, DROPPED)
    open4 = b.connection("client", "svc21:80", 4)
    b.apply(two)
    for family in both_families:
        b.expect("client", "svc21:80", family, proto, reach("pod1"))
    open6 = b.connection("client", "svc21:80", 6)
    b.apply(one)
    b.program.flush() if proto == "udp" else None
    b.expect("client", "svc21:80", 6, proto, DROPPED)
    b.expect("client", "svc21:80", 4, proto, reach("pod1"))
    if proto == "tcp":
        b.equal("IPv4 connection", open4.first, open4.ask())
        b.equal("IPv6 connection (VER-15)", open6.first, open6.ask())


@case("a kernel without IPv6", "DS-1 DS-2")
def no_ipv6(b):
    b.program.cleanup()
    w = b.world
    try:
        w.sysctl("node", net__ipv6__conf__all__disable_ipv6=1)
        b.program.write([node(families=(4,)), service_cidr()] + MIXED)
        status, _, err = b.program.run(*b.program.argv(("--cluster-cidr", "10.180.0.0/16"))[1:], "--once")
        b.equal("exit status, " + err, 0, status)
        b.expect("client", "svc13:80", 4, "tcp", reach("pod1"))
        b.true("no IPv6 table", "ip6 vipmap" not in b.in_node("nft", "list", "tables"))
        status, _, err = b.program.run(*b.program.argv(("--cluster-cidr", "fd00:180::/48"))[1:], "--once")
        b.equal("exit status with a clusterCIDR of the other family, " + err, 1, status)
        b.true("the field is named: " + err, "--cluster-cidr: the node is IPv4-only, but there is no IPv4 range" in err)
        b.program.write([node(families=(6,)), service_cidr()] + MIXED)
        status, _, err = b.program.run(*b.program.argv(("--cluster-cidr", "fd00:180::/48"))[1:], "--once")
        b.true("an error if the primary family is IPv6 (status %d): %s" % (status, err), status != 0)
    finally:
        w.rebuild()
