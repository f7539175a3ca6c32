"""ClusterIPs: which Services are programmed, which endpoints are reached, and what happens at their other ports."""
from lib.case import *

OBJECTS = (
    both("one", 11, ["pod1"])
    + both("many", 12, ["pod1", "pod2", "r1", "r2"])
    + both("ports", 13, ["pod1", "r1"], ports=(80,), target=8080)
    + [service("multi", 14, ports=(80, 81))]
    + slices("multi", ["pod1"], ports=(80,), target=8080) + slices("multi", ["r1"], ports=(81,), target=8081)
    # EPS-5: other slices, other target ports for the same service port
    + both("targets", 15, ["pod1:8080", "pod1:8081", "r1:8082"])
    # several slices are one list (EPS-8), also when they overlap
    + [service("union", 16)] + slices("union", ["pod1", "r1"]) + slices("union", ["r1", "r2"], suffix="-b")
    # an endpoint far away from any pod range (EPS-9)
    + both("far", 17, [Ep("world", node=None)])
    + [service("noendpoints", 18)]
    + both("unready", 19, [unready("pod1"), unready("r1")])
    # a terminating entry for the same address in another slice loses (EPS-8)
    + [service("twice", 20)] + slices("twice", [terminating("pod1"), "r1"], suffix="-a")
    + slices("twice", ["pod1"], suffix="-b")
    # EPS-6: the second address is nothing
    + [service("second", 21)]
    + [changed(s, "endpoints", value=[{"addresses": [addr("pod1", f), addr("pod2", f)]}])
       for f, s in zip((4, 6), slices("second", ["pod1"]))]
    # SVC-1, SVC-2, SVC-3: nothing is programmed for these, their addresses count as unallocated (VER-6, VER-12)
    + [changed(changed(service("headless", 22), "spec", "clusterIP", value="None"), "spec", "clusterIPs", value=["None"])] + slices("headless", ["pod1"])
    + [service("external", 23, kind="ExternalName", externalName="example.org")] + slices("external", ["pod1"])
    + both("otherproxy", 24, ["pod1"], labels={"service.kubernetes.io/service-proxy-name": ""})
    # headless slices (API-2, API-7) feed nobody
    + [service("headlessslice", 25)]
    + slices("headlessslice", ["pod1"], labels={"kubernetes.io/service-name": "headlessslice",
                                                "service.kubernetes.io/headless": ""})
    # EPS-1: the label decides, not the slice's name; the namespace counts
    + [service("label", 26)] + slices("other-name", ["pod1"], labels={"kubernetes.io/service-name": "label"})
    + slices("label", ["r1"], labels={"kubernetes.io/service-name": ""})
    + slices("label", ["r2"], namespace="elsewhere")
    # EPS-3: names must match
    + [service("names", 27)] + [changed(s, "ports", value=[{"name": "wrong", "protocol": "TCP", "port": 8080},
                                                           {"name": "wrong", "protocol": "UDP", "port": 8080}])
                                for s in slices("names", ["pod1"])]
    # SVC-8: fields and annotations without meaning here
    + [changed(o, "metadata", "annotations", value={
        "service.kubernetes.io/topology-mode": "Auto",
        "service.beta.kubernetes.io/load-balancer-source-ranges": "203.0.113.0/25"}) if o["kind"] == "Service" else o
       for o in both("ignored", 28, ["pod1"], publishNotReadyAddresses=True, trafficDistribution="PreferClose",
                     loadBalancerIP="1.2.3.200", loadBalancerClass="x", selector={"app": "nothing"})]
    # the same port number, TCP here and UDP there (PROTO-1)
    + [changed(service("split", 29), "spec", "ports", value=[
        {"name": "t", "protocol": "TCP", "port": 80}, {"name": "u", "protocol": "UDP", "port": 80}])]
    + [changed(s, "ports", value=[{"name": "t", "protocol": "TCP", "port": 8080},
                                  {"name": "u", "protocol": "UDP", "port": 8081}]) for s in slices("split", ["pod1"])]
)
# an unnamed port, as a Service with one port may have it
OBJECTS += [changed(service("unnamed", 30, protos=("TCP",)), "spec", "ports",
                    value=[{"protocol": "TCP", "port": 80, "targetPort": 8080}])]
OBJECTS += [changed(s, "ports", value=[{"name": "", "protocol": "TCP", "port": 8080}])
            for s in slices("unnamed", ["pod1", "r1"], protos=("TCP",))]

