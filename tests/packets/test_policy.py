"""Traffic policies, local lists, terminating endpoints, hints: which endpoints a packet may reach."""
import re

from lib.case import *

EXTERNAL = ("lb", "ext", "np")  # the kinds of external VIP


def vip(kind, n):
    """How a row writes the VIP of this kind of Service number n."""
    return {"cluster": "svc%d:80" % n, "lb": "lb%d:80" % n, "ext": "ext%d:80" % n,
            "np": "node:%d" % (30100 + n)}[kind]


def full(name, n, endpoints, **more):
    """A Service with every kind of VIP."""
    return both(name, n, endpoints, kind="LoadBalancer", lb=["lb%d" % n], external=["ext%d" % n],
                nodeport=30100 + n, **more)


ENDPOINTS = {
    # name: (endpoints, cluster list, local list, alive)
    "mixed": (["pod1", "r1", "r2"], ["pod1", "r1", "r2"], ["pod1"], True),
    "remote only": (["r1", "r2"], ["r1", "r2"], [], True),
    "local only": (["pod1", "pod3"], ["pod1", "pod3"], ["pod1", "pod3"], True),
    "none": ([], [], [], False),
    "not ready": ([unready("pod1"), unready("r1")], [], [], False),
    # SEL-7: each list falls back on its own
    "local one terminating": ([terminating("pod1"), "r1"], ["r1"], ["pod1"], True),
    "remote one terminating": (["pod1", terminating("r1")], ["pod1"], ["pod1"], True),
    "all terminating": ([terminating("pod1"), terminating("r1")], ["pod1", "r1"], ["pod1"], True),
    "remote terminating only": ([terminating("r1")], ["r1"], [], True),
    "terminating but not serving": ([Ep("pod1", ready=False, serving=False, terminating=True)], [], [], False),
    "ready though terminating": ([Ep("pod1", ready=True, serving=False, terminating=True), terminating("pod2"),
                                  "r1"], ["pod1", "r1"], ["pod1"], True),
    "serving but not ready": ([Ep("pod1", ready=False, serving=True, terminating=False), "r1"], ["r1"], [], True),
    "no node name": ([Ep("pod1", node=None), "r1"], ["pod1", "r1"], [], True),
    "node name in capitals is another node": ([Ep("pod1", node="NODE1"), "r1"], ["pod1", "r1"], [], True),
    "a far address on this node": ([Ep("r1", node=THIS_NODE), "r2"], ["r1", "r2"], ["r1"], True),
}


def verdict(chosen, alive, src=None):
    if not alive:
        return REFUSED
    return reach(*chosen, src=src) if chosen else DROPPED


def expectation(kind, itp, etp, source, cluster, local, alive):
    """Section 5 and 7 of the spec for one packet: POL-1, POL-2, MASQ-2, MASQ-4."""
    pod, host = source in ("pod2", "rpod"), source == "node"
    if kind == "cluster":
        return verdict(local if itp == "Local" else cluster, alive, "kept" if pod else "node")
    if etp != "Local":
        return verdict(cluster, alive, "node")
    if pod:
        return verdict(cluster, alive, "kept")
    if host:
        return verdict(cluster, alive, "node")
    return verdict(local, alive, "kept")


def matrix():
    objects, rows, n = [], [], 0
    ids = {"cluster": "POL-1 POL-4 MASQ-2 MASQ-9", "lb": "POL-2 POL-4 POL-5 MASQ-4", "ext": "POL-2 POL-3 POL-5 MASQ-4",
           "np": "POL-2 POL-5 MASQ-4"}
    for title, (endpoints, cluster, local, alive) in ENDPOINTS.items():
        for itp, etp in (("Cluster", "Cluster"), ("Local", "Cluster"), ("Cluster", "Local"), ("Local", "Local")):
            if (itp == etp == "Local" or itp == etp == "Cluster") and title not in ("mixed", "none", "remote only"):
                continue
            n += 1
            objects += full("p%d" % n, n, endpoints, itp=itp, etp=etp)
            for kind in ("cluster",) + EXTERNAL:
                if kind == "ext" and title not in ("mixed", "remote only"):
                    continue
                for source in ("pod2", "node", "client"):
                    want = expectation(kind, itp, etp, source, cluster, local, alive)
                    extra = {"drop": " VER-3", "refuse": " VER-2 VER-10"}.get(want.kind, "")
                    # both families and protocols take the same way once past the first two tables
                    slim = {"slim": title not in ("mixed", "none") or etp == itp == "Local"}
                    rows.append(Row("%s, internal %s, external %s: %s from %s" % (title, itp, etp, kind, source),
                                    ids[kind] + " SEL-4 SEL-5 SEL-6 SEL-7" + extra, source, vip(kind, n), want,
                                    **slim))
    return objects, rows


