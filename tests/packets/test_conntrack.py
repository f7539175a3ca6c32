"""Stale UDP entries: what must go, and what must stay. A flow here is one socket that keeps sending, so only a fresh
conntrack entry can bring it to another endpoint."""
import signal

from lib.case import *


def web(endpoints, **more):
    return both("web", 11, endpoints, kind="LoadBalancer", lb=["lb11"], external=["ext11"], nodeport=30080, **more)


VIPS = ("svc11:80", "lb11:80", "ext11:80", "node:30080")


def at(flow):
    """Where the flow's next datagram is answered: "NAMESPACE ADDRESS:PORT", or the error."""
    words = flow.ask().split()
    return " ".join(words[:2])


def place(name, family):
    host, _, port = name.partition(":")
    return "%s %s" % (topology.namespace_of(host), join(addr(host, family), int(port or 8080)))


def moves(b, flow, want):
    """Cleanup follows the rules a moment later (RUN-12)."""
    b.until("the flow from port %d" % flow.sport, want, lambda: at(flow))


def stays(b, flow, want, seconds=0.7):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        b.equal("the flow from port %d" % flow.sport, want, at(flow))
        time.sleep(0.1)


def flow(b, vip, family, source="client", sport=0):
    f = b.connection(source, vip, family, "udp", sport)
    f.sock.settimeout(0.3)
    return f


for vip in VIPS:
    @case("the endpoint goes: " + vip, "CT-1 RUN-12", both_families)
    def endpoint_goes(b, family, vip=vip):
        b.start(web(["pod1"]))
        f = flow(b, vip, family)
        b.equal("first", place("pod1", family), at(f))
        b.apply(web(["r1"]))
        moves(b, f, place("r1", family))

    @case("the last endpoint goes: " + vip, "CT-4", both_families)
    def last_goes(b, family, vip=vip):
        b.start(web(["pod1"]))
        f = flow(b, vip, family)
        b.equal("first", place("pod1", family), at(f))
        b.apply(web([]))
        moves(b, f, "ECONNREFUSED")
        b.apply(web(["r1"]))
        moves(b, f, place("r1", family))

    @case("the Service goes: " + vip, "CT-5", both_families)
    def service_goes(b, family, vip=vip):
        b.start(web(["pod1"]))
        f = flow(b, vip, family)
        b.equal("first", place("pod1", family), at(f))
        b.apply([])
        moves(b, f, {"svc11:80": "silent", "node:30080": "node " + join(addr("node", family), 30080)}.get(
            vip, "world " + join(addr(vip.split(":")[0], family), 80)))


@case("flows to other endpoints stay", "CT-1", both_families)
def others_stay(b, family):
    b.start(web(["pod1", "r1"]))
    flows = [flow(b, "svc11:80", family) for _ in range(16)]
    first = [at(f) for f in flows]
    b.apply(web(["pod1", "r2"]))
    for f, was in zip(flows, first):
        if was == place("pod1", family):
            stays(b, f, was, 0.05)
        else:
            b.until("a flow of the endpoint that went", True,
                    lambda f=f: at(f) in (place("pod1", family), place("r2", family)))


@case("from pods and host processes", "CT-1", both_families)
def other_sources(b, family):
    b.start(web(["pod1"]))
    flows = [flow(b, vip, family, source) for source in ("pod2", "node", "rpod") for vip in VIPS]
    for f in flows:
        b.equal("first", place("pod1", family), at(f))
    b.apply(web(["r1"]))
    for f in flows:
        moves(b, f, place("r1", family))


for title, endpoint in (("terminating", terminating("pod1")),
                        ("no longer ready", Ep("pod1", ready=False, serving=True, terminating=False)),
                        ("on another zone's hint", Ep("pod1", zones=("elsewhere",)))):
    @case("a serving endpoint keeps its flows: " + title, "CT-2", both_families)
    def serving_stays(b, family, endpoint=endpoint):
        b.start(web(["pod1"]))
        f = flow(b, "svc11:80", family)
        b.apply(web([endpoint, Ep("r1", zones=("elsewhere",)) if endpoint.zones else "r1"]))
        stays(b, f, place("pod1", family))


@case("a ready endpoint that is not serving does not keep its flows", "CT-2", both_families)
def not_serving(b, family):
    b.start(web(["pod1"]))
    f = flow(b, "svc11:80", family)
    b.apply(web([Ep("pod1", ready=False, serving=False, terminating=True), "r1"]))
    moves(b, f, place("r1", family))