group("ClusterIP", OBJECTS, [
    Row("one endpoint, from outside", "SVC-5 VER-4", "client", "svc11:80", reach("pod1", src="node")),
    Row("one endpoint, from a pod", "VER-8", "pod2", "svc11:80", reach("pod1", src="kept")),
    Row("one endpoint, from a pod on a bridge to one beside it", "VER-4", "pod3", "svc12:80",
        reach("pod1", "pod2", "r1", "r2", src="kept")),
    Row("one endpoint, from a host process", "VER-8", "node", "svc11:80", reach("pod1", src="node")),
    Row("one endpoint, from a host process, source left to the kernel", "VER-8", "host", "svc11:80", reach("pod1")),
    Row("all endpoints and only them, from outside", "SEL-8 SVC-5", "client", "svc12:80",
        reach("pod1", "pod2", "r1", "r2", src="node")),
    Row("all endpoints, from another node's pod", "MASQ-8", "rpod", "svc12:80",
        reach("pod1", "pod2", "r1", "r2", src="kept")),
    Row("all endpoints, from a host process", "SEL-8", "node", "svc12:80", reach("pod1", "pod2", "r1", "r2")),
    Row("two ports, each with its own endpoints: first", "EPS-3", "client", "svc14:80", reach("pod1:8080")),
    Row("two ports, each with its own endpoints: second", "EPS-3", "client", "svc14:81", reach("r1:8081")),
    Row("different target ports", "EPS-5", "client", "svc15:80", reach("pod1:8080", "pod1:8081", "r1:8082")),
    Row("union of slices", "EPS-8", "client", "svc16:80", reach("pod1", "r1", "r2")),
    Row("endpoint outside of every pod range", "EPS-9", "client", "svc17:80", reach("world:8080")),
    Row("not terminating beats terminating", "EPS-8", "client", "svc20:80", reach("pod1", "r1")),
    Row("only the first address of an endpoint", "EPS-6", "client", "svc21:80", reach("pod1")),
    Row("the slice's label names the Service", "EPS-1", "client", "svc26:80", reach("pod1")),
    Row("port names that do not match", "EPS-3", "client", "svc27:80", REFUSED),
    Row("fields without meaning", "SVC-8", "client", "svc28:80", reach("pod1")),
    Row("the same number is another port for UDP: TCP", "PROTO-1", "client", "svc29:80", reach("pod1:8080"),
        protos=("tcp",)),
    Row("the same number is another port for UDP: UDP", "PROTO-1", "client", "svc29:80", reach("pod1:8081"),
        protos=("udp",)),
    Row("unnamed port", "EPS-3", "client", "svc30:80", reach("pod1", "r1"), protos=("tcp",)),
    Row("unnamed port, the other protocol", "VER-5", "client", "svc30:80", REFUSED, protos=("udp",)),
])

for source in ("client", "pod1", "rpod", "node", "host"):
    group("ClusterIP refused, from " + source, OBJECTS, [
        Row("no slices", "VER-2 VER-18 EPS-11", source, "svc18:80", REFUSED),
        Row("no endpoint is ready", "VER-2 SEL-6 SEL-5", source, "svc19:80", REFUSED),
        Row("only slices for headless Services", "API-2 API-7", source, "svc25:80", REFUSED),
        Row("a port no Service has", "VER-5", source, "svc11:81", REFUSED),
        Row("a node port number", "VER-5", source, "svc11:30080", REFUSED),
        Row("Service of another proxy", "SVC-3 VER-12 API-1 API-7", source, "svc24:80", DROPPED),
        Row("headless", "SVC-1", source, "svc22:80", DROPPED),
        Row("ExternalName", "SVC-2", source, "svc23:80", DROPPED),
        Row("an address no Service has", "VER-6", source, "free1:80", DROPPED),
    ])


@case("many refusals are all quick", "VER-18 VER-19", both_families, both_protos)
def refusals(b, family, proto):
    b.once(OBJECTS)
    results = b.probe("client", "svc18:80", family, proto, count=150, timeout=3)
    slow = [r for r in results if r.kind != "refused" or r.took > QUICK]
    b.true("slow or unanswered: %s" % [str(r) for r in slow[:3]], len(slow) <= 3)


@case("a Service that follows its slices in and out", "EPS-11 SVC-12", both_families, both_protos)
def order(b, family, proto):
    svc, eps = [service("web", 40)], slices("web", ["pod1"])
    b.once(eps)
    b.expect("client", "svc40:80", family, proto, DROPPED)
    b.once(svc + eps)
    b.expect("client", "svc40:80", family, proto, reach("pod1"))
    b.once(svc)
    b.expect("client", "svc40:80", family, proto, REFUSED)
    b.once([])
    b.expect("client", "svc40:80", family, proto, DROPPED)


@case("nothing is left of what was there", "SVC-12 RUN-7")
def residue(b):
    b.program.cleanup()
    b.start([])
    b.apply([])
    empty = b.kernel_objects()
    b.apply(OBJECTS + both("sticky", 41, ["pod1", "r1"], affinity=100, kind="LoadBalancer", lb=["lb41"], etp="Local",
                           nodeport=30099, ranges=["10.0.0.0/8", "fd00::/8"]))
    b.true("there is something to remove", b.kernel_objects() != empty)
    b.apply([])
    b.true("elements go at once", "default/sticky" not in b.in_node("nft", "list", "map", "ip", "vipmap",
                                                                   "service-ips"))
    # chains and maps of session affinity are collected a little later
    b.until("objects that an empty ruleset does not have", [],
            lambda: [o for o in b.kernel_objects() if o not in empty], seconds=60)


@case("--cleanup leaves nothing, and nothing to do is success", "RUN-9")
def cleanup(b):
    b.once(OBJECTS)
    b.nft("table ip foreign { chain c { counter; }\n}")
    b.program.cleanup()
    b.equal("tables", ["table ip foreign"], b.in_node("nft", "list", "tables").splitlines())
    b.program.cleanup()
    for proto in both_protos:
        b.expect("client", "svc11:80", 4, proto, UNTOUCHED)
    b.in_node("nft", "delete", "table", "ip", "foreign")