OBJECTS, ROWS = matrix()
group("policy", OBJECTS, ROWS)

# POL-3: absent policies mean Cluster; externalTrafficPolicy counts for ClusterIP only with external IPs
group("policy field", (
    both("lbtype", 101, ["pod1", "r1"], kind="LoadBalancer", lb=["lb101"])
    + both("extlocal", 102, ["pod1", "r1"], external=["ext102"], etp="Local")
    + both("lblocal", 103, ["pod1", "r1"], lb=["lb103"], etp="Local")
    + both("extlb", 104, ["pod1", "r1"], external=["ext104"], lb=["lb104"], etp="Local")
    + both("npelse", 105, ["pod1", "r1"], nodeport=30205, etp="Local")
), [
    Row("absent", "POL-3", "client", "lb101:80", reach("pod1", "r1", src="node")),
    Row("type ClusterIP with external IPs", "POL-3", "client", "ext102:80", reach("pod1", src="kept")),
    Row("type ClusterIP without external IPs", "POL-3", "client", "lb103:80", reach("pod1", "r1", src="node")),
    Row("type ClusterIP with external IPs, load balancer address", "POL-3 SVC-7", "client", "lb104:80",
        reach("pod1", src="kept")),
    Row("node port of type ClusterIP", "POL-3 SVC-7", "client", "node:30205", reach("pod1", "r1", src="node")),
    Row("the ClusterIP does not mind", "POL-4", "client", "svc102:80", reach("pod1", "r1", src="node")),
])

group("no local detection", (
    full("local", 110, ["pod1", "r1"], etp="Local") + full("remote", 111, ["r1"], etp="Local")
), [
    Row("a pod is an outside source", "POL-6", "pod2", "lb110:80", reach("pod1", src="kept")),
    Row("a pod, no local endpoint", "POL-6", "pod2", "lb111:80", DROPPED),
    Row("a host process keeps its short-circuit", "POL-6", "node", "lb110:80", reach("pod1", "r1", src="node")),
    Row("a host process, no local endpoint", "POL-6", "node", "lb111:80", reach("r1", src="node")),
    Row("a ClusterIP is not masqueraded", "MASQ-3", "client", "svc110:80", reach("pod1", "r1", src="kept")),
], flags=())

# POL-7: the node's own addresses inside the cluster range: pod before host
group("a source that is both pod and host", full("both", 112, ["r1", "r2", "pod1"], etp="Local"), [
    Row("counts as pod", "POL-7", "node", "lb112:80", reach("r1", "r2", "pod1", src="kept")),
], flags=("--cluster-cidr", "192.168.0.0/16,fd00:1::/64"))


# Hints
def hinted(name, zones=(), nodes=(), **more):
    return Ep(name, zones=zones, nodes=nodes, **more)


def hint_services():
    z1, z2 = ("z1",), ("z2",)
    return (
        full("zones", 120, [hinted("pod1", z1), hinted("r1", z1), hinted("r2", z2)], etp="Local")
        + full("onezone", 121, [hinted("pod1", z2), hinted("r2", z2)])          # no hint for z1: all
        + full("unhinted", 122, [hinted("pod1", z1), hinted("r1", z2), "r2"])     # one without: all
        + full("nodes", 123, [hinted("pod1", z2, (THIS_NODE,)), hinted("r1", z1, (OTHER_NODE,))])
        + full("nodesnot", 124, [hinted("pod1", z2, (OTHER_NODE,)), hinted("r1", z1, (OTHER_NODE,))])
        + full("twozones", 125, [hinted("pod1", ("z1", "z2")), hinted("r1", z2), hinted("r2", ("z3", "z1"))])
        # SEL-2: those not ready neither demand nor satisfy
        + full("notready", 126, [hinted("pod1", z1, ready=False), hinted("r1", z2), hinted("r2", z2)])
        + full("notready2", 127, [hinted("pod1", z1), hinted("r1", z2), unready("r2")])
        # SEL-1, step 4: hints play no part among terminating ones
        + full("terminating", 128, [terminating("pod1", zones=z1), terminating("r1", zones=z2)])
        # SEL-3: judged per port
        + [service("perport", 129, ports=(80, 81))]
        + slices("perport", [hinted("pod1", z1), hinted("r1", z2)], ports=(80,))
        + slices("perport", ["pod1", "r1"], ports=(81,), target=8081)
        + full("partnodes", 130, [hinted("pod1", z1, (THIS_NODE,)), hinted("r1", z1), hinted("r2", z2)])
    )