@case("policies do not matter", "CT-2", both_families)
def policy(b, family):
    b.start(web(["r1"]))
    f = flow(b, "lb11:80", family)
    b.apply(web(["r1", "pod1"], etp="Local"))
    stays(b, f, place("r1", family))


@case("traffic was there before the Service", "CT-3 CT-6", both_families)
def before_service(b, family):
    b.start([])
    flows = [(vip, flow(b, vip, family)) for vip in ("lb11:80", "ext11:80", "node:30080")]
    for vip, f in flows:
        host, _, port = vip.partition(":")
        b.equal("first", "%s %s" % ("node" if host == "node" else "world", join(addr(host, family), int(port))), at(f))
    b.apply(web(["pod1"]))
    for _, f in flows:
        moves(b, f, place("pod1", family))


@case("a VIP is added and removed", "CT-5 CT-6", both_families)
def vip_changes(b, family):
    plain = both("web", 11, ["pod1"])
    b.start(plain)
    f, other = flow(b, "ext11:80", family), flow(b, "svc11:80", family)
    world = "world " + join(addr("ext11", family), 80)
    b.equal("first", world, at(f))
    b.apply(web(["pod1"]))
    moves(b, f, place("pod1", family))
    b.apply(plain)
    moves(b, f, world)
    stays(b, other, place("pod1", family), 0.3)


@case("the Node gets another address: node ports come to it, and leave the old one", "CT-1 CT-5 NODE-4", both_families)
def node_address(b, family):
    b.program.start([node(), service_cidr()] + web(["pod1"]), *DETECT)
    old, new = flow(b, "node:30080", family), flow(b, "node2:30080", family)
    b.equal("first", place("pod1", family), at(old))
    # what the cleanup of the start did not delete has come after it
    stays(b, new, place("node2:30080", family))
    b.program.apply([node(addresses=("node2",)), service_cidr()] + web(["pod1"]))
    moves(b, new, place("pod1", family))
    moves(b, old, place("node:30080", family))
    b.program.apply([node(addresses=("node2",))] + web(["pod1"]))
    stays(b, new, place("pod1", family), 0.3)


CONFIG = """
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: 10.180.0.0/16,fd00:180::/48
conntrack: {maxPerCore: 0}
nodePortAddresses: %s
"""


@case("another configuration offers node ports on more addresses, and on fewer", "CT-1 CT-5 CFG-3 NP-2", both_families)
def node_port_addresses(b, family):
    def reload(addresses):
        b.program.file("config.yaml", CONFIG % addresses)
        b.program.process.send_signal(signal.SIGHUP)
    b.start(web(["pod1"]), "--config", b.program.file("config.yaml", CONFIG % '["primary"]'))
    first, second = flow(b, "node:30080", family), flow(b, "node2:30080", family)
    b.equal("first", place("pod1", family), at(first))
    stays(b, second, place("node2:30080", family))
    reload('["all"]')
    moves(b, second, place("pod1", family))
    reload('["primary"]')
    moves(b, second, place("node2:30080", family))
    stays(b, first, place("pod1", family), 0.3)


@case("the Node gets another address while nobody runs", "CT-5 NODE-4", both_families)
def node_address_meanwhile(b, family):
    b.program.start([node(), service_cidr()] + web(["pod1"]), *DETECT)
    old = flow(b, "node:30080", family)
    b.equal("first", place("pod1", family), at(old))
    b.stop()
    b.program.start([node(addresses=("node2",)), service_cidr()] + web(["pod1"]), *DETECT)
    moves(b, old, place("node:30080", family))


@case("the target port changes", "CT-3", both_families)
def target_port(b, family):
    b.start(web(["pod1:8080"]))
    f = flow(b, "svc11:80", family)
    b.apply(web(["pod1:8081"]))
    moves(b, f, place("pod1:8081", family))


@case("the service port changes", "CT-5", both_families)
def service_port(b, family):
    b.start(web(["pod1"]))
    f = flow(b, "svc11:80", family)
    b.apply(both("web", 11, ["pod1"], ports=(81,)))
    moves(b, f, "ECONNREFUSED")


@case("an endpoint goes while nobody runs", "CT-1 RUN-2", both_families)
def while_stopped(b, family):
    b.start(web(["pod1"]))
    f = flow(b, "svc11:80", family)
    b.equal("first", place("pod1", family), at(f))
    b.stop()
    b.start(web(["r1"]))
    moves(b, f, place("r1", family))


@case("a restart leaves living flows alone", "CT-8 RUN-2", both_families)
def restart(b, family):
    b.start(web(["pod1", "r1"]))
    flows = [flow(b, vip, family) for vip in VIPS for _ in range(3)]
    first = [at(f) for f in flows]
    b.stop()
    b.start(web(["pod1", "r1"]))
    time.sleep(0.3)
    b.equal("flows", first, [at(f) for f in flows])


def foreign(b, family):
    """Flows that have nothing to do with a VIP, though they may look like it."""
    return [flow(b, target, family, source) for source, target in (
        ("client", "ext99:30080"),      # the node port's number at another host (CT-7)
        ("client", "node2:30080"),      # ... and at an address of this node where it is not offered
        ("client", "lb11:81"), ("pod2", "lb99:80"), ("client", "r1:8080"), ("host", "world:80"))]


@case("flows of no VIP are never touched", "CT-7 CT-8", both_families)
def foreign_flows(b, family):
    b.start(web(["pod1"]))
    flows = foreign(b, family)
    ids = lambda: {line.split("id=")[1] for line in b.in_node(
        "conntrack", "-L", "-f", "ipv%d" % family, "-p", "udp", "-o", "id").splitlines() if "id=" in line}
    first = [at(f) for f in flows]
    kept = ids()
    b.equal("entries", len(flows), len(kept))
    victim = flow(b, "svc11:80", family)
    b.apply(web(["r1"]))
    moves(b, victim, place("r1", family))
    b.apply(web([]))
    moves(b, victim, "ECONNREFUSED")
    b.apply([])
    time.sleep(0.2)
    b.equal("answers", first, [at(f) for f in flows])
    b.equal("entries that were replaced", set(), kept - ids())


@case("TCP entries are never touched", "CT-8 VER-15", both_families)
def tcp_stays(b, family):
    b.start(web(["pod1"]))
    open_ones = [b.connection("client", vip, family) for vip in VIPS]
    first = [c.first for c in open_ones]
    b.apply(web(["r1"]))
    b.apply(web([]))
    b.apply([])
    time.sleep(0.3)
    b.equal("answers", first, [c.ask() for c in open_ones])


@case("--once cleans up as well", "CT-1", both_families)
def once(b, family):
    b.once(web(["pod1"]))
    f = flow(b, "svc11:80", family)
    b.equal("first", place("pod1", family), at(f))
    b.program.write(base() + web(["r1"]))
    status, _, err = b.program.run(*b.program.argv(DETECT)[1:], "--once")
    b.equal("exit status " + err, 0, status)
    moves(b, f, place("r1", family))


@case("40,000 stale flows hold nothing up", "CT-10")
def many_flows(b):
    b.start(web(["pod1"]))
    for vip in ("svc11:80", "lb11:80"):
        tally, _ = b.connect_tool("client", vip, 4, "-u", "-n", 20000, "-w", 256, "-P", 5)
        b.true("flows that got through: %s" % tally, tally.get(place("pod1", 4), 0) > 19000)
    took = b.apply(web(["r1"]))
    b.true("a change in force after %.2f s" % took, took < 1.0, "less than 1 s")
    again = b.apply(web(["r1"]) + both("other", 12, ["pod1"]))
    b.true("the next one, during cleanup, after %.2f s" % again, again < 1.0, "less than 1 s")
    b.until("stale entries left", 0, lambda: len(b.conntrack(4, "udp", reply_src=addr("pod1", 4))), seconds=15)


@case("100,000 entries of others hold no cleanup up", "CT-1 CT-10")
def among_many(b):
    b.start(web(["pod1"]))
    b.in_node(os.path.join(topology.TOOLS, "entries"), "100000", "tcp", addr("svc11", 4), "80", addr("pod1", 4), "8080")
    f = flow(b, "svc11:80", 4)
    b.equal("first", place("pod1", 4), at(f))
    time.sleep(1)  # a quiet time
    b.apply(web(["r1"]))
    b.until("the flow", place("r1", 4), lambda: at(f), 1.0)
    b.equal("TCP entries", 100000, len(b.conntrack(4, "tcp", dst=addr("svc11", 4))))