group("hints", lambda: [node(zone="z1"), service_cidr()] + hint_services(), [
    Row("this zone's", "SEL-1 EPS-12 EPS-13", "pod2", "svc120:80", reach("pod1", "r1")),
    Row("this zone's, external VIP from a pod", "SEL-1", "pod2", "lb120:80", reach("pod1", "r1")),
    Row("the local list does not mind", "SEL-4", "client", "lb120:80", reach("pod1", src="kept")),
    Row("none for this zone", "SEL-1", "pod2", "svc121:80", reach("pod1", "r2")),
    Row("one without hint", "SEL-1", "pod2", "svc122:80", reach("pod1", "r1", "r2")),
    Row("node hints come before zone hints", "SEL-1 EPS-12", "pod2", "svc123:80", reach("pod1")),
    Row("node hints for other nodes: zone hints", "SEL-1", "pod2", "svc124:80", reach("r1")),
    Row("several zones", "EPS-12", "pod2", "svc125:80", reach("pod1", "r2")),
    Row("one that is not ready does not satisfy", "SEL-2", "pod2", "svc126:80", reach("r1", "r2")),
    Row("one that is not ready does not demand", "SEL-2", "pod2", "svc127:80", reach("pod1")),
    Row("terminating ones", "SEL-1", "pod2", "svc128:80", reach("pod1", "r1")),
    Row("port with hints", "SEL-3", "pod2", "svc129:80", reach("pod1")),
    Row("port without", "SEL-3", "pod2", "svc129:81", reach("pod1:8081", "r1:8081")),
    Row("node hints on some only", "SEL-1", "pod2", "svc130:80", reach("pod1", "r1")),
], with_base=False)

group("hints, node without a zone", hint_services(), [
    Row("zone hints do not apply", "SEL-1", "pod2", "svc120:80", reach("pod1", "r1", "r2")),
    Row("node hints do", "SEL-1", "pod2", "svc123:80", reach("pod1")),
])
group("hints, empty zone", lambda: [node(zone=""), service_cidr()] + hint_services(), [
    Row("zone hints do not apply", "SEL-1", "pod2", "svc120:80", reach("pod1", "r1", "r2")),
], with_base=False)


@case("the node moves to another zone", "EPS-13", both_families)
def zone_moves(b, family):
    objects = hint_services()
    b.program.start([node(zone="z1"), service_cidr()] + objects, *DETECT)
    b.expect("pod2", "svc120:80", family, "tcp", reach("pod1", "r1"))
    b.program.apply([node(zone="z2"), service_cidr()] + objects)
    b.expect("pod2", "svc120:80", family, "tcp", reach("r2"))
    b.program.apply([node(), service_cidr()] + objects)
    b.expect("pod2", "svc120:80", family, "tcp", reach("pod1", "r1", "r2"))


@case("explain knows every address of this node", "POL-2 POL-7", both_families)
def explained_source(b, family):
    b.once(full("web", 60, ["r1"], etp="Local"))
    for source, want in (("node", "this node"), ("node2", "this node"), ("client", "outside"), ("pod1", "a pod")):
        _, text, _ = b.program.run(*b.program.argv(DETECT)[1:], "explain", addr(source, family), "tcp",
                                   addr("lb60", family), "80")
        b.equal("source of %s" % source, want, re.match(r"packet +\S+ \((.*)\) ->", text).group(1))
